// links: vmm
// Every call of the table × every pointer argument × addresses that are not the guest's. Nothing is
// listed by hand but what a call's plain numbers must be for the call to get as far as its pointers:
// a new row is covered by itself, and fails here if its check is never reached.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "tests/support/syscall_fixture.hpp"

namespace {

using vmm::Arg;
using vmm::ArgSpec;
using vmm::SyscallRow;

constexpr unsigned char kCanary = 0xc7;
constexpr uint64_t kCanarySize = 8192;

// Calls whose handlers need a thread on a vCPU, or end it: tests/integration/isolation_guest_test.cpp
// has a real guest make them.
std::set<std::string> const kOnVcpuOnly{
    "clone", "exit", "exit_group", "set_tid_address", "set_robust_list", "get_robust_list", "rt_sigreturn"};

// The time left of a sleep that was not interrupted is not asked for.
std::set<std::string> const kWrittenOnlyIfInterrupted{"nanosleep", "clock_nanosleep"};

bool is_pointer(ArgSpec const& spec) {
  return spec.kind != Arg::kNone && spec.kind != Arg::kInt && spec.kind != Arg::kFd && spec.kind != Arg::kFdOrCwd;
}

class IsolationMatrix : public vmm_test::SyscallFixture {
 protected:
  struct BadAddress {
    char const* name;
    uint64_t address;
  };

  void SetUp() override {
    SyscallFixture::SetUp();
    if (process == nullptr) return;
    process->signals().set_blocked(*process->main, ~UINT64_C(0));
    heap_ = std::make_unique<std::array<unsigned char, kCanarySize>>();
    heap_->fill(kCanary);
    stack_like_ = static_cast<unsigned char*>(mapped(MAP_PRIVATE | MAP_STACK));
    run_page_like_ = static_cast<unsigned char*>(mapped(MAP_SHARED));
    int64_t const own =
        memory().mmap(vmm::GuestAddr(0), kCanarySize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "");
    ASSERT_GT(own, 0);
    alias_ = reinterpret_cast<unsigned char*>(memory().alias(vmm::GuestAddr(static_cast<uint64_t>(own))));
    std::memset(alias_, kCanary, kCanarySize);
    tags_ = reinterpret_cast<unsigned char*>(memory().tag_base());
    std::memset(tags_, kCanary, kCanarySize);
    watchdog_ = std::thread([this] {
      while (!done_) {
        usleep(2000);
        if (process->main->state() == vmm::RunState::kBlocked) process->main->kick();
      }
    });
  }
  void TearDown() override {
    if (process == nullptr) return;
    done_ = true;
    watchdog_.join();
    process->signals().shut_down();
    munmap(stack_like_, kCanarySize);
    munmap(run_page_like_, kCanarySize);
    SyscallFixture::TearDown();
  }
  static void* mapped(int flags) {
    void* const at = mmap(nullptr, kCanarySize, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(at, MAP_FAILED);
    std::memset(at, kCanary, kCanarySize);
    return at;
  }

  std::vector<BadAddress> bad_addresses(unsigned char* real_stack) {
    auto const at = [](void const* p) { return reinterpret_cast<uint64_t>(p) + 1024; };
    return {{"monitor heap", at(heap_.get())},
            {"monitor stack", at(real_stack)},
            {"monitor mapping", at(stack_like_)},
            {"KVM run page", at(run_page_like_)},
            {"alias", at(alias_)},
            {"tags", at(tags_)},
            {"kernel", 0xffff800000001000},
            {"non-canonical", 0x8000000000000000},
            {"wrap-around", ~UINT64_C(0) - 1},
            {"window's end", memory().tag_base() - 1},
            {"low window's end", vmm::kLowEnd - 1},
            {"below the windows", 16}};
  }
  [[nodiscard]] bool canaries_alive(unsigned char const* real_stack) const {
    auto const alive = [](unsigned char const* p) {
      for (uint64_t i = 0; i < kCanarySize; ++i) {
        if (p[i] != kCanary) return false;
      }
      return true;
    };
    return alive(heap_->data()) && alive(stack_like_) && alive(run_page_like_) && alive(alias_) && alive(tags_) &&
           alive(real_stack);
  }

  // Fresh descriptors for one call: most calls want a file, some a socket or an epoll set.
  struct Fds {
    int file, directory, socket, epoll, event, timer, listener, pipe;
  };
  Fds make_fds() {
    process->fds().close_range(0, UINT32_MAX, false);
    Fds fds{};
    fds.file = open(directory + "/file", O_CREAT | O_RDWR);
    call(SYS_write, fds.file, text_, 64);
    call(SYS_lseek, fds.file, 0, SEEK_SET);
    fds.directory = open(directory, O_RDONLY | O_DIRECTORY);
    uint64_t const pair = scratch_;
    call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair);
    fds.socket = get<int>(pair);
    call(SYS_write, get<int>(pair + 4), text_, 64);
    fds.epoll = static_cast<int>(call(SYS_epoll_create1, 0));
    fds.event = static_cast<int>(call(SYS_eventfd2, 1, 0));
    fds.timer = static_cast<int>(call(SYS_timerfd_create, CLOCK_MONOTONIC, 0));
    fds.listener = static_cast<int>(call(SYS_socket, AF_UNIX, SOCK_DGRAM, 0));
    call(SYS_pipe2, pair, 0);
    fds.pipe = get<int>(pair + 4);
    return fds;
  }

  // Plain numbers with which a call reaches its pointers. A call that is not here gets 8, 1, 0, 64
  // and 2 in turn, the same for all its numbers.
  static std::vector<std::array<uint64_t, 6>> numbers_for(std::string const& name) {
    static std::map<std::string, std::array<uint64_t, 6>> const kSpecial{
        {"ioctl", {0, FIONREAD}},
        {"fcntl", {0, F_SETLK}},
        {"prctl", {PR_SET_NAME}},
        {"epoll_ctl", {0, EPOLL_CTL_ADD}},
        {"setsockopt", {0, SOL_SOCKET, SO_REUSEADDR, 0, 4}},
        {"getsockopt", {0, SOL_SOCKET, SO_TYPE}},
        {"socketpair", {AF_UNIX, SOCK_STREAM}},
        {"statx", {0, 0, 0, 0x7ff}},
        {"arch_prctl", {0x1003}},
        {"recvmmsg", {0, 0, 1, MSG_DONTWAIT}},
        {"sendmmsg", {0, 0, 1, MSG_DONTWAIT}},
        {"recvmsg", {0, 0, MSG_DONTWAIT}},
        {"recvfrom", {0, 0, 64, MSG_DONTWAIT}},
        {"sendto", {0, 0, 64, MSG_DONTWAIT, 0, 16}},
        {"faccessat2", {0, 0, 4, 0}},
        {"mincore", {0, 4096}},
        {"getgroups", {64}},
        {"signalfd", {~UINT64_C(0), 0, 8}},
        {"signalfd4", {~UINT64_C(0), 0, 8, 0}},
    };
    std::vector<std::array<uint64_t, 6>> all;
    if (auto const found = kSpecial.find(name); found != kSpecial.end()) all.push_back(found->second);
    for (uint64_t const n : {8, 1, 0, 64, 2}) all.push_back({n, n, n, n, n, n});
    return all;
  }

  // What some calls need to find, so that they get as far as the pointer under test.
  void prepare(std::string const& name) {
    std::array<uint64_t, 16> content{16};                 // a size, where a size is behind a pointer
    if (name.starts_with("cap")) content = {0x20080522};  // _LINUX_CAPABILITY_VERSION_3
    if (name.ends_with("sigtimedwait")) {
      content = {vmm::sigbit(SIGUSR1)};
      process->signals().send(*process, vmm::signal_from(*process->main, SIGUSR1, SI_USER));
    }
    ASSERT_TRUE(memory().write(vmm::GuestAddr(scratch_), content));
  }
  // A good value for a pointer that is not the one under test.
  uint64_t good_pointer(SyscallRow const& row, ArgSpec const& spec) {
    if (spec.kind == Arg::kPath) return std::string(row.name).starts_with("readlink") ? link_ : path_;
    if (spec.kind == Arg::kAddr) return arena.value;
    if (spec.kind == Arg::kIovecIn || spec.kind == Arg::kIovecOut) return iovec_;
    if (spec.kind == Arg::kMsghdr) return message_;
    return spec.nullable ? 0 : scratch_;
  }

  vmm::Hooks no_hooks_;
  uint64_t text_ = 0, path_ = 0, link_ = 0, iovec_ = 0, message_ = 0, scratch_ = 0;
  std::unique_ptr<std::array<unsigned char, kCanarySize>> heap_;
  unsigned char *stack_like_ = nullptr, *run_page_like_ = nullptr, *alias_ = nullptr, *tags_ = nullptr;
  std::atomic<bool> done_{false};
  std::thread watchdog_;
};

TEST_F(IsolationMatrix, NoPointerArgumentReachesBeyondTheGuest) {
  unsigned char stack[kCanarySize];
  std::memset(stack, kCanary, sizeof stack);
  text_ = text(std::string(64, 't'));
  path_ = text(directory + "/file");
  link_ = text(directory + "/link");
  ASSERT_EQ(call(SYS_symlink, text("file"), link_), 0);
  scratch_ = room(4096).value;
  iovec_ = put(std::array<uint64_t, 2>{room(64).value, 64});
  std::array<uint64_t, 8> header{};  // struct msghdr
  header[2] = iovec_;
  header[3] = 1;
  message_ = put(header);
  // A string that begins in the window's last byte goes on beyond it.
  ASSERT_TRUE(memory().write(vmm::GuestAddr(memory().tag_base() - 1), 'x'));
  ASSERT_EQ(call(SYS_timer_create, CLOCK_MONOTONIC, 0, scratch_), 0);
  std::vector<BadAddress> const bad = bad_addresses(stack);
  int cells = 0, refused = 0;
  std::set<std::string> unreached;

  for (SyscallRow const* row : vmm::SyscallTable::instance().rows()) {
    if (kOnVcpuOnly.contains(row->name)) continue;
    for (size_t argument = 0; argument < 6; ++argument) {
      ArgSpec const& spec = row->args[argument];
      if (!is_pointer(spec)) continue;
      bool reached = false;
      for (auto const& numbers : numbers_for(row->name)) {
        Fds const fds = make_fds();
        for (int const fd : {fds.file, fds.socket, fds.directory, fds.epoll, fds.timer, fds.listener, fds.pipe}) {
          if (reached && fd != fds.file) continue;
          for (BadAddress const& address : bad) {
            if (spec.size == 1 && std::string(address.name).ends_with("end")) continue;  // one byte fits
            vmm::SyscallArgs args{row->nr, {}};
            prepare(row->name);
            int other_fd = fds.event;
            for (size_t i = 0; i < 6; ++i) {
              ArgSpec const& s = row->args[i];
              if (s.kind == Arg::kInt) args.a[i] = numbers[i];
              if (s.kind == Arg::kFd || s.kind == Arg::kFdOrCwd) {
                args.a[i] = static_cast<uint64_t>(i == 0 ? fd : other_fd);
              }
              if (is_pointer(s)) args.a[i] = good_pointer(*row, s);
            }
            // The size of the buffer under test; not 0, which is no access.
            if (spec.size < 0) {
              uint64_t& size = args.a[static_cast<size_t>(-spec.size - 1)];
              if (size == 0) size = 64;
            }
            // A size behind the next pointer says how much of this one is used.
            if (argument + 1 < 6 && is_pointer(row->args[argument + 1]) &&
                row->args[argument + 1].kind == Arg::kInOut && args.a[argument + 1] == 0) {
              args.a[argument + 1] = scratch_;
              ASSERT_TRUE(memory().write(vmm::GuestAddr(scratch_), uint64_t{16}));
            }
            if (argument > 0 && row->args[argument - 1].kind == Arg::kOut && spec.kind == Arg::kInOut &&
                args.a[argument - 1] == 0) {
              args.a[argument - 1] = scratch_;
            }
            args.a[argument] = address.address;
            process->main->clear_kick();
            process->main->restart_deadline() = 0;
            int64_t const result = row->handler(*process->main, args);
            ++cells;
            reached = reached || result == -EFAULT;
            if (spec.kind != Arg::kAddr && result < 0) ++refused;
            ASSERT_TRUE(canaries_alive(stack))
                << row->name << " argument " << argument << " at " << address.name << " wrote there";
            EXPECT_TRUE(result < 0 || spec.kind == Arg::kAddr || kWrittenOnlyIfInterrupted.contains(row->name))
                << row->name << " argument " << argument << " at " << address.name << " gave " << result;
          }
        }
        if (reached) break;
      }
      if (!reached && spec.kind != Arg::kAddr && row->support != vmm::Support::kDenied &&
          !(kWrittenOnlyIfInterrupted.contains(row->name) && spec.kind == Arg::kOut)) {
        unreached.insert(std::string(row->name) + "/" + std::to_string(argument));
      }
    }
  }
  EXPECT_TRUE(unreached.empty()) << "no EFAULT seen for these: " << testing::PrintToString(unreached);
  RecordProperty("cells", cells);
  RecordProperty("refused", refused);
  EXPECT_GT(cells, 1000);
}

// The pointers inside iovec and msghdr.
TEST_F(IsolationMatrix, NoInnerPointerReachesBeyondTheGuest) {
  unsigned char stack[kCanarySize];
  std::memset(stack, kCanary, sizeof stack);
  text_ = text(std::string(64, 't'));
  scratch_ = room(4096).value;
  uint64_t const good_vector = put(std::array<uint64_t, 2>{room(64).value, 64});
  uint64_t const wild_vector = room(16).value, message = room(64).value;
  int cells = 0;
  for (SyscallRow const* row : vmm::SyscallTable::instance().rows()) {
    for (size_t argument = 0; argument < 6; ++argument) {
      Arg const kind = row->args[argument].kind;
      bool const vector = kind == Arg::kIovecIn || kind == Arg::kIovecOut;
      if (!vector && kind != Arg::kMsghdr) continue;
      // struct msghdr: 0 name, 2 iov, 3 iov count, 4 control, 5 its size. 9: the vector's own pointer.
      for (int const word : {0, 2, 4, 9}) {
        if (vector && word != 9) continue;
        for (BadAddress const& address : bad_addresses(stack)) {
          Fds const fds = make_fds();
          ASSERT_TRUE(memory().write(vmm::GuestAddr(wild_vector), std::array<uint64_t, 2>{address.address, 64}));
          std::array<uint64_t, 8> header{0, 16, word == 9 ? wild_vector : good_vector, 1, 0, 64};
          if (word != 9) header[static_cast<size_t>(word)] = address.address;
          ASSERT_TRUE(memory().write(vmm::GuestAddr(message), header));
          vmm::SyscallArgs args{row->nr, {}};
          bool const to_pipe = std::string(row->name) == "vmsplice";
          args.a[0] = static_cast<uint64_t>(!vector ? fds.socket : to_pipe ? fds.pipe : fds.file);
          args.a[argument] = vector ? wild_vector : message;
          args.a[argument + 1] = 1;  // how many
          if (!vector && std::string(row->name).find("mmsg") == std::string::npos) args.a[2] = MSG_DONTWAIT;
          process->main->clear_kick();
          EXPECT_EQ(row->handler(*process->main, args), -EFAULT)
              << row->name << " word " << word << " at " << address.name;
          ASSERT_TRUE(canaries_alive(stack)) << row->name << " word " << word << " at " << address.name;
          ++cells;
        }
      }
    }
  }
  EXPECT_GE(cells, 200);
}

// Recovery must know of each byte of guest memory that a call writes, before it does.
TEST_F(IsolationMatrix, EveryWriteToTheGuestIsAnnounced) {
  class Announced : public vmm::Hooks {
   public:
    bool wants_syscalls() const override { return true; }
    void on_syscall_write(vmm::Thread&, vmm::GuestRange range) override { ranges.push_back(range); }
    std::vector<vmm::GuestRange> ranges;
  } announced;
  text_ = text(std::string(64, 't'));
  path_ = text(directory + "/file");
  link_ = text(directory + "/link");
  ASSERT_EQ(call(SYS_symlink, text("file"), link_), 0);
  constexpr uint64_t kSlot = 1024, kWatched = 8 * kSlot;
  vmm::GuestAddr const watched = room(kWatched);
  scratch_ = room(4096).value;
  ASSERT_EQ(call(SYS_timer_create, CLOCK_MONOTONIC, 0, scratch_), 0);
  process->set_hooks(announced);
  // Their effect on memory is their purpose, and not a write into a buffer.
  std::set<std::string> const mapping{"mmap", "munmap", "mremap", "madvise", "brk", "mprotect"};
  std::set<std::string> wrote;
  for (SyscallRow const* row : vmm::SyscallTable::instance().rows()) {
    if (kOnVcpuOnly.contains(row->name) || mapping.contains(row->name)) continue;
    if (std::none_of(row->args.begin(), row->args.end(), is_pointer)) continue;
    for (auto const& numbers : numbers_for(row->name)) {
      Fds const fds = make_fds();
      for (int const fd : {fds.file, fds.socket, fds.directory, fds.epoll, fds.timer}) {
        prepare(row->name);
        std::vector<unsigned char> before(kWatched);
        ASSERT_TRUE(memory().read(vmm::GuestAddr(scratch_), before.data(), 128));
        for (uint64_t slot = 1; slot < 8; ++slot) std::memcpy(&before[slot * kSlot], before.data(), 128);
        // Slot 6 holds what a vector or a message points to, slot 7 the two themselves.
        std::array<uint64_t, 2> const vector{watched.value + 6 * kSlot, 64};
        std::array<uint64_t, 8> header{watched.value + 6 * kSlot + 256, 128, watched.value + 7 * kSlot, 1,
                                       watched.value + 6 * kSlot + 512, 64};
        if (std::string(row->name).starts_with("send")) header[0] = header[4] = header[5] = 0;
        std::memcpy(&before[7 * kSlot], vector.data(), sizeof vector);
        std::memcpy(&before[7 * kSlot + 64], header.data(), sizeof header);
        ASSERT_TRUE(memory().write(watched, before.data(), before.size()));
        vmm::SyscallArgs args{row->nr, {}};
        for (size_t i = 0; i < 6; ++i) {
          ArgSpec const& s = row->args[i];
          if (s.kind == Arg::kInt) args.a[i] = numbers[i];
          if (s.kind == Arg::kFd || s.kind == Arg::kFdOrCwd) args.a[i] = static_cast<uint64_t>(i == 0 ? fd : fds.event);
          if (!is_pointer(s)) continue;
          args.a[i] = watched.value + i * kSlot;
          if (s.kind == Arg::kPath) args.a[i] = good_pointer(*row, s);
          if (s.kind == Arg::kIovecIn || s.kind == Arg::kIovecOut) args.a[i] = watched.value + 7 * kSlot;
          if (s.kind == Arg::kMsghdr) args.a[i] = watched.value + 7 * kSlot + 64;
        }
        process->main->clear_kick();
        process->main->restart_deadline() = 0;
        announced.ranges.clear();
        row->handler(*process->main, args);
        std::vector<unsigned char> after(kWatched);
        ASSERT_TRUE(memory().read(watched, after.data(), after.size()));
        for (uint64_t i = 0; i < kWatched; ++i) {
          if (before[i] == after[i]) continue;
          wrote.insert(row->name);
          vmm::GuestAddr const at = watched + i;
          EXPECT_TRUE(std::any_of(announced.ranges.begin(), announced.ranges.end(),
                                  [&](vmm::GuestRange const& r) { return r.start <= at && at < r.end(); }))
              << row->name << " wrote argument " << i / kSlot << ", byte " << i % kSlot << ", unannounced";
          break;
        }
      }
    }
  }
  process->set_hooks(no_hooks_);
  EXPECT_GE(wrote.size(), 50U) << testing::PrintToString(wrote);
}

// A thread that changes a vector or a header while the monitor works on it: what was checked is what
// is used.
TEST_F(IsolationMatrix, FlippingPointersChangesNothingOutsideAndLeaksNothing) {
  unsigned char stack[kCanarySize];
  std::memset(stack, kCanary, sizeof stack);
  uint64_t const good = room(1024).value;
  text_ = text(std::string(64, 't'));
  scratch_ = room(4096).value;
  auto const monitor = reinterpret_cast<uint64_t>(heap_->data());
  uint64_t const vector = put(std::array<uint64_t, 2>{good, 512});
  std::array<uint64_t, 8> header{};
  header[2] = vector;
  header[3] = 1;
  header[4] = good;  // control
  header[5] = 64;
  uint64_t const message = put(header);
  struct Flip {
    uint64_t at;
    uint64_t other;
  };
  // Each word in turn between its good value and one of the monitor's.
  std::vector<Flip> const flips{
      {vector, monitor},       {vector, monitor + 4096},         {vector + 8, UINT64_C(1) << 62},
      {message, monitor},      {message + 16, monitor},          {message + 24, 1 << 20},
      {message + 32, monitor}, {message + 40, UINT64_C(1) << 40}};
  for (Flip const& flip : flips) {
    Fds const fds = make_fds();
    int const peer = fds.socket + 1;
    uint64_t const kept = get<uint64_t>(flip.at);
    std::jthread flipper([&](std::stop_token const& stop) {
      auto* const word = reinterpret_cast<std::atomic<uint64_t>*>(flip.at);  // guest address == host address
      while (!stop.stop_requested()) {
        word->store(flip.other, std::memory_order_relaxed);
        word->store(kept, std::memory_order_relaxed);
      }
    });
    int done = 0, faults = 0;
    std::vector<unsigned char> sent(1 << 16);
    // On a busy machine the flipper may stand still for that long, at the bad value.
    for (int i = 0; i < 3000 || (done == 0 && i < 3'000'000); ++i) {
      process->main->clear_kick();
      for (int64_t const r : {call(SYS_pwritev, fds.file, vector, 1, 0, 0), call(SYS_preadv, fds.file, vector, 1, 0, 0),
                              call(SYS_sendmsg, fds.socket, message, MSG_DONTWAIT),
                              call(SYS_recvmsg, fds.socket, message, MSG_DONTWAIT)}) {
        ++(r < 0 ? faults : done);
      }
      // What left the guest: no byte of the monitor's.
      vmm::FileRef const out = process->fds().get(peer);
      for (ssize_t n = 0; (n = recv(out->host_fd(), sent.data(), sent.size(), MSG_DONTWAIT)) > 0;) {
        ASSERT_EQ(std::memchr(sent.data(), kCanary, static_cast<size_t>(n)), nullptr);
      }
    }
    flipper.request_stop();
    flipper.join();
    ASSERT_TRUE(memory().write(vmm::GuestAddr(flip.at), kept));
    ASSERT_TRUE(canaries_alive(stack));
    EXPECT_EQ(read_file(directory + "/file").find(static_cast<char>(kCanary)), std::string::npos);
    EXPECT_GT(done, 0);
  }
}

}  // namespace
