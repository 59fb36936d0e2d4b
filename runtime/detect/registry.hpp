// The registry of one host: shared memory (Boost.Interprocess) in which monitors, detectors and the operator's commands
// meet. It is there before any of them and stays when the last one is gone; its content is status_page.hpp.
//
// Registration is a compare-and-swap on a slot's owner: no lock, so nobody who died holds one. A slot is free again
// when its owner deregistered, or is dead and either the same name registers anew or no other slot is free; so what
// failed can be seen until then.
#pragma once

#include <sys/types.h>

#include <boost/interprocess/mapped_region.hpp>
#include <memory>
#include <string>
#include <vector>

#include "runtime/detect/status_page.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::detect {

struct AppRegistration {
  std::string name;
  std::string probe;  // probe.hpp; empty: local evidence only
  uint32_t timeout_ms = 1000, period_ms = 250, start_ms = 60'000;
};

class Registry {
 public:
  // "vmsrs-UID", or $VMSRS_REGISTRY.
  static std::string default_name();
  // Opens it, or makes it. Others than its owner have no access. Errc::kBadOption: not a name, or made by another
  // version; kNoProgram: `must_exist` and there is none; kHostCall.
  static vmm::Result<std::unique_ptr<Registry>> open(std::string const& name, bool must_exist = false);
  // For tests: takes the name away; who has it open keeps it.
  static void remove(std::string const& name);

  [[nodiscard]] RegistryLayout& layout() const noexcept { return *layout_; }
  [[nodiscard]] std::string const& name() const noexcept { return name_; }

  // A slot for this process, with life kStarting. A name that a living VM has gets a suffix. Null: all slots are taken
  // by living monitors.
  VmRecord* register_vm(std::string name, std::string const& program);
  // The slot is free at once.
  static void deregister_vm(VmRecord& vm);
  // Errc::kBusy: the VM has as many applications as it can, or one of that name; kBadOption: a bad name or probe.
  static vmm::Result<AppRecord*> register_app(VmRecord& vm, AppRegistration const& app);
  static bool deregister_app(VmRecord& vm, std::string const& name);
  // By name, the living before the dead; null: none.
  [[nodiscard]] VmRecord* find(std::string const& name) const;

  // Wakes who waits in wait(). Any thread of any process.
  void ring() noexcept;
  // Blocks until the doorbell is no longer `seen`, or ms are over; returns its present value.
  uint32_t wait(uint32_t seen, int ms) const noexcept;

 private:
  Registry(std::string name, boost::interprocess::mapped_region region);
  std::string name_;
  boost::interprocess::mapped_region region_;
  RegistryLayout* layout_;
};

}  // namespace vmsrs::runtime::detect
