// How far wrong values spread (paper 004, figures 1 and 2): every request is carried out one instruction at a time. In
// one request of each user a fault is taken to happen at a random instruction: all that the request has written outside
// its stacks until then counts as corrupted ("max"), and is followed through registers and memory, also by other
// users, until the request's end ("last") and the end of the run. What was overwritten with something else is clean
// again. Nothing is really changed. Beside it: how much of the memory that users touch is touched by several.
//
// A request runs from a read of a socket that brings data to the thread's next such read. Control flow is not followed:
// a wrong branch spreads nothing here. Blocks given back to an allocator stay corrupted until they are overwritten.
//
// Log: {"type": "marked", "thread": …, "steps": …, "max": …, "last": …} at the end of each marked request, and
// {"type": "memory", "users": …, "touched": …, "shared": …, "max": …, "last": …, "at_end": …} at the end of the run;
// words of 8 bytes.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "runtime/inject/data_flow.hpp"
#include "vmm/address_space.hpp"
#include "vmm/hooks.hpp"
#include "vmm/process.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::inject {

class Propagation final : public vmm::Hooks {
 public:
  // inner: recovery's hooks, or null. seed: of the instructions at which faults are taken to happen.
  static vmm::Result<std::unique_ptr<Propagation>> create(std::string const& file, uint64_t seed,
                                                          vmm::AddressSpace& memory, vmm::Hooks* inner);

  void on_process_start(vmm::Process& process) override { inner_.on_process_start(process); }
  void on_process_end(vmm::Process& process) override;
  void on_thread_start(vmm::Thread& thread) override { inner_.on_thread_start(thread); }
  void on_thread_end(vmm::Thread& thread) override;
  vmm::FaultVerdict on_fault(vmm::Thread& thread, vmm::Fault const& fault) override;
  bool on_missing_pages(vmm::Thread* thread, vmm::GuestRange range) override {
    return inner_.on_missing_pages(thread, range);
  }
  int64_t on_hypercall(vmm::Thread& thread, vmm::SyscallArgs const& args) override {
    return inner_.on_hypercall(thread, args);
  }
  std::optional<int64_t> on_syscall_enter(vmm::Thread& thread, vmm::SyscallArgs const& args) override;
  void on_syscall_write(vmm::Thread& thread, vmm::GuestRange range) override;
  void on_syscall_exit(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result) override;
  [[nodiscard]] bool wants_syscalls() const override { return true; }
  [[nodiscard]] bool single_steps() const override { return true; }

 private:
  Propagation(vmm::ScopedFd file, uint64_t seed, vmm::AddressSpace& memory, vmm::Hooks* inner)
      : file_(std::move(file)), seed_(seed), memory_(memory), inner_(inner != nullptr ? *inner : none_) {}

  struct OfThread {
    bool tracing = false;
    int user = -1;
    uint64_t requests = 0, steps = 0, last_length = 0, mark_at = 0;
    uint64_t mark = 0;  // the bit of its mark, once it is set
    uint64_t max = 0;
    std::unordered_set<uint64_t> written;                // words of this request
    std::array<uint64_t, kFlowRegisters> wrong{};        // by register: the marks that it carries
    std::unordered_map<uint64_t, uint64_t> stack_wrong;  // as wrong_, of its stacks
    vmm::Vma stack;                                      // where rsp last was
  };

  void begin(vmm::Thread& thread);
  void end(vmm::Thread& thread, OfThread& state);
  void look(vmm::Thread& thread, OfThread& state);
  void set_mark(OfThread& state);
  void touch(OfThread const& state, uint64_t word);
  void store(OfThread const& state, std::unordered_map<uint64_t, uint64_t>& wrong, uint64_t from, uint64_t size,
             uint64_t marks);
  [[nodiscard]] bool is_data(uint64_t address);
  [[nodiscard]] bool on_stack(vmm::Thread& thread, OfThread& state, uint64_t address);
  [[nodiscard]] uint64_t corrupted(uint64_t mark) const;
  void write(std::string const& line);

  vmm::ScopedFd file_;
  uint64_t const seed_;
  vmm::AddressSpace& memory_;
  vmm::Hooks none_;
  vmm::Hooks& inner_;
  std::mutex mutex_;  // of all below
  std::map<int, OfThread> threads_;
  std::unordered_map<uint64_t, uint64_t> wrong_;   // by word: marks
  std::unordered_map<uint64_t, int> touched_;      // by word: the user, kSeveral
  std::unordered_map<uint64_t, DataFlow> flows_;   // by instruction
  std::unordered_map<uint64_t, bool> data_pages_;  // writable memory of the guest's own
  int users_ = 0;
  unsigned marks_ = 0;
  uint64_t max_ = 0, last_ = 0;
};

}  // namespace vmsrs::runtime::inject
