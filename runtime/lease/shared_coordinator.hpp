// The coordinator of one host: a page of shared memory with nothing but atomic words, so that a part that is killed in
// the middle of a call leaves nothing locked.
//
// The lease is one word: term (24 bits) and the CLOCK_MONOTONIC millisecond at which it ends (40 bits). Every change is
// one compare-and-swap.
#pragma once

#include <boost/interprocess/mapped_region.hpp>

#include "runtime/lease/coordinator.hpp"

namespace vmsrs::runtime {

class SharedCoordinator : public Coordinator {
 public:
  // A new page with this name; it is removed with the object that made it.
  static vmm::Result<std::unique_ptr<SharedCoordinator>> create(std::string const& name);
  static vmm::Result<std::unique_ptr<Coordinator>> open(std::string const& name);
  ~SharedCoordinator() override;

  vmm::Result<std::optional<Term>> acquire(std::chrono::milliseconds time) override;
  vmm::Result<bool> renew(Term term, std::chrono::milliseconds time) override;
  vmm::Result<void> revoke(Term term, bool replay) override;
  vmm::Result<Lease> look() override;
  vmm::Result<void> announce(PartRole role, std::string const& address) override;
  vmm::Result<void> withdraw() override;
  vmm::Result<std::vector<std::string>> find(PartRole role) override;

  struct Page;
  struct Slot;

 private:
  SharedCoordinator() = default;
  [[nodiscard]] Page& page() const;
  std::string remove_;  // the name to remove at the end
  boost::interprocess::mapped_region region_;
  Slot* own_ = nullptr;
};

}  // namespace vmsrs::runtime
