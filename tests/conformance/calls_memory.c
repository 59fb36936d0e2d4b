// Memory calls: results, contents and errors; no addresses.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kPage = 4096, kRw = PROT_READ | PROT_WRITE, kAnon = MAP_PRIVATE | MAP_ANONYMOUS };

static char const* outcome(void* p) {
  return p == MAP_FAILED ? strerrorname_np(errno) : "ok";
}
static char const* call(int r) {
  return r == 0 ? "ok" : strerrorname_np(errno);
}

int main(void) {
  char* a = mmap(NULL, 8 * kPage, kRw, kAnon, -1, 0);
  printf("anonymous %s, zero %d\n", outcome(a), a[5000] == 0);
  memset(a, 'a', 8 * kPage);
  char* fixed = mmap(a + kPage, kPage, kRw, kAnon | MAP_FIXED, -1, 0);
  printf("fixed: in place %d, zero %d, neighbours %c%c\n", fixed == a + kPage, a[kPage] == 0, a[0], a[2 * kPage]);
  printf("no replace, taken: %s\n", outcome(mmap(a, kPage, kRw, kAnon | MAP_FIXED_NOREPLACE, -1, 0)));
  printf("munmap %s\n", call(munmap(a + 3 * kPage, kPage)));
  char* hole = mmap(a + 3 * kPage, kPage, kRw, kAnon | MAP_FIXED_NOREPLACE, -1, 0);
  printf("no replace, free: in place %d\n", hole == a + 3 * kPage);
  printf("size 0: %s; odd offset: %s; odd fixed: %s; no type: %s; bad fd: %s\n",
         outcome(mmap(NULL, 0, kRw, kAnon, -1, 0)), outcome(mmap(NULL, kPage, kRw, MAP_PRIVATE, 0, 1)),
         outcome(mmap(a + 1, kPage, kRw, kAnon | MAP_FIXED, -1, 0)),
         outcome(mmap(NULL, kPage, kRw, MAP_ANONYMOUS, -1, 0)), outcome(mmap(NULL, kPage, kRw, MAP_PRIVATE, 999, 0)));
  printf("unmapped by odd address: %s, size 0: %s\n", call(munmap(a + 1, kPage)), call(munmap(a, 0)));

  char* b = mremap(a + 4 * kPage, 2 * kPage, 16 * kPage, MREMAP_MAYMOVE);
  printf("mremap larger: %s, %c, zero %d\n", outcome(b), b[kPage], b[2 * kPage] == 0);
  b = mremap(b, 16 * kPage, kPage, 0);
  printf("mremap smaller: %s, %c\n", outcome(b), b[0]);
  char* to = mmap(NULL, 4 * kPage, PROT_NONE, kAnon, -1, 0);
  char* moved = mremap(b, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to + kPage);
  printf("mremap to a place: %d, %c; bad flags: %s\n", moved == to + kPage, moved[0],
         outcome(mremap(moved, kPage, kPage, 64)));

  printf("mprotect %s", call(mprotect(a, kPage, PROT_READ)));
  int fds[2];
  if (pipe(fds) != 0 || write(fds[1], "xy", 2) != 2) return 1;
  ssize_t n = read(fds[0], a, 1);
  printf(", read into it: %s", n < 0 ? strerrorname_np(errno) : "ok");
  printf(", again writable: %s", call(mprotect(a, kPage, kRw)));
  n = read(fds[0], a, 1);
  printf(": %zd; of a hole: %s; odd: %s\n", n, call(mprotect((char*)(64L << 20 << 20), kPage, kRw)),
         call(mprotect(a + 1, kPage, kRw)));
  a[0] = 'q';
  printf("dontneed %s", call(madvise(a, kPage, MADV_DONTNEED)));
  printf(", zero %d; free hint %s; willneed %s; odd %s\n", a[0] == 0, call(madvise(a, kPage, MADV_FREE)),
         call(madvise(a, kPage, MADV_WILLNEED)), call(madvise(a + 1, kPage, MADV_DONTNEED)));

  char* const start = sbrk(0);
  printf("brk up %s", call(brk(start + 10 * kPage)));
  memset(start, 'b', 10 * kPage);
  printf(", down %s", call(brk(start + kPage)));
  printf(", up again %s", call(brk(start + 4 * kPage)));
  printf(", zero %d\n", start[2 * kPage] == 0);

  int const file = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (ftruncate(file, 2 * kPage) != 0 || pwrite(file, "file", 4, 100) != 4) return 1;
  char* shared = mmap(NULL, 2 * kPage, kRw, MAP_SHARED, file, 0);
  char* private = mmap(NULL, 2 * kPage, kRw, MAP_PRIVATE, file, 0);
  printf("file: shared %.4s, private %.4s", shared + 100, private + 100);
  memcpy(shared + 200, "into", 4);
  memcpy(private + 300, "lost", 4);
  char got[5] = "";
  n = pread(file, got, 4, 200);
  printf("; file has %s", got);
  n += pread(file, got, 4, 300);
  printf(" (%zd), not the private %d; msync %s\n", n, got[0] == 0, call(msync(shared, kPage, MS_SYNC)));
  int const readonly = open("mapped", O_RDONLY);
  printf("shared writable of a read-only file: %s\n", outcome(mmap(NULL, kPage, kRw, MAP_SHARED, readonly, 0)));
  return 0;
}
