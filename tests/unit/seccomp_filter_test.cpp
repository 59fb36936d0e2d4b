// links: vmm
// What a thread of the monitor that runs guest code may still ask of the host kernel.
#include "vmm/seccomp_filter.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <string>
#include <thread>

namespace {

// A figure of this thread's status file; -1: the kernel has no such line.
long status(std::string const& name) {
  std::ifstream file("/proc/thread-self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name + ":")) return std::stol(line.substr(name.size() + 1));
  return -1;
}

// The error of a call that must not succeed.
template <class... Args>
int error_of(long nr, Args... args) {
  errno = 0;
  return syscall(nr, args...) == -1 ? errno : 0;
}

// Runs `f` in a thread with the filter: it stays for the life of a thread.
template <class F>
void in_filtered_thread(F f) {
  std::thread([&] {
    ASSERT_TRUE(vmm::install_seccomp_filter());
    f();
  }).join();
}

// Nanoseconds of one getppid(), the best of several rounds.
double call_cost() {
  double best = 1e9;
  for (int round = 0; round < 20; ++round) {
    constexpr int kCalls = 20'000;
    auto const begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) syscall(SYS_getppid);
    std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count() / kCalls);
  }
  return best;
}

}  // namespace

TEST(SeccompFilter, RefusesWhatNoHandlerNeeds) {
  char* const argv[] = {nullptr};
  in_filtered_thread([&] {
    EXPECT_EQ(error_of(SYS_execve, "/bin/true", argv, argv), EPERM);
    EXPECT_EQ(error_of(SYS_execveat, AT_FDCWD, "/bin/true", argv, argv, 0), EPERM);
    EXPECT_EQ(error_of(SYS_clone, SIGCHLD, 0, 0, 0, 0), EPERM) << "a process";
    EXPECT_EQ(error_of(SYS_clone3, 0, 0), ENOSYS);
    EXPECT_EQ(error_of(SYS_unshare, 0), EPERM) << "which is nothing to a thread without the filter";
    EXPECT_EQ(error_of(SYS_ptrace, -1, 0, 0, 0), EPERM);
    EXPECT_EQ(error_of(SYS_process_vm_readv, getpid(), 0, 0, 0, 0, 0), EPERM);
    EXPECT_EQ(error_of(SYS_io_uring_setup, 0, 0), EPERM);
    EXPECT_EQ(error_of(SYS_keyctl, -1, 0, 0, 0, 0), EPERM);
    EXPECT_EQ(error_of(0x40000000 | SYS_getpid), EPERM) << "a number of the x32 calls";
  });
  EXPECT_EQ(error_of(SYS_unshare, 0), 0) << "the thread that made it is as before";
}

TEST(SeccompFilter, LeavesTheRestAndThreads) {
  in_filtered_thread([] {
    EXPECT_EQ(status("Seccomp"), 2);
    EXPECT_GT(getpid(), 0);
    int const fd = open("/dev/null", O_RDWR);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(write(fd, "x", 1), 1);
    close(fd);
    long const filters = status("Seccomp_filters");
    vmm::start_filtered([filters] {
      EXPECT_EQ(status("Seccomp"), 2) << "handed down";
      EXPECT_EQ(status("Seccomp_filters"), filters) << "each more costs time in every call";
      EXPECT_EQ(error_of(SYS_unshare, 0), EPERM);
    }).join();
  });
}

TEST(SeccompFilter, Cost) {
  double const without = call_cost();
  double with = 0;
  in_filtered_thread([&] { with = call_cost(); });
  RecordProperty("ns_per_call", std::to_string(without) + " to " + std::to_string(with));
  EXPECT_LT(with, without + 2000) << "ns a call";  // some tens, on a machine of its own
}
