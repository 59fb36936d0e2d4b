#include "runtime/inject/propagation.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "runtime/inject/plan.hpp"
#include "vmm/decode.hpp"
#include "vmm/fd_table.hpp"

namespace vmsrs::runtime::inject {
namespace {

constexpr uint64_t kTrapFlag = 1 << 8;
constexpr int kSeveral = -1;
constexpr unsigned kMostMarks = 64;

bool reads(uint64_t nr) {
  return nr == SYS_read || nr == SYS_recvfrom || nr == SYS_recvmsg || nr == SYS_readv;
}

bool maps(uint64_t nr) {
  return nr == SYS_mmap || nr == SYS_munmap || nr == SYS_mprotect || nr == SYS_brk || nr == SYS_mremap;
}

bool of_socket(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  auto const file = thread.fds().get(static_cast<int>(args.a[0]));
  return file && file->kind() == vmm::OpenFile::Kind::kSocket;
}

}  // namespace

vmm::Result<std::unique_ptr<Propagation>> Propagation::create(std::string const& file, uint64_t seed,
                                                              vmm::AddressSpace& memory, vmm::Hooks* inner) {
  vmm::ScopedFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (fd.get() < 0)
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--propagation {}: {}", file, std::strerror(errno)), errno);
  return std::unique_ptr<Propagation>(new Propagation(std::move(fd), seed, memory, inner));
}

void Propagation::write(std::string const& line) {
  if (::write(file_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    fmt::print(stderr, "vmsrs: --propagation: cannot be written: {}\n", std::strerror(errno));
}

bool Propagation::is_data(uint64_t address) {
  auto const [found, fresh] = data_pages_.try_emplace(vmm::page_down(address), false);
  vmm::Vma vma;
  if (fresh && memory_.find_vma(vmm::GuestAddr(address), vma)) {
    bool const monitors = vma.name.starts_with("[") && vma.name != "[heap]" && vma.name != "[stack]";
    found->second = (vma.prot & PROT_WRITE) != 0 && !monitors;
  }
  return found->second;
}

bool Propagation::on_stack(vmm::Thread& thread, OfThread& state, uint64_t address) {
  uint64_t const rsp = thread.regs().rsp;
  if (rsp < state.stack.start.value || rsp >= state.stack.end.value) {
    state.stack = {};
    (void)memory_.find_vma(vmm::GuestAddr(rsp), state.stack);
  }
  return address >= state.stack.start.value && address < state.stack.end.value;
}

void Propagation::touch(OfThread const& state, uint64_t word) {
  auto const [found, fresh] = touched_.try_emplace(word, state.user);
  if (!fresh && found->second != state.user) found->second = kSeveral;
}

// What is written in part keeps the marks that it has.
void Propagation::store(OfThread const& state, std::unordered_map<uint64_t, uint64_t>& wrong, uint64_t from,
                        uint64_t size, uint64_t marks) {
  for (uint64_t word = from & ~UINT64_C(7); word < from + size; word += 8) {
    bool const whole = word >= from && word + 8 <= from + size;
    auto const found = wrong.find(word);
    uint64_t const now = marks | (whole || found == wrong.end() ? 0 : found->second);
    if (now != 0) {
      wrong[word] = now;
    } else if (found != wrong.end()) {
      wrong.erase(found);
    }
    touch(state, word);
  }
}

uint64_t Propagation::corrupted(uint64_t mark) const {
  uint64_t n = 0;
  for (auto const& [word, marks] : wrong_) n += (marks & mark) != 0 ? 1 : 0;
  return n;
}

void Propagation::set_mark(OfThread& state) {
  state.mark = UINT64_C(1) << marks_++;
  for (uint64_t const word : state.written) wrong_[word] |= state.mark;
  state.max = corrupted(state.mark);
}

// The instruction that the thread is about to carry out. With the mutex held.
void Propagation::look(vmm::Thread& thread, OfThread& state) {
  state.steps += 1;
  if (state.mark == 0 && state.mark_at != 0 && state.steps >= state.mark_at && marks_ < kMostMarks) set_mark(state);
  vmm::Registers const& regs = thread.regs();
  uint8_t bytes[vmm::kMaxInstruction] = {};
  auto const [found, fresh] = flows_.try_emplace(regs.rip);
  bool const readable = memory_.read(vmm::GuestAddr(regs.rip), bytes, sizeof bytes);
  if (fresh && readable) found->second = data_flow(bytes);
  DataFlow const& flow = found->second;
  if (!flow.known || !readable) return;
  auto const instruction = vmm::decode(bytes, regs);
  uint64_t marks = 0;
  for (unsigned r = 0; !flow.clears && r < kFlowRegisters; ++r) {
    constexpr unsigned kRsp = 4;  // it names the frame, and is no datum
    if ((flow.read >> r & 1) != 0 && r != kRsp) marks |= state.wrong.at(r);
  }
  for (unsigned i = 0; i < instruction.count; ++i) {
    vmm::MemoryAccess const& access = instruction.accesses.at(i);
    if (!access.read || !is_data(access.address.value)) continue;
    uint64_t const from = access.address.value & ~UINT64_C(7);
    auto const& wrong = on_stack(thread, state, from) ? state.stack_wrong : wrong_;
    for (uint64_t word = from; word < access.address.value + access.size; word += 8) {
      touch(state, word);
      if (auto const it = wrong.find(word); it != wrong.end()) marks |= it->second;
    }
  }
  for (unsigned r = 0; r < kFlowRegisters; ++r) {
    if ((flow.replaced >> r & 1) != 0) state.wrong.at(r) = marks;
    if ((flow.merged >> r & 1) != 0) state.wrong.at(r) |= marks;
  }
  for (unsigned i = 0; i < instruction.count; ++i) {
    vmm::MemoryAccess const& access = instruction.accesses.at(i);
    if (!access.write || !is_data(access.address.value)) continue;
    // On a stack it is followed but not counted: it goes with its frame.
    bool const stack = on_stack(thread, state, access.address.value);
    store(state, stack ? state.stack_wrong : wrong_, access.address.value, access.size, marks);
    if (stack) continue;
    uint64_t const first = access.address.value & ~UINT64_C(7);
    for (uint64_t word = first; word < access.address.value + access.size; word += 8) state.written.insert(word);
  }
}

void Propagation::begin(vmm::Thread& thread) {
  std::lock_guard const lock(mutex_);
  OfThread& state = threads_[thread.tid()];
  if (state.user < 0) state.user = users_++;
  state.tracing = true;
  state.requests += 1;
  state.steps = 0;
  state.written.clear();
  state.wrong.fill(0);
  state.stack_wrong.clear();
  // Each user's second request and those after it, until one was long enough to be marked.
  state.mark_at = state.last_length == 0 || state.mark != 0
                      ? 0
                      : 1 + mix(seed_ + static_cast<uint64_t>(thread.tid())) % state.last_length;
  thread.regs().rflags |= kTrapFlag;
}

void Propagation::end(vmm::Thread& thread, OfThread& state) {
  if (!state.tracing) return;
  state.tracing = false;
  state.last_length = state.steps;
  thread.regs().rflags &= ~kTrapFlag;
  if (state.mark == 0 || state.mark_at == 0) return;
  uint64_t const last = corrupted(state.mark);
  max_ += state.max;
  last_ += last;
  write(fmt::format("{{\"type\":\"marked\",\"thread\":{},\"user\":{},\"steps\":{},\"at\":{},\"max\":{},\"last\":{}}}\n",
                    thread.tid(), state.user, state.steps, state.mark_at, state.max, last));
  state.mark_at = 0;
}

vmm::FaultVerdict Propagation::on_fault(vmm::Thread& thread, vmm::Fault const& fault) {
  {
    std::lock_guard const lock(mutex_);
    OfThread& state = threads_[thread.tid()];
    if (fault.kind == vmm::FaultKind::kBreakpoint && fault.code == TRAP_TRACE && state.tracing) {
      look(thread, state);
      return vmm::FaultVerdict::kResume;
    }
    if (fault.kind != vmm::FaultKind::kForced) end(thread, state);
  }
  return inner_.on_fault(thread, fault);
}

std::optional<int64_t> Propagation::on_syscall_enter(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  if (reads(args.nr) && of_socket(thread, args)) {
    std::lock_guard const lock(mutex_);
    end(thread, threads_[thread.tid()]);
  }
  return inner_.wants_syscalls() ? inner_.on_syscall_enter(thread, args) : std::nullopt;
}

void Propagation::on_syscall_write(vmm::Thread& thread, vmm::GuestRange range) {
  {
    std::lock_guard const lock(mutex_);
    OfThread& state = threads_[thread.tid()];
    if (state.tracing && !on_stack(thread, state, range.start.value))
      store(state, wrong_, range.start.value, range.size, 0);
  }
  if (inner_.wants_syscalls()) inner_.on_syscall_write(thread, range);
}

void Propagation::on_syscall_exit(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result) {
  if (inner_.wants_syscalls()) inner_.on_syscall_exit(thread, args, result);
  if (maps(args.nr)) {
    std::lock_guard const lock(mutex_);
    data_pages_.clear();
  }
  if (result > 0 && reads(args.nr) && of_socket(thread, args)) begin(thread);
}

void Propagation::on_thread_end(vmm::Thread& thread) {
  {
    std::lock_guard const lock(mutex_);
    if (auto const found = threads_.find(thread.tid()); found != threads_.end()) {
      end(thread, found->second);
      threads_.erase(found);
    }
  }
  inner_.on_thread_end(thread);
}

void Propagation::on_process_end(vmm::Process& process) {
  {
    std::lock_guard const lock(mutex_);
    uint64_t shared = 0;
    for (auto const& [word, user] : touched_) shared += user == kSeveral ? 1 : 0;
    write(fmt::format(
        "{{\"type\":\"memory\",\"users\":{},\"touched\":{},\"shared\":{},\"marks\":{},\"max\":{},\"last\":{},"
        "\"at_end\":{}}}\n",
        users_, touched_.size(), shared, marks_, max_, last_, wrong_.size()));
  }
  inner_.on_process_end(process);
}

}  // namespace vmsrs::runtime::inject
