// links: vmm
#include "vmm/guest_memory_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace {

// 0: a file of that size which reads as zeros, takes what is written at its very end, and has no name.
int try_file(uint64_t size) {
  auto const file = vmm::make_guest_memory_file(size);
  if (!file) return 1;
  struct stat st {};
  if (fstat(file->get(), &st) != 0 || st.st_size != static_cast<off_t>(size)) return 2;
  if (st.st_blocks != 0 || st.st_nlink != 0) return 3;
  if ((fcntl(file->get(), F_GETFD) & FD_CLOEXEC) == 0) return 4;
  void* const at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->get(), 0);
  if (at == MAP_FAILED) return 5;
  char* const last = static_cast<char*>(at) + size - 1;
  if (*last != 0) return 6;
  *last = 42;
  char byte = 0;
  if (pread(file->get(), &byte, 1, static_cast<off_t>(size - 1)) != 1 || byte != 42) return 7;
  munmap(at, size);
  return 0;
}

TEST(GuestMemoryFile, IsLargeEmptyAndNameless) {
  EXPECT_EQ(try_file(16ULL << 30), 0);
}

TEST(GuestMemoryFile, UsersWhoMayNotMountHaveItToo) {
  pid_t const child = fork();
  if (child == 0) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(99);
    _exit(try_file(16ULL << 30));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
