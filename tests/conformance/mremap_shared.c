// mremap of a shared map of a file: larger, smaller, moved, mapped a second time; what is stored is in the file.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kPage = 4096, kRw = PROT_READ | PROT_WRITE };
static int file;

static char const* outcome(void* p) {
  return p == MAP_FAILED ? strerrorname_np(errno) : "ok";
}
static char in_file(int page) {
  char c = 0;
  if (pread(file, &c, 1, (off_t)page * kPage + 1) != 1) return '!';
  return c != 0 ? c : '-';
}
static void show(char const* what, char* map, int pages) {
  printf("%s:", what);
  for (int i = 0; i < pages; i++) printf(" %c", map[i * kPage]);
  for (int i = 0; i < pages; i++) map[i * kPage + 1]++;
  printf("; in the file");
  for (int i = 0; i < 8; i++) printf(" %c", in_file(i));
  printf("\n");
}
// Whether nothing is mapped there.
static int is_free(char* at, size_t size) {
  void* const p = mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (p != MAP_FAILED) munmap(p, size);
  return p == at;
}

int main(void) {
  file = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
  for (int i = 0; i < 8; i++) {
    char const both[2] = {(char)('a' + i), '0'};
    if (pwrite(file, both, 2, (off_t)i * kPage) != 2) return 1;
  }
  if (ftruncate(file, 8 * kPage) != 0) return 1;
  // Room of our own, so that it is known what lies behind a map.
  char* const room = mmap(NULL, 64 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(room, 32 * kPage);

  char* a = mmap(room, 2 * kPage, kRw, MAP_SHARED | MAP_FIXED, file, kPage);
  char* b = mremap(a, 2 * kPage, 4 * kPage, 0);
  printf("larger in place: %s %d\n", outcome(b), b == a);
  show("four", a, 4);
  b = mremap(a, 4 * kPage, 5 * kPage, 0);
  printf("once more: %s %d\n", outcome(b), b == a);
  b = mremap(a, 5 * kPage, 3 * kPage, 0);
  printf("smaller: %s %d, the rest is free %d\n", outcome(b), b == a, is_free(a + 3 * kPage, 2 * kPage));
  show("three", a, 3);

  char* const wall = mmap(a + 3 * kPage, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  printf("no room: %s", outcome(mremap(a, 3 * kPage, 4 * kPage, 0)));
  b = mremap(a, 3 * kPage, 4 * kPage, MREMAP_MAYMOVE);
  printf(", moved: %s %d, its place is free %d\n", outcome(b), b != a, is_free(a, 3 * kPage));
  show("moved", b, 4);
  munmap(wall, kPage);

  char* c = mremap(b + kPage, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, room + 40 * kPage);
  printf("its middle to a place: %s %d, a hole there %d\n", outcome(c), c == room + 40 * kPage,
         is_free(b + kPage, 2 * kPage));
  show("middle", c, 2);
  show("first", b, 1);
  show("last", b + 3 * kPage, 1);
  printf("past a hole: %s\n", outcome(mremap(b, 4 * kPage, 5 * kPage, MREMAP_MAYMOVE)));
  c = mremap(c, 2 * kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, room + 50 * kPage);
  printf("shorter elsewhere: %s, its place is free %d\n", outcome(c), is_free(room + 40 * kPage, 2 * kPage));
  show("shorter", c, 1);

  char* d = mremap(c, 0, 3 * kPage, MREMAP_MAYMOVE);
  printf("a second map: %s %d\n", outcome(d), d != c);
  show("second", d, 3);
  printf("the same pages: %d\n", c[1] == d[1]);
  printf("onto itself: %s; of a private map: %s\n",
         outcome(mremap(d, 3 * kPage, 3 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, d + kPage)),
         outcome(mremap(room + 60 * kPage, 0, kPage, MREMAP_MAYMOVE)));

  printf("read only: %d", mprotect(d, 3 * kPage, PROT_READ));
  char* const e = mremap(d, 3 * kPage, 6 * kPage, MREMAP_MAYMOVE);
  printf(", larger: %s", outcome(e));
  for (int i = 0; i < 6; i++) printf(" %c", e[i * kPage]);
  int fds[2];
  if (pipe(fds) != 0 || write(fds[1], "x", 1) != 1) return 1;
  ssize_t const n = read(fds[0], e + 5 * kPage, 1);
  printf(", into it: %s\n", n < 0 ? strerrorname_np(errno) : "ok");
  printf("unmapped: %d %d\n", munmap(e, 6 * kPage), munmap(b, kPage));
  printf("free: %d\n", is_free(e, 6 * kPage));
  return 0;
}
