// links: vmm
// A real guest, on a vCPU, that goes for the monitor: its memory by every call that takes an address,
// its descriptors by every way to name one. The guest is this program itself, started by the test
// under the monitor with --guest.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>

#include "vmm/monitor.hpp"

namespace {

// ---- the guest ----

#define REQUIRE(condition)                                                                  \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      std::fprintf(stderr, "guest: line %d: %s (errno %d)\n", __LINE__, #condition, errno); \
      return 1;                                                                             \
    }                                                                                       \
  } while (false)

std::atomic<int> threads_done{0};

void* leave_pointers_behind(void* target) {
  syscall(SYS_set_robust_list, target, 24);
  syscall(SYS_set_tid_address, target);
  threads_done.fetch_add(1);
  return nullptr;
}

int attack_memory(char* target) {
  // What the kernel of an ordinary process would write through at a thread's end.
  for (int i = 0; i < 4; ++i) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t thread{};
    REQUIRE(pthread_create(&thread, &attr, leave_pointers_behind, target) == 0);
  }
  while (threads_done < 4) usleep(1000);
  usleep(50'000);  // their ends
  REQUIRE(syscall(SYS_get_robust_list, 0, target, target) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_futex, target, FUTEX_WAIT, 0, nullptr, nullptr, 0) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_futex, target, FUTEX_WAKE_OP, 1, 1, target, 0) == -1);

  // Mapping calls on the monitor's pages.
  char* const page = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(target) & ~4095UL);
  REQUIRE(mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
  REQUIRE(munmap(page, 4096) == -1);
  REQUIRE(mprotect(page, 4096, PROT_NONE) == -1);
  REQUIRE(madvise(page, 4096, MADV_DONTNEED) == -1);
  REQUIRE(mremap(page, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED);
  void* const own = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(own != MAP_FAILED);
  REQUIRE(mremap(own, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page) == MAP_FAILED);
  syscall(SYS_brk, target);

  // Reading and writing it.
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  REQUIRE(write(ends[1], target, 8) == -1 && errno == EFAULT);
  REQUIRE(write(ends[1], "12345678", 8) == 8);
  REQUIRE(read(ends[0], target, 8) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_getrandom, target, 8, 0) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_clock_gettime, CLOCK_REALTIME, target) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_sigaltstack, nullptr, target) == -1 && errno == EFAULT);
  REQUIRE(syscall(SYS_process_vm_writev, getpid(), nullptr, 0, nullptr, 0, 0) == -1);
  return 0;
}

int attack_descriptors(char const* host_pid, char const* directory) {
  int kept = open("/dev/null", O_RDWR);
  REQUIRE(kept == 3 || kept > 3);
  std::string const base = "/proc/" + std::string(host_pid);
  for (std::string const& dir : {std::string("/proc/self"), std::string("/proc/thread-self"), base}) {
    for (char const* name : {"mem", "map_files", "pagemap", "ns", "auxv"}) {
      REQUIRE(open((dir + "/" + name).c_str(), O_RDWR) == -1);
      REQUIRE(open((dir + "/" + name).c_str(), O_RDONLY) == -1);
    }
  }
  std::string const link = std::string(directory) + "/link";
  REQUIRE(symlink("/proc/self/mem", link.c_str()) == 0);
  REQUIRE(open(link.c_str(), O_RDWR) == -1 && errno == EACCES);
  REQUIRE(open("/dev/kvm", O_RDWR) == -1);

  REQUIRE(syscall(SYS_close_range, 3, ~0U, 0) == 0);
  int const set = epoll_create1(0);
  REQUIRE(set == 3);
  epoll_event event{EPOLLIN, {}};
  for (int fd = 4; fd < 5000; ++fd) {
    struct stat st;
    REQUIRE(fstat(fd, &st) == -1 && errno == EBADF);
    if (fd % 16 != 0) continue;
    REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == -1 && errno == EBADF);
    REQUIRE(ioctl(fd, 0xae80 /* KVM_RUN */, 0) == -1 && errno == EBADF);
    std::string const name = "/proc/self/fd/" + std::to_string(fd);
    REQUIRE(open(name.c_str(), O_RDWR) == -1 && errno == ENOENT);
  }
  for (int fd = 4; fd < 1000; ++fd) REQUIRE(dup2(set, fd) == fd);
  REQUIRE(syscall(SYS_close_range, 4, ~0U, 0) == 0);
  int entries = 0;
  DIR* const fds = opendir("/proc/self/fd");
  REQUIRE(fds != nullptr);
  while (readdir(fds) != nullptr) ++entries;
  REQUIRE(entries <= 7);  // . .. 0 1 2 3 and itself
  closedir(fds);
  return 0;
}

// Before the tests' own main: the guest has no use for it.
__attribute__((constructor)) void be_the_guest(int argc, char** argv, char**) {
  if (argc != 5 || std::strcmp(argv[1], "--guest") != 0) return;
  auto* const target = reinterpret_cast<char*>(std::stoull(argv[2], nullptr, 16));
  int status = attack_memory(target);
  if (status == 0) status = attack_descriptors(argv[3], argv[4]);
  _exit(status);
}

// ---- the monitor ----

vmm::Result<vmm::ExitStatus> run_as_guest(void* target, std::string const& directory) {
  vmm::RunConfig config;
  config.memory = 2ULL << 30;
  char address[32];
  std::snprintf(address, sizeof address, "%lx", reinterpret_cast<unsigned long>(target));
  char self[4096] = {};
  EXPECT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  config.program.argv = {self, "--guest", address, std::to_string(getpid()), directory};
  auto memory = vmm::make_memory(config);
  if (!memory) return tl::unexpected(memory.error());
  return vmm::run_guest(config, std::move(*memory), nullptr);
}

TEST(IsolationGuest, AHostileGuestChangesNothingOfTheMonitor) {
  std::string const secret(8192, '\xc7');
  std::string victim = secret;
  char directory[] = "/tmp/vmsrs-isolation-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  auto const status = run_as_guest(victim.data() + 1024, directory);
  unlink((std::string(directory) + "/link").c_str());
  rmdir(directory);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(status->signal, 0);
  EXPECT_EQ(status->code, 0) << "the guest names the line on stderr";
  EXPECT_EQ(victim, secret);
}

}  // namespace
