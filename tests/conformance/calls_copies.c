// statx, many directory entries, and the calls that move bytes without showing them: sendfile, splice, tee, vmsplice,
// copy_file_range; memory files and their seals; looking at what a socket holds.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char const* call(long r) {
  return r >= 0 ? "ok" : strerrorname_np(errno);
}

static void show_stat(char const* name, int flags) {
  struct statx sx;
  memset(&sx, 0, sizeof sx);
  int const r = statx(AT_FDCWD, name, flags, STATX_BASIC_STATS, &sx);
  printf("statx %s %s", name, call(r));
  if (r == 0) {
    printf(", mode %o, size %llu, links %u, all asked %d", sx.stx_mode, (unsigned long long)sx.stx_size, sx.stx_nlink,
           (sx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
  }
  printf("\n");
}

static void stats(void) {
  int const fd = open("file", O_RDWR | O_CREAT, 0640);
  printf("write %zd\n", write(fd, "0123456789", 10));
  printf("symlink %s\n", call(symlink("file", "soft")));
  show_stat("file", 0);
  show_stat("soft", 0);
  show_stat("soft", AT_SYMLINK_NOFOLLOW);
  show_stat("none", 0);
  show_stat("file/below", 0);
  struct statx sx;
  printf("of a descriptor %s", call(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx)));
  printf(", size %llu", (unsigned long long)sx.stx_size);
  printf(", bad flags %s", call(statx(fd, "", 0x40000000, STATX_SIZE, &sx)));
  printf(", bad buffer %s\n", call(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, (struct statx*)8)));
  close(fd);
}

// More than fit in one call of getdents64; read twice, the second time from a remembered place.
static void directory(void) {
  printf("mkdir %s\n", call(mkdir("many", 0755)));
  char name[64];
  for (int i = 0; i < 1500; i++) {
    snprintf(name, sizeof name, "many/entry-with-a-long-name-%04d", i);
    close(open(name, O_CREAT | O_WRONLY, 0600));
  }
  DIR* const dir = opendir("many");
  int seen = 0, sum = 0, after = 0;
  long middle = 0;
  for (struct dirent* e; (e = readdir(dir)) != NULL; seen++) {
    if (e->d_name[0] != '.') sum += atoi(e->d_name + strlen("entry-with-a-long-name-"));
    if (seen == 700) middle = telldir(dir);
  }
  seekdir(dir, middle);
  while (readdir(dir) != NULL) after++;
  rewinddir(dir);
  int again = 0;
  while (readdir(dir) != NULL) again++;
  closedir(dir);
  printf("entries %d, sum %d, after the middle %d, again %d\n", seen, sum, after, again);
}

static void moves(void) {
  int const from = open("file", O_RDONLY), to = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
  off_t at = 2;
  printf("sendfile %zd", sendfile(to, from, &at, 5));
  printf(", now at %ld", (long)at);
  loff_t in = 7, out = 5;
  printf(", copy_file_range %zd", copy_file_range(from, &in, to, &out, 100, 0));
  printf(" to %ld, %ld", (long)in, (long)out);
  printf(", bad flags %s", call(copy_file_range(from, &in, to, &out, 1, 1)));
  char text[64] = "";
  ssize_t n = pread(to, text, sizeof text, 0);
  printf(", holds %zd %s\n", n, text);

  int one[2], two[2];
  printf("pipes %s %s", call(pipe(one)), call(pipe2(two, O_NONBLOCK)));
  in = 0;
  printf(", splice in %zd", splice(from, &in, one[1], NULL, 4, 0));
  struct iovec part = {(void*)(unsigned long)"abcd", 4};
  printf(", vmsplice %zd", vmsplice(one[1], &part, 1, 0));
  printf(", tee %zd", tee(one[0], two[1], 64, 0));
  memset(text, 0, sizeof text);
  n = read(two[0], text, sizeof text);
  printf(", read %zd %s", n, text);
  printf(", empty %s", call(read(two[0], text, 1)));
  printf(", splice out %zd", splice(one[0], NULL, to, NULL, 64, 0));
  printf(", between files %s\n", call(splice(from, NULL, to, NULL, 1, 0)));
  close(from);
  close(to);
}

static void memory_files(void) {
  int const fd = memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  printf("memfd %s, truncate %s", call(fd), call(ftruncate(fd, 8192)));
  char* const map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  strcpy(map + 4090, "over the edge");
  char text[16] = "";
  printf(", read %zd %s", pread(fd, text, 13, 4090), text);
  printf(", seal with a writer %s", call(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)));
  munmap(map, 8192);
  printf(", without %s", call(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK)));
  printf(", seals %x", fcntl(fd, F_GET_SEALS));
  printf(", write %s", call(write(fd, "x", 1)));
  printf(", shrink %s\n", call(ftruncate(fd, 1)));
  close(fd);
}

static void peeks(void) {
  int pair[2];
  char text[32] = "";
  printf("socketpair %s", call(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)));
  printf(", send %zd", send(pair[0], "hello there", 11, 0));
  printf(", peek %zd", recv(pair[1], text, 5, MSG_PEEK));
  printf(" %s", text);
  printf(", again %zd", recv(pair[1], text, 31, MSG_PEEK | MSG_DONTWAIT));
  printf(" %s", text);
  printf(", take %zd", recv(pair[1], text, 31, 0));
  printf(", empty %s", call(recv(pair[1], text, 31, MSG_PEEK | MSG_DONTWAIT)));
  close(pair[0]);
  printf(", end %zd\n", recv(pair[1], text, 31, 0));
  close(pair[1]);
}

int main(void) {
  char folder[] = "/tmp/conformance-XXXXXX";
  if (mkdtemp(folder) == NULL || chdir(folder) != 0) return 1;
  umask(022);
  stats();
  directory();
  moves();
  memory_files();
  peeks();
  char command[128];
  snprintf(command, sizeof command, "%s", folder);
  for (int i = 0; i < 1500; i++) {
    char name[64];
    snprintf(name, sizeof name, "many/entry-with-a-long-name-%04d", i);
    unlink(name);
  }
  rmdir("many");
  unlink("file");
  unlink("soft");
  unlink("copy");
  chdir("/");
  printf("left behind: %s\n", call(rmdir(command)));
  return 0;
}
