// Drives the table's handlers with no VM: a process with real guest memory and fds, and threads that
// are only the state a handler sees.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "vmm/kick.hpp"
#include "vmm/process.hpp"
#include "vmm/safe_copy.hpp"
#include "vmm/syscall.hpp"
#include "vmm/thread.hpp"

namespace vmm_test {

class TestThread : public vmm::Thread {
 public:
  TestThread(vmm::Process& process, int tid) : Thread(process, tid) {}
  bool get_xsave(std::span<std::byte>) override { return true; }
  bool set_xsave(std::span<std::byte const>) override { return true; }
  void adopt_host_thread() { host_tid_ = gettid(); }
  void clear_kick() { kicked_ = false; }
};

class TestProcess : public vmm::Process {
 public:
  explicit TestProcess(std::unique_ptr<vmm::AddressSpace> memory) {
    memory_ = std::move(memory);
    fds_ = std::make_unique<vmm::FdTable>();
    hooks_ = &no_hooks_;
    exe_path = "/usr/bin/true";
    argv = {"true", "--flag"};
    envp = {"A=1", "B=two"};
    command_name = "true";
    main = std::make_unique<TestThread>(*this, vmm::kVirtualPid);
    threads_[vmm::kVirtualPid] = main.get();
  }
  int64_t start_thread(vmm::Registers const&, std::span<std::byte const>, uint64_t, vmm::GuestAddr, vmm::GuestAddr,
                       vmm::GuestAddr) override {
    return -EAGAIN;
  }
  TestThread& add_thread(int tid) {
    others_.push_back(std::make_unique<TestThread>(*this, tid));
    threads_[tid] = others_.back().get();
    return *others_.back();
  }
  void set_hooks(vmm::Hooks& hooks) { hooks_ = &hooks; }
  std::unique_ptr<TestThread> main;

 private:
  vmm::Hooks no_hooks_;
  std::vector<std::unique_ptr<TestThread>> others_;
};

class SyscallFixture : public testing::Test {
 protected:
  static constexpr uint64_t kArena = 1 << 20;

  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "needs the guest's addresses, where the sanitizer has its shadow memory";
#endif
    vmm::install_safe_copy_handler();
    vmm::install_kick_handler();
    auto space = vmm::AddressSpace::create({.window = 2ULL << 30});
    ASSERT_TRUE(space) << space.error().message;
    process = std::make_unique<TestProcess>(std::move(*space));
    int64_t const at =
        memory().mmap(vmm::GuestAddr(0), kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "");
    ASSERT_GT(at, 0);
    arena = next = vmm::GuestAddr(static_cast<uint64_t>(at));
    process->main->adopt_host_thread();
    char name[] = "/tmp/vmsrs-syscall-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory = name;
  }
  void TearDown() override {
    if (directory.empty()) return;
    std::string const command = "rm -rf " + directory;
    ASSERT_EQ(std::system(command.c_str()), 0);
  }

  vmm::AddressSpace& memory() {
    return process->memory();
  }

  // ---- guest memory ----
  vmm::GuestAddr room(uint64_t size) {
    vmm::GuestAddr const at = next;
    next = next + ((size + 15) & ~UINT64_C(15));
    EXPECT_LE(next - arena, kArena);
    return at;
  }
  uint64_t text(std::string const& s) {
    vmm::GuestAddr const at = room(s.size() + 1);
    EXPECT_TRUE(memory().write(at, s.c_str(), s.size() + 1));
    return at.value;
  }
  template <class T>
  uint64_t put(T const& value) {
    vmm::GuestAddr const at = room(sizeof value);
    EXPECT_TRUE(memory().write(at, value));
    return at.value;
  }
  template <class T>
  T get(uint64_t at) {
    T value{};
    EXPECT_TRUE(memory().read(vmm::GuestAddr(at), value));
    return value;
  }
  std::string bytes(uint64_t at, int64_t size) {
    std::string s(static_cast<size_t>(size > 0 ? size : 0), '\0');
    EXPECT_TRUE(memory().read(vmm::GuestAddr(at), s.data(), s.size()));
    return s;
  }

  // ---- calls ----
  template <class... A>
  int64_t call(long nr, A... args) {
    return call_on(*process->main, nr, args...);
  }
  template <class... A>
  int64_t call_on(TestThread& thread, long nr, A... args) {
    vmm::SyscallRow const* const row = vmm::SyscallTable::instance().find(static_cast<uint64_t>(nr));
    EXPECT_NE(row, nullptr) << nr;
    if (row == nullptr) return -ENOSYS;
    thread.restart_deadline() = 0;
    vmm::SyscallArgs const a{static_cast<uint64_t>(nr), {static_cast<uint64_t>(args)...}};
    return row->handler(thread, a);
  }
  int open(std::string const& path, int flags = 0, int mode = 0600);
  std::string read_file(std::string const& path);
  std::string read_link(std::string const& path);

  std::unique_ptr<TestProcess> process;
  vmm::GuestAddr arena, next;
  std::string directory;  // of the host, for this test alone
};

inline int SyscallFixture::open(std::string const& path, int flags, int mode) {
  return static_cast<int>(call(257 /* openat */, -100, text(path), flags, mode));
}

inline std::string SyscallFixture::read_file(std::string const& path) {
  int const fd = open(path);
  if (fd < 0) return "error " + std::string(std::strerror(-fd));
  uint64_t const at = room(65536).value;
  std::string all;
  for (int64_t n = 0; (n = call(0 /* read */, fd, at, 65536)) > 0;) all += bytes(at, n);
  call(3 /* close */, fd);
  return all;
}

inline std::string SyscallFixture::read_link(std::string const& path) {
  uint64_t const at = room(4096).value;
  int64_t const n = call(89 /* readlink */, text(path), at, 4096);
  return n < 0 ? "error " + std::string(std::strerror(static_cast<int>(-n))) : bytes(at, n);
}

}  // namespace vmm_test
