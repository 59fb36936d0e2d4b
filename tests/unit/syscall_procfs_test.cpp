// links: vmm
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <set>

#include "tests/support/syscall_fixture.hpp"

namespace {

class SyscallProcfs : public vmm_test::SyscallFixture {
 protected:
  std::set<std::string> names_in(std::string const& path) {
    std::set<std::string> names;
    int const fd = open(path, O_RDONLY | O_DIRECTORY);
    EXPECT_GE(fd, 0) << path;
    uint64_t const at = room(32768).value;
    for (int64_t n = 0; (n = call(SYS_getdents64, fd, at, 32768)) > 0;) {
      std::string const all = bytes(at, n);
      for (size_t i = 0; i < all.size();) {
        uint16_t length = 0;
        std::memcpy(&length, &all[i + 16], 2);
        names.insert(&all[i + 19]);
        i += length;
      }
    }
    call(SYS_close, fd);
    return names;
  }
};

TEST_F(SyscallProcfs, ShowsTheGuest) {
  EXPECT_EQ(read_file("/proc/self/cmdline"), std::string("true\0--flag\0", 12));
  EXPECT_EQ(read_file("/proc/self/environ"), std::string("A=1\0B=two\0", 10));
  EXPECT_EQ(read_file("/proc/1000/comm"), "true\n");
  EXPECT_EQ(read_file("/proc/" + std::to_string(getpid()) + "/comm"), "true\n");
  EXPECT_EQ(read_link("/proc/self"), "1000");
  EXPECT_EQ(read_link("/proc/thread-self"), "1000/task/1000");
  EXPECT_EQ(read_link("/proc/self/exe"), "/usr/bin/true");
  EXPECT_TRUE(read_file("/proc/self/stat").starts_with("1000 (true) R 1 "));
  std::string const maps = read_file("/proc/self/maps");
  char line[64];
  std::snprintf(line, sizeof line, "%lx-", arena.value);
  EXPECT_NE(maps.find(line), std::string::npos) << maps;
  EXPECT_EQ(maps.find("libc"), std::string::npos) << "the monitor's own";
  EXPECT_NE(read_file("/proc/self/status").find("\nPid:\t1000\n"), std::string::npos);
}

TEST_F(SyscallProcfs, WhatWouldShowTheMonitorIsDenied) {
  for (std::string const dir : {"/proc/self/", "/proc/thread-self/", "/proc/self/task/1000/", "/proc/self/../self/",
                                "/proc/self/root/proc/self/", "/dev/fd/../"}) {
    for (char const* name : {"mem", "pagemap", "map_files", "ns", "auxv", "ns/mnt", "syscall"}) {
      EXPECT_EQ(open(dir + name, O_RDONLY), -EACCES) << dir << name;
    }
    EXPECT_EQ(open(dir + "no-such", O_RDONLY), -ENOENT);
  }
  EXPECT_EQ(open("/proc/kcore", O_RDONLY), -EACCES);
  EXPECT_EQ(open("/proc/" + std::to_string(getpid()) + "/mem", O_RDWR), -EACCES);
  EXPECT_EQ(open("/proc/" + std::to_string(getpid()) + "/task/" + std::to_string(gettid()) + "/mem", O_RDWR), -ENOENT)
      << "host thread ids mean nothing";
}

TEST_F(SyscallProcfs, OtherProcessesDoNotExist) {
  struct stat st {};
  ASSERT_EQ(stat("/proc/1/stat", &st), 0) << "the host has one";
  EXPECT_EQ(open("/proc/1/stat", O_RDONLY), -ENOENT);
  EXPECT_EQ(open("/proc/1", O_RDONLY | O_DIRECTORY), -ENOENT);
  uint64_t const to = room(sizeof st).value;
  EXPECT_EQ(call(SYS_stat, text("/proc/1"), to), -ENOENT);
  std::set<std::string> const names = names_in("/proc");
  EXPECT_TRUE(names.contains("1000"));
  EXPECT_TRUE(names.contains("cpuinfo"));
  EXPECT_FALSE(names.contains("1"));
  EXPECT_FALSE(names.contains(std::to_string(getpid())));
}

TEST_F(SyscallProcfs, LinksIntoItAreRecognisedByWhatTheyReach) {
  auto const link = [&](std::string const& target, std::string const& name) {
    EXPECT_EQ(symlink(target.c_str(), (directory + "/" + name).c_str()), 0);
    return directory + "/" + name;
  };
  EXPECT_EQ(open(link("/proc/self/mem", "m"), O_RDWR), -EACCES);
  EXPECT_EQ(open(link("../../proc/self", "p") + "/mem", O_RDWR), -EACCES);
  EXPECT_EQ(read_file(link("/proc/self/comm", "c")), "true\n");
  std::string const fds = link("/proc/self/fd", "fds");
  EXPECT_EQ(open(fds + "/3", O_RDONLY), -ENOENT);
  EXPECT_EQ(open(link("/proc/1000/maps", "maps"), O_RDONLY | O_NOFOLLOW), -ELOOP);
  EXPECT_GE(open(directory + "/maps", O_RDONLY), 0) << "an id that only the guest has";
  EXPECT_EQ(open(link("/proc", "proc") + "/1/maps", O_RDONLY), -ENOENT);
}

TEST_F(SyscallProcfs, ItsFdsAreTheGuestsNumbers) {
  std::string const path = directory + "/f";
  int const fd = open(path, O_CREAT | O_RDWR);
  ASSERT_EQ(fd, 0);
  EXPECT_EQ(read_link("/proc/self/fd/0"), path);
  std::set<std::string> const expected{".", "..", "0", "1"};
  EXPECT_EQ(names_in("/proc/self/fd"), expected) << "1 is the directory itself";
  EXPECT_EQ(names_in("/dev/fd"), expected);
  // The monitor's own: whatever number they have on the host, the guest has none of them.
  for (int number = 0; number < 5000; ++number) {
    if (number == fd || fcntl(number, F_GETFD) < 0) continue;
    std::string const own = "/proc/self/fd/" + std::to_string(number);
    EXPECT_EQ(open(own, O_RDWR), -ENOENT) << own;
    EXPECT_EQ(open("/dev/fd/" + std::to_string(number), O_RDONLY), -ENOENT);
    EXPECT_EQ(call(SYS_truncate, text(own), 0), -ENOENT);
    EXPECT_EQ(call(SYS_mkdir, text(own + "/x"), 0700), -ENOENT);
  }
  EXPECT_EQ(call(SYS_write, fd, text("data"), 4), 4);
  EXPECT_EQ(read_file("/proc/self/fd/0"), "data") << "opened anew, so from the start";
  EXPECT_EQ(read_file("/dev/stdin"), "data");
  int const dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  uint64_t const to = room(4096).value;
  EXPECT_EQ(call(SYS_readlinkat, dir, text("0"), to, 4096), static_cast<int64_t>(path.size()));
  EXPECT_EQ(call(SYS_fchdir, dir), -EACCES);
}

TEST_F(SyscallProcfs, NothingInItIsWritten) {
  EXPECT_EQ(open("/proc/self/comm", O_WRONLY), -EACCES);
  EXPECT_EQ(open("/proc/sys/kernel/hostname", O_WRONLY), -EACCES);
  EXPECT_EQ(open("/proc/sys/kernel/hostname", O_RDONLY | O_TRUNC), -EACCES);
  EXPECT_EQ(call(SYS_chmod, text("/proc/meminfo"), 0600), -EPERM);
  EXPECT_EQ(call(SYS_truncate, text("/proc/sysrq-trigger"), 0), -EACCES);
  EXPECT_EQ(call(SYS_access, text("/proc/sys/kernel/hostname"), W_OK), -EACCES);
  int const fd = open("/proc/sys/kernel/hostname");
  ASSERT_GE(fd, 0);
  EXPECT_EQ(open("/proc/self/fd/" + std::to_string(fd), O_WRONLY), -EACCES) << "not by that way";
  EXPECT_NE(read_file("/proc/meminfo").find("MemTotal"), std::string::npos);
  EXPECT_NE(read_file("/proc/mounts").find("proc"), std::string::npos);
  EXPECT_NE(read_file("/proc/net/dev").find("lo:"), std::string::npos);
  EXPECT_EQ(open("/proc/net/../mem", O_RDONLY), -EACCES);
}

TEST_F(SyscallProcfs, ThreadsAreTheGuests) {
  process->add_thread(1001);
  EXPECT_EQ(names_in("/proc/self/task"), (std::set<std::string>{".", "..", "1000", "1001"}));
  EXPECT_EQ(read_file("/proc/self/task/1001/comm"), "true\n");
  EXPECT_EQ(open("/proc/self/task/1002/comm", O_RDONLY), -ENOENT);
  EXPECT_NE(read_file("/proc/self/status").find("\nThreads:\t2\n"), std::string::npos);
}

}  // namespace
