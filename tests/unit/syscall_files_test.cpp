// links: vmm
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <fstream>

#include "tests/support/syscall_fixture.hpp"

namespace {

class SyscallFiles : public vmm_test::SyscallFixture {};

TEST_F(SyscallFiles, AFileIsMadeWrittenReadAndRemoved) {
  std::string const path = directory + "/a";
  int const fd = open(path, O_CREAT | O_RDWR | O_EXCL);
  ASSERT_EQ(fd, 0) << "the lowest free number";
  EXPECT_EQ(open(path, O_CREAT | O_RDWR | O_EXCL), -EEXIST);
  EXPECT_EQ(call(SYS_write, fd, text("hello"), 5), 5);
  EXPECT_EQ(call(SYS_lseek, fd, 1, SEEK_SET), 1);
  uint64_t const to = room(16).value;
  EXPECT_EQ(call(SYS_read, fd, to, 16), 4);
  EXPECT_EQ(bytes(to, 4), "ello");
  EXPECT_EQ(call(SYS_pread64, fd, to, 2, 3), 2);
  EXPECT_EQ(bytes(to, 2), "lo");
  uint64_t const st = room(sizeof(struct stat)).value;
  EXPECT_EQ(call(SYS_fstat, fd, st), 0);
  EXPECT_EQ(get<struct stat>(st).st_size, 5);
  EXPECT_EQ(call(SYS_stat, text(path), st), 0);
  EXPECT_EQ(call(SYS_rename, text(path), text(directory + "/b")), 0);
  EXPECT_EQ(call(SYS_stat, text(path), st), -ENOENT);
  EXPECT_EQ(call(SYS_truncate, text(directory + "/b"), 2), 0);
  EXPECT_EQ(call(SYS_fstat, fd, st), 0);
  EXPECT_EQ(get<struct stat>(st).st_size, 2);
  EXPECT_EQ(call(SYS_unlink, text(directory + "/b")), 0);
  EXPECT_EQ(call(SYS_close, fd), 0);
  EXPECT_EQ(call(SYS_close, fd), -EBADF);
}

TEST_F(SyscallFiles, CreateFollowsADanglingLinkAndTruncates) {
  EXPECT_EQ(call(SYS_symlink, text("target"), text(directory + "/link")), 0);
  int const fd = open(directory + "/link", O_CREAT | O_WRONLY);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(call(SYS_write, fd, text("xyz"), 3), 3);
  EXPECT_EQ(read_file(directory + "/target"), "xyz");
  EXPECT_EQ(read_link(directory + "/link"), "target");
  EXPECT_EQ(open(directory + "/link", O_CREAT | O_EXCL | O_WRONLY), -EEXIST);
  EXPECT_EQ(open(directory + "/link", O_RDONLY | O_NOFOLLOW), -ELOOP);
  ASSERT_GE(open(directory + "/link", O_CREAT | O_TRUNC | O_WRONLY), 0);
  EXPECT_EQ(read_file(directory + "/target"), "");
  EXPECT_EQ(open(directory + "/no/such", O_CREAT | O_WRONLY), -ENOENT);
  EXPECT_EQ(open(directory + "/target/x", O_RDONLY), -ENOTDIR);
}

TEST_F(SyscallFiles, RelativePathsGoByTheDirectoryDescriptor) {
  EXPECT_EQ(call(SYS_mkdir, text(directory + "/sub/"), 0700), 0);
  int const dir = open(directory + "/sub", O_RDONLY | O_DIRECTORY);
  ASSERT_GE(dir, 0);
  EXPECT_GE(call(SYS_openat, dir, text("f"), O_CREAT | O_WRONLY, 0600), 0);
  EXPECT_EQ(call(SYS_faccessat, dir, text("f"), R_OK), 0);
  EXPECT_EQ(call(SYS_faccessat, dir, text("g"), R_OK), -ENOENT);
  EXPECT_EQ(call(SYS_unlinkat, dir, text("f"), 0), 0);
  EXPECT_EQ(call(SYS_openat, 77, text("f"), O_RDONLY), -EBADF);
  uint64_t const entries = room(4096).value;
  EXPECT_GT(call(SYS_getdents64, dir, entries, 4096), 0);
  EXPECT_EQ(call(SYS_getdents64, dir, entries, 4096), 0);
  EXPECT_EQ(call(SYS_rmdir, text(directory + "/sub")), 0);
  EXPECT_EQ(call(SYS_unlink, text("/")), -EISDIR);
}

TEST_F(SyscallFiles, VectorsAreCheckedOnTheCopyAndPartsAreTransferred) {
  int const fd = open(directory + "/v", O_CREAT | O_RDWR);
  iovec const good[2] = {{reinterpret_cast<void*>(text("ab")), 2}, {reinterpret_cast<void*>(text("cde")), 3}};
  EXPECT_EQ(call(SYS_writev, fd, put(good), 2), 5);
  int host_value = 42;
  iovec const wild[2] = {{reinterpret_cast<void*>(text("ab")), 2}, {&host_value, 4}};
  EXPECT_EQ(call(SYS_writev, fd, put(wild), 2), -EFAULT);
  EXPECT_EQ(call(SYS_preadv, fd, put(wild), 2, 0, 0), -EFAULT);
  EXPECT_EQ(host_value, 42);
  EXPECT_EQ(call(SYS_readv, fd, reinterpret_cast<uint64_t>(&good), 2), -EFAULT) << "the array itself";
  EXPECT_EQ(call(SYS_readv, fd, put(good), UIO_MAXIOV + 1), -EINVAL);
  uint64_t const a = room(3).value, b = room(3).value;
  iovec const in[2] = {{reinterpret_cast<void*>(a), 3}, {reinterpret_cast<void*>(b), 3}};
  EXPECT_EQ(call(SYS_preadv, fd, put(in), 2, 0, 0), 5);
  EXPECT_EQ(bytes(a, 3) + bytes(b, 2), "abcde");
}

TEST_F(SyscallFiles, DevicesThatReachTheHostAreRefused) {
  for (char const* path : {"/dev/kvm", "/dev/mem", "/dev/kmsg"}) {
    struct stat st {};
    if (stat(path, &st) != 0) continue;
    EXPECT_EQ(open(path, O_RDONLY), -EACCES) << path;
  }
  EXPECT_GE(open("/dev/null", O_RDWR), 0);
  EXPECT_GE(open("/dev/urandom", O_RDONLY), 0);
}

TEST_F(SyscallFiles, RecordLocksExcludeOtherProcessesAndCloseDropsThem) {
  std::string const path = directory + "/lock";
  int const fd = open(path, O_CREAT | O_RDWR);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  EXPECT_EQ(call(SYS_fcntl, fd, F_SETLK, put(lock)), 0);
  auto const other_process_gets_it = [&] {
    pid_t const child = fork();
    if (child == 0) {
      int const own = ::open(path.c_str(), O_RDWR);
      struct flock mine {};
      mine.l_type = F_WRLCK;
      _exit(fcntl(own, F_SETLK, &mine) == 0 ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status) == 1;
  };
  EXPECT_FALSE(other_process_gets_it());
  int const second = static_cast<int>(call(SYS_dup, fd));
  EXPECT_EQ(call(SYS_close, second), 0);
  EXPECT_TRUE(other_process_gets_it()) << "POSIX: closing any number drops the process's locks";
  EXPECT_EQ(call(SYS_fcntl, fd, F_SETLK, reinterpret_cast<uint64_t>(&lock)), -EFAULT);
}

TEST_F(SyscallFiles, AttributesChangeAndOnlyUserNamesAreWritten) {
  std::string const path = directory + "/a";
  ASSERT_GE(open(path, O_CREAT | O_RDWR), 0);
  EXPECT_EQ(call(SYS_chmod, text(path), 0640), 0);
  uint64_t const st = room(sizeof(struct stat)).value;
  EXPECT_EQ(call(SYS_stat, text(path), st), 0);
  EXPECT_EQ(get<struct stat>(st).st_mode & 0777, 0640U);
  timespec const times[2]{{1000, 0}, {2000, 0}};
  EXPECT_EQ(call(SYS_utimensat, AT_FDCWD, text(path), put(times), 0), 0);
  EXPECT_EQ(call(SYS_stat, text(path), st), 0);
  EXPECT_EQ(get<struct stat>(st).st_mtim.tv_sec, 2000);
  EXPECT_EQ(call(SYS_setxattr, text(path), text("security.x"), text("v"), 1, 0), -EPERM);
  EXPECT_EQ(call(SYS_chown, text(path), getuid(), getgid()), 0);
  EXPECT_EQ(call(SYS_link, text(path), text(directory + "/b")), 0);
  EXPECT_EQ(call(SYS_stat, text(path), st), 0);
  EXPECT_EQ(get<struct stat>(st).st_nlink, 2U);
}

TEST_F(SyscallFiles, SendfileKeepsTheOffsetAndCopies) {
  int const from = open(directory + "/from", O_CREAT | O_RDWR);
  int const to = open(directory + "/to", O_CREAT | O_RDWR);
  EXPECT_EQ(call(SYS_write, from, text("0123456789"), 10), 10);
  uint64_t const offset = put<int64_t>(4);
  EXPECT_EQ(call(SYS_sendfile, to, from, offset, 3), 3);
  EXPECT_EQ(get<int64_t>(offset), 7);
  EXPECT_EQ(read_file(directory + "/to"), "456");
}

}  // namespace
