// Changes files in every way and knows what each must hold: a model in its memory. After each step one file is read and
// compared. A restored guest whose files are not those of its memory finds out. Ends when a file "stop" is there: 0, or
// 3: a file was not as the model had it.
//
// usage: failover_guest FOLDER
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kThreads = 3, kFiles = 5, kLargest = 20000, kMapped = 65536 };

struct file {
  int there;
  size_t size;
  unsigned char bytes[kLargest];
};
struct worker {
  char folder[256];
  unsigned long long random;
  struct file files[kFiles];
  int log, map_fd;
  size_t log_size;
  unsigned char *map, *map_model;
  unsigned long steps;
};
static volatile int stopping;

static void wrong(const struct worker* w, const char* what, ...) {
  va_list list;
  va_start(list, what);
  printf("wrong: %s: step %lu: ", w->folder, w->steps);
  vprintf(what, list);
  printf(" (errno %d)\n", errno);
  fflush(stdout);
  _exit(3);
}

static unsigned pick(struct worker* w, unsigned below) {
  w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
  return (unsigned)(w->random >> 11) % below;
}

static const char* path_of(const struct worker* w, unsigned n, char* text) {
  snprintf(text, 300, "%s/f%u", w->folder, n);
  return text;
}

static void check(struct worker* w, unsigned n) {
  char path[300];
  static __thread unsigned char bytes[kLargest + 1];
  struct file* f = &w->files[n];
  int fd = open(path_of(w, n, path), O_RDONLY);
  if ((fd >= 0) != f->there) wrong(w, "%s is %s", path, fd >= 0 ? "there" : "not there");
  if (fd < 0) return;
  ssize_t got = pread(fd, bytes, sizeof bytes, 0);
  if (got != (ssize_t)f->size) wrong(w, "%s has %zd bytes, not %zu", path, got, f->size);
  for (ssize_t i = 0; i < got; ++i) {
    if (bytes[i] != f->bytes[i]) wrong(w, "%s: byte %zd is %02x, not %02x", path, i, bytes[i], f->bytes[i]);
  }
  close(fd);
}

static void check_map(struct worker* w) {
  static __thread unsigned char bytes[kMapped];
  if (pread(w->map_fd, bytes, kMapped, 0) != kMapped) wrong(w, "the mapped file is shorter");
  if (memcmp(bytes, w->map, kMapped) != 0) wrong(w, "the mapping is not its file");
  for (unsigned i = 0; i < kMapped; ++i) {
    if (bytes[i] != w->map_model[i])
      wrong(w, "the mapped file: byte %u is %02x, not %02x", i, bytes[i], w->map_model[i]);
  }
}

static void check_log(struct worker* w) {
  struct stat st;
  char last[9] = "", wanted[9];
  if (fstat(w->log, &st) != 0 || (size_t)st.st_size != w->log_size)
    wrong(w, "the log has %ld bytes, not %zu", (long)st.st_size, w->log_size);
  if (w->log_size == 0) return;
  snprintf(wanted, sizeof wanted, "%07u\n", (unsigned)(w->log_size / 8 % 10000000));
  if (pread(w->log, last, 8, (off_t)w->log_size - 8) != 8 || strcmp(last, wanted) != 0)
    wrong(w, "the log ends with %s, not %s", last, wanted);
}

static void change_bytes(struct worker* w, unsigned n) {
  static __thread unsigned char bytes[4000];
  char path[300];
  struct file* f = &w->files[n];
  int fd = open(path_of(w, n, path), O_WRONLY);
  if (fd < 0) wrong(w, "open %s", path);
  size_t at = pick(w, kLargest - (unsigned)sizeof bytes), size = 1 + pick(w, sizeof bytes);
  memset(bytes, (int)pick(w, 256), size);
  if (pick(w, 2) == 0) {
    if (lseek(fd, (off_t)at, SEEK_SET) < 0 || write(fd, bytes, size) != (ssize_t)size) wrong(w, "write %s", path);
  } else if (pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size) {
    wrong(w, "pwrite %s", path);
  }
  if (at > f->size) memset(f->bytes + f->size, 0, at - f->size);
  memcpy(f->bytes + at, bytes, size);
  if (at + size > f->size) f->size = at + size;
  if (pick(w, 3) == 0 && fsync(fd) != 0) wrong(w, "fsync %s", path);
  close(fd);
}

static void step(struct worker* w) {
  char path[300], to[300];
  unsigned n = pick(w, kFiles), m = pick(w, kFiles);
  struct file* f = &w->files[n];
  ++w->steps;
  switch (pick(w, 10)) {
    case 0: {  // made, or cut to nothing
      int fd = open(path_of(w, n, path), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      if (fd < 0) wrong(w, "create %s", path);
      close(fd);
      f->there = 1, f->size = 0;
      break;
    }
    case 1:
      if (unlink(path_of(w, n, path)) != (f->there ? 0 : -1)) wrong(w, "unlink %s", path);
      f->there = 0;
      break;
    case 2:
      if (!f->there || n == m) break;
      if (rename(path_of(w, n, path), path_of(w, m, to)) != 0) wrong(w, "rename %s %s", path, to);
      w->files[m] = *f;
      f->there = 0;
      break;
    case 3: {
      if (!f->there) break;
      size_t size = pick(w, kLargest);
      if (truncate(path_of(w, n, path), (off_t)size) != 0) wrong(w, "truncate %s", path);
      if (size > f->size) memset(f->bytes + f->size, 0, size - f->size);
      f->size = size;
      break;
    }
    case 4: {
      char line[9];
      snprintf(line, sizeof line, "%07u\n", (unsigned)((w->log_size / 8 + 1) % 10000000));
      if (write(w->log, line, 8) != 8) wrong(w, "append");
      w->log_size += 8;
      break;
    }
    case 5: {  // by the mapping
      unsigned at = pick(w, kMapped - 64), value = pick(w, 256);
      memset(w->map + at, (int)value, 64);
      memset(w->map_model + at, (int)value, 64);
      break;
    }
    case 6: {  // beside it
      unsigned char bytes[100];
      unsigned at = pick(w, kMapped - 100);
      memset(bytes, (int)pick(w, 256), sizeof bytes);
      if (pwrite(w->map_fd, bytes, sizeof bytes, at) != sizeof bytes) wrong(w, "pwrite of the mapped file");
      memcpy(w->map_model + at, bytes, sizeof bytes);
      break;
    }
    case 7: {  // mapped anew, at another place
      munmap(w->map, kMapped);
      w->map = mmap(NULL, kMapped, PROT_READ | PROT_WRITE, MAP_SHARED, w->map_fd, 0);
      if (w->map == MAP_FAILED) wrong(w, "mmap");
      break;
    }
    default:
      if (f->there) change_bytes(w, n);
  }
  check(w, pick(w, kFiles));
  check_log(w);
  if (w->steps % 8 == 0) check_map(w);
}

static void* work(void* argument) {
  struct worker* w = argument;
  char path[300];
  if (mkdir(w->folder, 0755) != 0) wrong(w, "mkdir");
  snprintf(path, sizeof path, "%s/log", w->folder);
  w->log = open(path, O_RDWR | O_CREAT | O_APPEND, 0644);
  snprintf(path, sizeof path, "%s/map", w->folder);
  w->map_fd = open(path, O_RDWR | O_CREAT, 0644);
  if (w->log < 0 || w->map_fd < 0 || ftruncate(w->map_fd, kMapped) != 0) wrong(w, "files");
  w->map = mmap(NULL, kMapped, PROT_READ | PROT_WRITE, MAP_SHARED, w->map_fd, 0);
  w->map_model = calloc(1, kMapped);
  if (w->map == MAP_FAILED || w->map_model == NULL) wrong(w, "mmap");
  while (!stopping) step(w);
  return NULL;
}

int main(int argc, char** argv) {
  static struct worker workers[kThreads];
  pthread_t threads[kThreads];
  char stop[300];
  if (argc != 2) return 2;
  snprintf(stop, sizeof stop, "%s/stop", argv[1]);
  for (unsigned t = 0; t < kThreads; ++t) {
    snprintf(workers[t].folder, sizeof workers[t].folder, "%s/%u", argv[1], t);
    workers[t].random = 88172645463325252ULL + t * 7919;
    if (pthread_create(&threads[t], NULL, work, &workers[t]) != 0) return 4;
  }
  while (access(stop, F_OK) != 0) usleep(5000);
  stopping = 1;
  unsigned long steps = 0;
  for (unsigned t = 0; t < kThreads; ++t) {
    pthread_join(threads[t], NULL);
    steps += workers[t].steps;
  }
  printf("right: %lu steps\n", steps);
  return 0;
}
