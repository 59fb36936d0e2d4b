// Files, directories, links, pipes, locks, attributes, and the views of /proc/self that do not depend on the machine.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

static char const* call(long r) {
  return r >= 0 ? "ok" : strerrorname_np(errno);
}

static int by_name(void const* a, void const* b) {
  return strcmp((char const*)a, (char const*)b);
}

static void list(char const* path) {
  char names[16][64];
  unsigned n = 0;
  DIR* const dir = opendir(path);
  if (dir == NULL) {
    printf("opendir %s\n", strerrorname_np(errno));
    return;
  }
  for (struct dirent* entry; (entry = readdir(dir)) != NULL && n < 16;)
    snprintf(names[n++], 64, "%.63s", entry->d_name);
  closedir(dir);
  qsort(names, n, 64, by_name);
  for (unsigned i = 0; i < n; i++) printf(" %s", names[i]);
  printf("\n");
}

static void files(void) {
  umask(022);
  int const fd = open("file", O_RDWR | O_CREAT | O_EXCL, 0666);
  printf("create %s", call(fd));
  printf(", again %s", call(open("file", O_RDWR | O_CREAT | O_EXCL, 0666)));
  printf(", none %s\n", call(open("none/file", O_RDONLY)));
  struct iovec parts[2] = {{(void*)(unsigned long)"hello ", 6}, {(void*)(unsigned long)"world", 5}};
  ssize_t n = pwritev(fd, parts, 2, 3);
  struct stat st;
  fstat(fd, &st);
  printf("pwritev %zd, size %ld, mode %o, links %lu", n, (long)st.st_size, st.st_mode, st.st_nlink);
  char text[32] = "";
  n = pread(fd, text, 20, 3);
  printf(", pread %zd %s, at %ld", n, text, (long)lseek(fd, 0, SEEK_CUR));
  printf(", to the end %ld", (long)lseek(fd, -4, SEEK_END));
  printf(", before the start %s\n", call(lseek(fd, -1, SEEK_SET)));
  n = read(fd, text, 20);
  printf("read %zd %.4s, truncate %s", n, text, call(ftruncate(fd, 5)));
  printf(", append %s", call(fcntl(fd, F_SETFL, O_APPEND)));
  n = pwrite(fd, "!", 1, 0);
  fstat(fd, &st);
  printf(", size %ld, fsync %s, flags %x\n", (long)st.st_size, call(fsync(fd)),
         fcntl(fd, F_GETFL) & (O_APPEND | O_ACCMODE));
  printf("link %s", call(link("file", "other")));
  printf(", symlink %s", call(symlink("file", "soft")));
  n = readlink("soft", text, sizeof text);
  printf(", readlink %zd %.4s", n, text);
  lstat("soft", &st);
  printf(", soft %d", S_ISLNK(st.st_mode));
  printf(", rename %s", call(rename("other", "renamed")));
  printf(", mkdir %s", call(mkdir("dir", 0755)));
  printf(", rmdir of a file %s", call(rmdir("renamed")));
  printf(", chmod %s", call(chmod("renamed", 0600)));
  printf(", access %s", call(access("renamed", X_OK)));
  printf(", of a missing one %s\n", call(access("missing", F_OK)));
  printf("here:");
  list(".");
  struct timespec times[2] = {{1000, 5}, {2000, 7}};
  utimensat(AT_FDCWD, "renamed", times, 0);
  stat("renamed", &st);
  printf("times %ld %ld", (long)st.st_mtim.tv_sec, (long)st.st_mtim.tv_nsec);
  printf(", chdir %s", call(chdir("dir")));
  char cwd[4096];
  printf(", cwd ends so %s", getcwd(cwd, sizeof cwd) != NULL ? strrchr(cwd, '/') : "?");
  printf(", above %s", call(chdir("..")));
  printf(", unlink %s", call(unlink("renamed")));
  printf(", rmdir %s\n", call(rmdir("dir")));
  int const two = dup2(fd, 77), three = fcntl(fd, F_DUPFD_CLOEXEC, 80);
  printf("dup2 %d, dup from 80 %d, cloexec %d", two, three, fcntl(three, F_GETFD));
  printf(", close_range %s", call(close_range(70, 90, 0)));
  printf(", closed %s\n", call(fcntl(77, F_GETFD)));
}

static void pipes_and_locks(void) {
  int fds[2];
  if (pipe2(fds, O_NONBLOCK) != 0) return;
  char block[4096];
  memset(block, 'p', sizeof block);
  printf("pipe: empty %s", call(read(fds[0], block, 1)));
  long sum = 0;
  for (ssize_t n; (n = write(fds[1], block, sizeof block)) > 0;) sum += n;
  printf(", full after %ld: %s, capacity %d\n", sum, strerrorname_np(errno), fcntl(fds[1], F_GETPIPE_SZ));
  int const file = open("file", O_RDWR), other = open("file", O_RDWR);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
  printf("own lock %s", call(fcntl(file, F_OFD_SETLK, &lock)));
  printf(", other's %s", call(fcntl(other, F_OFD_SETLK, &lock)));
  fcntl(other, F_OFD_GETLK, &lock);
  printf(", held %d from %ld for %ld", lock.l_type == F_WRLCK, (long)lock.l_start, (long)lock.l_len);
  lock.l_type = F_UNLCK;
  lock.l_pid = 0;
  printf(", released %s", call(fcntl(file, F_OFD_SETLK, &lock)));
  lock.l_type = F_WRLCK;
  printf(", other's %s", call(fcntl(other, F_OFD_SETLK, &lock)));
  printf(", of the process %s", call(fcntl(file, F_SETLK, &lock)));
  printf(", flock %s", call(flock(file, LOCK_EX | LOCK_NB)));
  printf(", twice %s\n", call(flock(other, LOCK_EX | LOCK_NB)));
}

static void views(int argc, char** argv) {
  char text[256] = "";
  FILE* f = fopen("/proc/self/comm", "r");
  if (f != NULL && fgets(text, sizeof text, f) != NULL) printf("comm %s", text);
  if (f != NULL) fclose(f);
  f = fopen("/proc/self/cmdline", "r");
  size_t const n = f != NULL ? fread(text, 1, sizeof text, f) : 0;
  if (f != NULL) fclose(f);
  printf("cmdline is argv[0]: %d (%d)", n == strlen(argv[0]) + 1 && strcmp(text, argv[0]) == 0, argc);
  char exe[4096] = "";
  ssize_t const size = readlink("/proc/self/exe", exe, sizeof exe - 1);
  printf(", exe %s", size > 0 ? strrchr(exe, '/') : strerrorname_np(errno));
  f = fopen("/proc/self/maps", "r");
  int heap = 0, stack = 0, own = 0, lines = 0;
  if (f == NULL) return;
  while (fgets(text, sizeof text, f) != NULL) {
    lines++;
    heap |= strstr(text, "[heap]") != NULL;
    stack |= strstr(text, "[stack]") != NULL;
    own |= strstr(text, "calls_files") != NULL;
  }
  fclose(f);
  printf(", maps: heap %d, stack %d, program %d, some %d\n", heap, stack, own, lines > 5);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 20;
  printf("rlimit: %s", call(setrlimit(RLIMIT_NOFILE, &limit)));
  int opened = 0;
  while (opened < 100 && open("/dev/null", O_RDONLY) >= 0) opened++;
  printf(", too many %s", strerrorname_np(errno));
  printf(", above the hard one %s\n", call(setrlimit(RLIMIT_NOFILE, &(struct rlimit){9, 8})));
  unsigned char random[64] = {0};
  int zeros = 0;
  ssize_t const got = getrandom(random, sizeof random, 0);
  for (unsigned i = 0; i < sizeof random; i++) zeros += random[i] == 0;
  printf("getrandom %zd, random %d, bad flags %s", got, zeros < 16, call(getrandom(random, 1, 0x80)));
  struct utsname name;
  printf(", uname %s %s %s\n", call(uname(&name)), name.sysname, name.machine);
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  files();
  pipes_and_locks();
  views(argc, argv);
  return 0;
}
