// links: vmm
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <filesystem>
#include <map>
#include <thread>

#include "tests/support/syscall_fixture.hpp"

namespace {

class SyscallFds : public vmm_test::SyscallFixture {
 protected:
  struct Pipe {
    int in, out;
  };
  Pipe pipe() {
    uint64_t const at = room(8).value;
    EXPECT_EQ(call(SYS_pipe2, at, 0), 0);
    return {get<int>(at), get<int>(at + 4)};
  }
  // The monitor's fds: number → what it is open on.
  static std::map<int, std::string> host_fds() {
    std::map<int, std::string> fds;
    for (int fd = 0; fd < 8192; ++fd) {
      struct stat st {};
      if (fstat(fd, &st) == 0) {
        fds[fd] = std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino);
      }
    }
    return fds;
  }
  uint64_t pollfds(std::vector<pollfd> const& fds) {
    vmm::GuestAddr const at = room(fds.size() * sizeof(pollfd));
    EXPECT_TRUE(memory().write(at, fds.data(), fds.size() * sizeof(pollfd)));
    return at.value;
  }
};

TEST_F(SyscallFds, NumbersAreTheLowestFreeAndDupsShareTheFile) {
  Pipe const p = pipe();
  EXPECT_EQ(p.in, 0);
  EXPECT_EQ(p.out, 1);
  EXPECT_EQ(call(SYS_dup, p.in), 2);
  EXPECT_EQ(call(SYS_dup2, p.out, 9), 9);
  EXPECT_EQ(call(SYS_dup2, 9, 9), 9);
  EXPECT_EQ(call(SYS_dup3, 9, 9, 0), -EINVAL);
  EXPECT_EQ(call(SYS_dup2, 50, 9), -EBADF);
  EXPECT_EQ(call(SYS_fcntl, p.in, F_DUPFD, 5), 5);
  EXPECT_EQ(call(SYS_fcntl, p.in, F_DUPFD_CLOEXEC, 5), 6);
  EXPECT_EQ(call(SYS_fcntl, 6, F_GETFD, 0), FD_CLOEXEC);
  EXPECT_EQ(call(SYS_fcntl, 5, F_GETFD, 0), 0);
  EXPECT_EQ(call(SYS_close, 0), 0);
  EXPECT_EQ(call(SYS_close, 1), 0);
  EXPECT_EQ(call(SYS_write, 9, text("x"), 1), 1) << "by the number that is left";
  uint64_t const to = room(1).value;
  EXPECT_EQ(call(SYS_read, 2, to, 1), 1);
  EXPECT_EQ(call(SYS_dup, 2), 0);
}

TEST_F(SyscallFds, NoNumberReachesTheMonitorsOwn) {
  pipe();
  std::map<int, std::string> const before = host_fds();
  std::vector<int> const own = [&] {
    std::vector<int> numbers;
    for (auto const& [fd, what] : before) {
      if (!process->fds().get(fd)) numbers.push_back(fd);
    }
    return numbers;
  }();
  ASSERT_FALSE(own.empty());
  for (int const fd : own) {
    uint64_t const scratch = room(64).value;
    EXPECT_EQ(call(SYS_close, fd), -EBADF) << fd;
    EXPECT_EQ(call(SYS_dup2, fd, 20), -EBADF);
    EXPECT_EQ(call(SYS_read, fd, scratch, 1), -EBADF);
    EXPECT_EQ(call(SYS_fstat, fd, room(256).value), -EBADF);
    EXPECT_EQ(call(SYS_ioctl, fd, FIONREAD, scratch), -EBADF);
    EXPECT_EQ(call(SYS_ftruncate, fd, 0), -EBADF);
    if (fd < 1024) {
      EXPECT_EQ(call(SYS_dup2, 0, fd), fd) << "the guest's own number, not the host's";
    }
  }
  EXPECT_EQ(call(SYS_close_range, 3, UINT32_MAX, 0), 0);
  EXPECT_EQ(call(SYS_close_range, 0, UINT32_MAX, 4), 0);
  EXPECT_EQ(call(SYS_fcntl, 1, F_GETFD, 0), FD_CLOEXEC);
  EXPECT_EQ(call(SYS_close_range, 5, 4, 0), -EINVAL);
  std::map<int, std::string> const after = host_fds();
  for (int const fd : own) {
    auto const found = after.find(fd);
    ASSERT_NE(found, after.end()) << fd;
    EXPECT_EQ(found->second, before.at(fd)) << fd;
  }
}

TEST_F(SyscallFds, TheLimitIsTheGuestsOwn) {
  EXPECT_EQ(call(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, put(std::array<uint64_t, 2>{4, 4096}), 0), 0);
  pipe();
  pipe();
  EXPECT_EQ(call(SYS_dup, 0), -EMFILE);
  EXPECT_EQ(call(SYS_dup2, 0, 4), -EBADF);
  EXPECT_EQ(open("/dev/null"), -EMFILE);
  EXPECT_EQ(call(SYS_socket, 1, 1, 0), -EMFILE);
  EXPECT_EQ(call(SYS_close, 2), 0);
  EXPECT_EQ(open("/dev/null"), 2);
}

TEST_F(SyscallFds, ClosingLeavesNoHostFdBehind) {
  auto const count = [] { return host_fds().size(); };
  size_t const before = count();
  for (int i = 0; i < 50; ++i) {
    Pipe const p = pipe();
    int const e = static_cast<int>(call(SYS_eventfd2, 0, 0));
    int const t = static_cast<int>(call(SYS_timerfd_create, 1, 0));
    int const m = static_cast<int>(call(SYS_memfd_create, text("m"), 0));
    for (int const fd : {p.in, p.out, e, t, m}) EXPECT_EQ(call(SYS_close, fd), 0);
  }
  EXPECT_EQ(call(SYS_pipe2, reinterpret_cast<uint64_t>(&before), 0), -EFAULT);
  EXPECT_EQ(count(), before);
  EXPECT_TRUE(process->fds().open_numbers().empty());
}

TEST_F(SyscallFds, PollMarksBadNumbersAndSkipsNegativeOnes) {
  Pipe const p = pipe();
  uint64_t const at = pollfds({{p.in, POLLIN, 7}, {-5, POLLIN, 7}, {99, POLLIN, 0}, {p.out, POLLOUT, 0}});
  EXPECT_EQ(call(SYS_poll, at, 4, -1), 2) << "a bad number ends the wait at once";
  EXPECT_EQ(get<pollfd>(at).revents, 0);
  EXPECT_EQ(get<pollfd>(at + 8).revents, 0);
  EXPECT_EQ(get<pollfd>(at + 16).revents, POLLNVAL);
  EXPECT_EQ(get<pollfd>(at + 24).revents, POLLOUT);
  EXPECT_EQ(get<pollfd>(at + 16).fd, 99);
  EXPECT_EQ(call(SYS_poll, at, 1 << 20, 0), -EINVAL);
  EXPECT_EQ(call(SYS_poll, 0, 0, 1), 0);
  pollfd host{p.in, POLLIN, 0};
  EXPECT_EQ(call(SYS_poll, reinterpret_cast<uint64_t>(&host), 1, 0), -EFAULT);
}

TEST_F(SyscallFds, SelectReadsAndWritesItsSets) {
  Pipe const p = pipe();
  EXPECT_EQ(call(SYS_write, p.out, text("x"), 1), 1);
  uint64_t const in = put<uint64_t>(1U << p.in), out = put<uint64_t>(1U << p.out);
  EXPECT_EQ(call(SYS_select, 2, in, out, 0, 0), 2);
  EXPECT_EQ(get<uint64_t>(in), 1U << p.in);
  EXPECT_EQ(get<uint64_t>(out), 1U << p.out);
  EXPECT_EQ(call(SYS_select, 8, put<uint64_t>(1U << 7), 0, 0, 0), -EBADF);
  uint64_t const zero = put(std::array<int64_t, 2>{0, 0});
  uint64_t const none = put<uint64_t>(1U << p.out);
  EXPECT_EQ(call(SYS_pselect6, 2, none, 0, 0, zero, 0), 0);
  EXPECT_EQ(get<uint64_t>(none), 0U);
}

TEST_F(SyscallFds, AKickEndsAWaitAndTheDeadlineIsKept) {
  Pipe const p = pipe();
  uint64_t const at = pollfds({{p.in, POLLIN, 0}});
  vmm_test::TestThread& main = *process->main;
  std::thread kicker([&] {
    while (main.state() != vmm::RunState::kBlocked) usleep(100);
    main.kick();
  });
  EXPECT_EQ(call(SYS_poll, at, 1, 60'000), vmm::kRestartBlock);
  kicker.join();
  EXPECT_NE(main.restart_deadline(), 0);
  main.clear_kick();
  std::thread writer([&] {
    while (main.state() != vmm::RunState::kBlocked) usleep(100);
    main.kick();
  });
  EXPECT_EQ(call(SYS_read, p.in, room(1).value, 1), vmm::kRestartSys);
  writer.join();
  main.clear_kick();
}

TEST_F(SyscallFds, EpollKeepsTheGuestsDataAndForgetsClosedFiles) {
  Pipe const p = pipe();
  int const set = static_cast<int>(call(SYS_epoll_create1, 0));
  epoll_event event{EPOLLIN, {.u64 = 0x1122334455667788}};
  EXPECT_EQ(call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, p.in, put(event)), 0);
  EXPECT_EQ(call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, p.in, put(event)), -EEXIST);
  EXPECT_EQ(call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, 99, put(event)), -EBADF);
  EXPECT_EQ(call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, set, put(event)), -EINVAL);
  EXPECT_EQ(call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, p.out, reinterpret_cast<uint64_t>(&event)), -EFAULT);
  EXPECT_EQ(call(SYS_write, p.out, text("x"), 1), 1);
  uint64_t const events = room(12 * 4).value;
  EXPECT_EQ(call(SYS_epoll_wait, set, events, 4, 1000), 1);
  EXPECT_EQ(get<epoll_event>(events).data.u64, 0x1122334455667788U);
  EXPECT_EQ(call(SYS_epoll_wait, set, events, 0, 0), -EINVAL);
  EXPECT_EQ(call(SYS_epoll_wait, set, reinterpret_cast<uint64_t>(&event), 1, 0), -EFAULT);
  EXPECT_EQ(call(SYS_close, p.in), 0);
  EXPECT_EQ(call(SYS_epoll_wait, set, events, 4, 0), 0);
}

TEST_F(SyscallFds, OnlyListedIoctlsReachTheHost) {
  Pipe const p = pipe();
  EXPECT_EQ(call(SYS_write, p.out, text("abc"), 3), 3);
  uint64_t const n = room(4).value;
  EXPECT_EQ(call(SYS_ioctl, p.in, FIONREAD, n), 0);
  EXPECT_EQ(get<int>(n), 3);
  EXPECT_EQ(call(SYS_ioctl, p.in, FIONBIO, put<int>(1)), 0);
  EXPECT_EQ(call(SYS_fcntl, p.in, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(call(SYS_ioctl, p.in, FIOCLEX, 0), 0);
  EXPECT_EQ(call(SYS_fcntl, p.in, F_GETFD, 0), FD_CLOEXEC);
  EXPECT_EQ(call(SYS_ioctl, p.in, 0xae01 /* KVM_CREATE_VM */, 0), -ENOTTY);
  EXPECT_EQ(call(SYS_ioctl, p.in, TIOCSTI, n), -EPERM);
  int host = 0;
  EXPECT_EQ(call(SYS_ioctl, p.in, FIONREAD, reinterpret_cast<uint64_t>(&host)), -EFAULT);
}

TEST_F(SyscallFds, ASignalfdTakesPendingSignals) {
  vmm_test::TestThread& main = *process->main;
  uint64_t const mask = vmm::sigbit(SIGUSR1);
  process->signals().set_blocked(main, mask);
  int const fd = static_cast<int>(call(SYS_signalfd4, -1, put(mask), 8, SFD_NONBLOCK));
  ASSERT_GE(fd, 0);
  uint64_t const record = room(128).value;
  EXPECT_EQ(call(SYS_read, fd, record, 128), -EAGAIN);
  uint64_t const at = pollfds({{fd, POLLIN, 0}});
  EXPECT_EQ(call(SYS_poll, at, 1, 0), 0);
  process->signals().send(*process, vmm::signal_from(main, SIGUSR1, SI_USER));
  EXPECT_EQ(call(SYS_poll, at, 1, 0), 1);
  EXPECT_EQ(call(SYS_read, fd, record, 100), -EINVAL);
  EXPECT_EQ(call(SYS_read, fd, record, 128), 128);
  EXPECT_EQ(get<uint32_t>(record), static_cast<uint32_t>(SIGUSR1));
  EXPECT_EQ(call(SYS_poll, at, 1, 0), 0);
  EXPECT_EQ(call(SYS_signalfd4, -1, put(mask), 16, 0), -EINVAL);
  EXPECT_EQ(call(SYS_close, fd), 0);
}

TEST_F(SyscallFds, AWriteNobodyReadsSendsSigpipe) {
  Pipe const p = pipe();
  vmm_test::TestThread& main = *process->main;
  process->signals().set_blocked(main, vmm::sigbit(SIGPIPE));
  signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(call(SYS_close, p.in), 0);
  EXPECT_EQ(call(SYS_write, p.out, text("x"), 1), -EPIPE);
  EXPECT_NE(process->signals().pending(main) & vmm::sigbit(SIGPIPE), 0U);
}

TEST_F(SyscallFds, LimitsAndNamesAreStoredAndTold) {
  uint64_t const to = room(16).value;
  EXPECT_EQ(call(SYS_prlimit64, 0, 3 /* RLIMIT_STACK */, put(std::array<uint64_t, 2>{65536, 65536}), 0), 0);
  EXPECT_EQ(call(SYS_getrlimit, 3, to), 0);
  EXPECT_EQ(get<uint64_t>(to), 65536U);
  rlimit mine{};
  getrlimit(RLIMIT_STACK, &mine);
  EXPECT_NE(mine.rlim_cur, 65536U) << "the monitor's own is left alone";
  EXPECT_EQ(call(SYS_prctl, 15 /* PR_SET_NAME */, text("a-name-that-is-too-long")), 0);
  EXPECT_EQ(call(SYS_prctl, 16 /* PR_GET_NAME */, to), 0);
  EXPECT_EQ(bytes(to, 16), std::string("a-name-that-is-\0", 16));
  EXPECT_EQ(call(SYS_prctl, 35 /* PR_SET_MM */, 1, 2, 3, 4), -EPERM);
  EXPECT_EQ(call(SYS_getpid), 1000);
  EXPECT_EQ(call(SYS_setuid, getuid()), 0);
  EXPECT_EQ(call(SYS_setuid, getuid() + 1), -EPERM);
}

}  // namespace
