// links: vmm
// What a poller makes of a call: done as the thread itself would have had it, or left to it.
#include "vmm/exitless_calls.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

namespace {

using vmm::Tried;

template <class T>
uint64_t arg(T const* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

Tried attempt(long nr, int fd, uint64_t a1, uint64_t a2, uint64_t a3 = 0) {
  return vmm::try_host_call(nr, static_cast<uint64_t>(fd), a1, a2, a3, 0, 0);
}

// A file on a disk (here, not under /tmp) of which the page cache holds the first page alone.
class PartlyCached : public testing::Test {
 protected:
  static constexpr size_t kSize = 40'000;
  void SetUp() override {
    std::string name = "exitless-calls-XXXXXX";
    fd = mkstemp(name.data());
    ASSERT_GE(fd, 0);
    unlink(name.c_str());
    bytes.resize(kSize);
    std::iota(bytes.begin(), bytes.end(), char{});
    ASSERT_EQ(write(fd, bytes.data(), kSize), static_cast<ssize_t>(kSize));
    forget_but_first_page();
  }
  void TearDown() override { close(fd); }
  void forget_but_first_page() const {
    ASSERT_EQ(fsync(fd), 0);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);  // reads nothing ahead
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    char first = 0;
    ASSERT_EQ(pread(fd, &first, 1, 0), 1);
    ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
    std::vector<char> into(kSize);
    iovec const part{into.data(), kSize};
    ssize_t const got = preadv2(fd, &part, 1, 0, RWF_NOWAIT);
    if (got == static_cast<ssize_t>(kSize)) GTEST_SKIP() << "this file system forgets nothing, or fetches at once";
    ASSERT_GT(got, 0);
  }
  int fd = -1;
  std::vector<char> bytes;
};

TEST_F(PartlyCached, AReadGivesAllThatThereIs) {
  if (IsSkipped()) return;
  std::vector<char> into(kSize + 100);
  Tried const tried = attempt(SYS_read, fd, arg(into.data()), into.size());
  EXPECT_EQ(tried.kind, Tried::kDone);
  EXPECT_EQ(tried.result, static_cast<int64_t>(kSize));
  into.resize(kSize);
  EXPECT_EQ(into, bytes);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), static_cast<off_t>(kSize));
}

TEST_F(PartlyCached, SoDoesAReadElsewhereAndIntoParts) {
  if (IsSkipped()) return;
  std::vector<char> into(kSize);
  iovec const parts[] = {
      {into.data(), 10}, {into.data() + 10, 0}, {into.data() + 10, 5000}, {into.data() + 5010, 30'000}};
  Tried tried = attempt(SYS_preadv, fd, arg(parts), 4, 7);
  EXPECT_EQ(tried.kind, Tried::kDone);
  EXPECT_EQ(tried.result, 35'010);
  EXPECT_TRUE(std::equal(into.begin(), into.begin() + 35'010, bytes.begin() + 7));
  forget_but_first_page();
  tried = attempt(SYS_pread64, fd, arg(into.data()), kSize, 100);
  EXPECT_EQ(tried.result, static_cast<int64_t>(kSize - 100));
  EXPECT_TRUE(std::equal(into.begin(), into.end() - 100, bytes.begin() + 100));
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
}

// Nothing of it is cached: that takes longer than the guest should spin, so its own thread does it.
TEST_F(PartlyCached, WhatMustBeFetchedFirstIsLeftToTheThread) {
  if (IsSkipped()) return;
  char into[100];
  EXPECT_EQ(attempt(SYS_pread64, fd, arg(into), sizeof into, 20'000).kind, Tried::kNotHere);
  fcntl(fd, F_SETFL, O_NONBLOCK);  // says nothing of files
  EXPECT_EQ(attempt(SYS_pread64, fd, arg(into), sizeof into, 20'000).kind, Tried::kNotHere);
}

TEST(ExitlessCalls, AShortReadOfAStreamIsAll) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  char into[100];
  EXPECT_EQ(attempt(SYS_read, pair[0], arg(into), sizeof into).kind, Tried::kWouldWait);
  ASSERT_EQ(write(pair[1], "abc", 3), 3);
  Tried tried = attempt(SYS_read, pair[0], arg(into), sizeof into);
  EXPECT_EQ(tried.kind, Tried::kDone);
  EXPECT_EQ(tried.result, 3);
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  tried = attempt(SYS_read, pair[0], arg(into), sizeof into);
  EXPECT_EQ(tried.kind, Tried::kDone);
  EXPECT_EQ(tried.result, -EAGAIN);
  close(pair[1]);
  tried = attempt(SYS_read, pair[0], arg(into), sizeof into);
  EXPECT_EQ(tried.kind, Tried::kDone);
  EXPECT_EQ(tried.result, 0);
  close(pair[0]);
}

TEST(ExitlessCalls, AWriteThatFillsAPipeIsFinishedByTheThread) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::vector<char> much(1 << 20);
  Tried const tried = attempt(SYS_write, ends[1], arg(much.data()), much.size());
  EXPECT_EQ(tried.kind, Tried::kInPart);
  EXPECT_GT(tried.result, 0);
  EXPECT_LT(tried.result, static_cast<int64_t>(much.size()));
  EXPECT_EQ(attempt(SYS_write, ends[1], arg(much.data()), much.size()).kind, Tried::kWouldWait);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
