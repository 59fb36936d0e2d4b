// Memory calls: all served by AddressSpace.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>

#include "vmm/elf_image.hpp"
#include "vmm/file_journal.hpp"
#include "vmm/process.hpp"

namespace vmm {
namespace {

// The one place where a user can learn why a program that has memory to spare is refused some.
int64_t tell_when_full(Thread& t, uint64_t size, int64_t result) {
  static std::atomic<bool> told{false};
  uint64_t const window = t.memory().address_mask() + 1;
  if (result == -ENOMEM && size <= window && !told.exchange(true)) {
    fmt::print(stderr, "vmsrs: no room for {} KiB more in the guest's memory of {} MiB (--memory): ENOMEM\n",
               size >> 10, window >> 20);
  }
  return result;
}

// Of a file that is mapped whole, as loaders do before its segments: how much of it stays as it is in the file.
uint64_t text_of(int host_fd, int prot, int flags, uint64_t offset) {
  if ((flags & (0xf | MAP_FIXED | MAP_FIXED_NOREPLACE)) != MAP_PRIVATE || (prot & PROT_WRITE) || offset != 0) return 0;
  std::array<std::byte, kPageSize> head;
  ssize_t const n = pread(host_fd, head.data(), head.size(), 0);
  return n > 0 ? elf_text_bytes({head.data(), static_cast<size_t>(n)}) : 0;
}

int64_t sys_mmap(Thread& t, SyscallArgs const& args) {
  auto const [addr, size, prot, flags, fd, offset] = args.a;
  int const map_flags = static_cast<int>(flags);
  if (map_flags & MAP_ANONYMOUS) {
    int64_t const r = t.memory().mmap(GuestAddr(addr), size, static_cast<int>(prot), map_flags, -1, 0, "");
    bool const anywhere = (map_flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_HUGETLB)) == 0;
    return anywhere ? tell_when_full(t, size, r) : r;
  }
  FileRef const file = t.fds().get(static_cast<int>(fd));
  if (!file) return -EBADF;
  int const access = fcntl(file->host_fd(), F_GETFL) & O_ACCMODE;
  if (access == O_WRONLY) return -EACCES;
  if ((map_flags & 0xf) == MAP_SHARED && (prot & PROT_WRITE) && access != O_RDWR) return -EACCES;
  uint64_t const text = text_of(file->host_fd(), static_cast<int>(prot), map_flags, offset);
  // What the guest will store there is seen at epochs' boundaries; what there is before the next one is kept now.
  if ((map_flags & MAP_TYPE) != MAP_PRIVATE && access == O_RDWR) {
    FileChangeGuard const change(
        t,
        {.kind = FileChange::Kind::kWrite, .fd = file->host_fd(), .file = file.get(), .offset = offset, .size = size});
    if (int64_t const kept = change.made([] { return int64_t{0}; }); kept != 0) return kept;
  }
  return t.memory().mmap(GuestAddr(addr), size, static_cast<int>(prot), map_flags, file->host_fd(), offset,
                         file->path(), text);
}

int64_t sys_munmap(Thread& t, SyscallArgs const& args) {
  return t.memory().munmap(GuestAddr(args.a[0]), args.a[1]);
}

int64_t sys_mprotect(Thread& t, SyscallArgs const& args) {
  return t.memory().mprotect(GuestAddr(args.a[0]), args.a[1], static_cast<int>(args.a[2]));
}

int64_t sys_mremap(Thread& t, SyscallArgs const& args) {
  return t.memory().mremap(GuestAddr(args.a[0]), args.a[1], args.a[2], static_cast<int>(args.a[3]),
                           GuestAddr(args.a[4]));
}

int64_t sys_madvise(Thread& t, SyscallArgs const& args) {
  return t.memory().madvise(GuestAddr(args.a[0]), args.a[1], static_cast<int>(args.a[2]));
}

int64_t sys_brk(Thread& t, SyscallArgs const& args) {
  return t.memory().brk(GuestAddr(args.a[0]));
}

int64_t sys_msync(Thread& t, SyscallArgs const& args) {
  GuestAddr const addr(args.a[0]);
  if (addr.value % kPageSize != 0 || !t.memory().contains(addr, args.a[1])) return -EINVAL;
  return t.block_in(SYS_msync, addr.value, args.a[1], args.a[2]);
}

int64_t sys_mincore(Thread& t, SyscallArgs const& args) {
  GuestAddr const addr(args.a[0]);
  if (addr.value % kPageSize != 0) return -EINVAL;
  if (!t.memory().contains(addr, args.a[1])) return -ENOMEM;
  uint64_t const pages = page_up(args.a[1]) / kPageSize;
  void* out = t.memory().buffer(GuestAddr(args.a[2]), pages, Access::kWrite);
  if (out == nullptr) return -EFAULT;
  return syscall(SYS_mincore, addr.value, args.a[1], out) == 0 ? 0 : -errno;
}

// Locking the guest's pages in memory is the host's business; the promise "not swapped" is not kept.
int64_t accept_silently(Thread&, SyscallArgs const&) {
  return 0;
}

constexpr ArgSpec kAddr{Arg::kAddr}, kNum{Arg::kInt}, kFileFd{Arg::kFd};
constexpr SyscallRow kRows[] = {
    {SYS_mmap,
     "mmap",
     {{kAddr, kNum, kNum, kNum, kFileFd, kNum}},
     sys_mmap,
     Support::kFull,
     "private file maps are copied in; no MAP_HUGETLB"},
    {SYS_munmap, "munmap", {{kAddr, kNum}}, sys_munmap},
    {SYS_mprotect,
     "mprotect",
     {{kAddr, kNum, kNum}},
     sys_mprotect,
     Support::kPartial,
     "execute permission is not enforced"},
    {SYS_mremap,
     "mremap",
     {{kAddr, kNum, kNum, kNum, kAddr}},
     sys_mremap,
     Support::kPartial,
     "no MREMAP_DONTUNMAP; old size 0 of file maps only"},
    {SYS_madvise,
     "madvise",
     {{kAddr, kNum, kNum}},
     sys_madvise,
     Support::kPartial,
     "DONTNEED, REMOVE, HUGEPAGE, NOHUGEPAGE; others are hints"},
    {SYS_brk, "brk", {{kAddr}}, sys_brk},
    {SYS_msync, "msync", {{kAddr, kNum, kNum}}, sys_msync},
    {SYS_mincore, "mincore", {{kAddr, kNum, {Arg::kOut, 1}}}, sys_mincore},
    {SYS_mlock, "mlock", {{kAddr, kNum}}, accept_silently, Support::kPartial, "accepted, not done"},
    {SYS_mlock2, "mlock2", {{kAddr, kNum, kNum}}, accept_silently, Support::kPartial, "accepted, not done"},
    {SYS_munlock, "munlock", {{kAddr, kNum}}, accept_silently, Support::kPartial, "accepted, not done"},
    {SYS_mlockall, "mlockall", {{kNum}}, accept_silently, Support::kPartial, "accepted, not done"},
    {SYS_munlockall, "munlockall", {}, accept_silently, Support::kPartial, "accepted, not done"},
};

}  // namespace

std::span<SyscallRow const> memory_rows() {
  return kRows;
}

}  // namespace vmm
