/* A guest for checkpoint_test: makes one kind of state, prints "ready", waits until a file appears, and looks whether
   everything is as it should be. What it cannot see for itself it prints. Usage: checkpoint_guest KIND GO_FILE
   SCRATCH_DIRECTORY. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static char const* go_file;
static char const* scratch;

#define CHECK(what)                                                      \
  do {                                                                   \
    if (!(what)) {                                                       \
      printf("wrong: line %d: %s (errno %d)\n", __LINE__, #what, errno); \
      fflush(stdout);                                                    \
      _exit(1);                                                          \
    }                                                                    \
  } while (0)

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000 + t.tv_nsec;
}

static void nap(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {
  }
}

static int may_go(void) {
  return access(go_file, F_OK) == 0;
}

static void wait_for_go(void) {
  printf("ready\n");
  fflush(stdout);
  while (!may_go()) nap(2);
}

/* ---- registers: what a thread holds in them alone ---- */

static volatile int stop;

__attribute__((noinline)) static void* spin_registers(void* seed_address) {
  double const seed = *(double*)seed_address;
  register double a = seed, b = seed * 2, c = seed * 3, d = seed * 5;
  register uint64_t i = 0, x = (uint64_t)seed, y = ~x;
  long double l = seed;
  while (!stop) {
    for (int k = 0; k < 1000; k++) {
      a += 1;
      b += 2;
      c += 3;
      d += 5;
      l += 1;
      i++;
      x += 7;
      y -= 7;
    }
  }
  int const good = a == seed + (double)i && b == seed * 2 + 2 * (double)i && c == seed * 3 + 3 * (double)i &&
                   d == seed * 5 + 5 * (double)i && l == (long double)seed + (long double)i &&
                   x == (uint64_t)seed + 7 * i && y == ~(uint64_t)seed - 7 * i;
  return (void*)(intptr_t)(good ? 1 : 0);
}

static void registers(void) {
  pthread_t threads[4];
  double seeds[4] = {11, 222, 3333, 44444};
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, spin_registers, &seeds[i]) == 0);
  wait_for_go();
  stop = 1;
  for (int i = 0; i < 4; i++) {
    void* good = NULL;
    pthread_join(threads[i], &good);
    CHECK(good == (void*)1);
  }
}

/* ---- calls that wait ---- */

static int pipe_ends[2], event, epoll, listener;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;
static int64_t slept_from, slept_to;

static void* in_read(void* unused) {
  (void)unused;
  char byte = 0;
  CHECK(read(pipe_ends[0], &byte, 1) == 1 && byte == 'r');
  return (void*)1;
}
static void* in_futex(void* unused) {
  (void)unused;
  pthread_mutex_lock(&mutex);
  while (turn == 0) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  return (void*)1;
}
static void* in_timed_futex(void* unused) {
  (void)unused;
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 3600;
  pthread_mutex_lock(&mutex);
  int r = 0;
  while (turn == 0 && r == 0) r = pthread_cond_timedwait(&changed, &mutex, &until);
  pthread_mutex_unlock(&mutex);
  return (void*)(intptr_t)(r == 0);
}
static void* in_epoll(void* unused) {
  (void)unused;
  struct epoll_event e;
  CHECK(epoll_wait(epoll, &e, 1, 3600000) == 1 && e.data.u64 == 0x123456789abcdefULL);
  return (void*)1;
}
static void* in_poll(void* unused) {
  (void)unused;
  struct pollfd p = {event, POLLIN, 0};
  CHECK(poll(&p, 1, -1) == 1 && p.revents == POLLIN);
  return (void*)1;
}
static void* in_sleep(void* unused) {
  (void)unused;
  slept_from = now_ns();
  struct timespec t = {1, 500000000};
  CHECK(nanosleep(&t, NULL) == 0);
  slept_to = now_ns();
  return (void*)1;
}
static void* in_accept(void* unused) {
  (void)unused;
  int const fd = accept(listener, NULL, NULL);
  CHECK(fd >= 0);
  char byte = 0;
  CHECK(read(fd, &byte, 1) == 1 && byte == 'a');
  close(fd);
  return (void*)1;
}
static void* in_sigwait(void* unused) {
  (void)unused;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  struct timespec const hour = {3600, 0};
  siginfo_t info;
  CHECK(sigtimedwait(&set, &info, &hour) == SIGUSR2 && info.si_value.sival_int == 77);
  return (void*)1;
}

static struct sockaddr_in listen_somewhere(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  listener = socket(AF_INET, SOCK_STREAM, 0);
  int const on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  CHECK(bind(listener, (struct sockaddr*)&at, size) == 0 && listen(listener, 16) == 0);
  CHECK(getsockname(listener, (struct sockaddr*)&at, &size) == 0);
  return at;
}

static void waiting(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  CHECK(pipe(pipe_ends) == 0);
  event = eventfd(0, 0);
  epoll = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x123456789abcdefULL};
  int const event2 = eventfd(0, 0);
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, event2, &e) == 0);
  struct sockaddr_in at = listen_somewhere();
  void* (*const calls[])(void*) = {in_read, in_futex,  in_timed_futex, in_epoll,
                                   in_poll, in_accept, in_sigwait,     in_sleep};
  enum { kCalls = sizeof calls / sizeof *calls };
  pthread_t threads[kCalls];
  for (int i = 0; i < kCalls; i++) CHECK(pthread_create(&threads[i], NULL, calls[i], NULL) == 0);
  nap(100);
  wait_for_go();
  CHECK(write(pipe_ends[1], "r", 1) == 1);
  pthread_mutex_lock(&mutex);
  turn = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  uint64_t one = 1;
  CHECK(write(event, &one, 8) == 8 && write(event2, &one, 8) == 8);
  int const client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr*)&at, sizeof at) == 0 && write(client, "a", 1) == 1);
  union sigval const value = {.sival_int = 77};
  CHECK(pthread_sigqueue(threads[6], SIGUSR2, value) == 0);
  for (int i = 0; i < kCalls; i++) {
    void* good = NULL;
    pthread_join(threads[i], &good);
    CHECK(good == (void*)1);
  }
  /* It slept for its time, counted from when it began, not anew. */
  CHECK(slept_to - slept_from >= 1500000000);
}

/* ---- timers and clocks ---- */

static volatile int alarms, ticks_of_timer;
static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}
static void on_timer(int signal, siginfo_t* info, void* context) {
  (void)signal;
  (void)context;
  if (info->si_value.sival_int == 4711) ticks_of_timer++;
}
static volatile int64_t latest;
static void* watch_clock(void* unused) {
  (void)unused;
  while (!stop) {
    int64_t const now = now_ns();
    if (now < latest) return NULL;
    latest = now;
    if (now % 8 == 0) nap(1);
  }
  return (void*)1;
}

static void timers(void) {
  signal(SIGALRM, on_alarm);
  struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGRTMIN + 3, &action, NULL);
  struct itimerval const each = {{0, 20000}, {0, 20000}};
  setitimer(ITIMER_REAL, &each, NULL);
  struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = 4711};
  timer_t timer;
  CHECK(timer_create(CLOCK_MONOTONIC, &how, &timer) == 0);
  struct itimerspec const often = {{0, 10000000}, {0, 10000000}};
  CHECK(timer_settime(timer, 0, &often, NULL) == 0);
  int const fd = timerfd_create(CLOCK_MONOTONIC, 0);
  CHECK(timerfd_settime(fd, 0, &often, NULL) == 0);
  int const far = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec const hour = {{0, 0}, {3600, 0}};
  CHECK(timerfd_settime(far, 0, &hour, NULL) == 0);
  pthread_t clock;
  CHECK(pthread_create(&clock, NULL, watch_clock, NULL) == 0);
  wait_for_go();
  int const alarms_before = alarms, ticks_before = ticks_of_timer;
  uint64_t count = 0;
  int r;
  while ((r = (int)read(fd, &count, 8)) < 0 && errno == EINTR) {
  }
  CHECK(r == 8 && count > 0);
  while ((r = (int)read(fd, &count, 8)) < 0 && errno == EINTR) {
  }
  CHECK(r == 8 && count > 0);
  struct itimerspec left;
  CHECK(timerfd_gettime(far, &left) == 0 && left.it_value.tv_sec > 3500 && left.it_value.tv_sec < 3600);
  CHECK(read(far, &count, 8) < 0 && errno == EAGAIN);
  nap(200);
  CHECK(alarms > alarms_before && ticks_of_timer > ticks_before);
  stop = 1;
  void* good = NULL;
  pthread_join(clock, &good);
  CHECK(good == (void*)1);
}

/* ---- signals ---- */

static volatile int order[16], taken;
static void note_signal(int signal, siginfo_t* info, void* context) {
  (void)context;
  if (taken < 16) order[taken++] = signal * 1000 + (signal >= SIGRTMIN ? info->si_value.sival_int : 0);
}
static volatile int inside;
static char* stack_seen; /* where the handler runs */
static void stay_inside(int signal) {
  (void)signal;
  stack_seen = (char*)__builtin_frame_address(0);
  inside = 1;
  while (inside == 1) nap(1);
  inside = 3;
}
static void* in_handler(void* alt) {
  stack_t stack = {.ss_sp = alt, .ss_size = 65536};
  CHECK(sigaltstack(&stack, NULL) == 0);
  raise(SIGHUP);
  stack_t now;
  CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == alt && now.ss_size == 65536);
  return (void*)1;
}

static void signals(void) {
  struct sigaction action = {.sa_sigaction = note_signal, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGRTMIN + 1, &action, NULL);
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  sigaddset(&set, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &set, &before);
  signal(SIGWINCH, SIG_IGN);
  kill(getpid(), SIGUSR1);
  for (int i = 1; i <= 3; i++) {
    union sigval const value = {.sival_int = i};
    CHECK(sigqueue(getpid(), SIGRTMIN + 1, value) == 0);
  }
  sigset_t second;
  sigemptyset(&second);
  sigaddset(&second, SIGUSR2);
  int const fd = signalfd(-1, &second, SFD_NONBLOCK);
  CHECK(fd >= 0);
  kill(getpid(), SIGUSR2);
  char* const alt = malloc(65536);
  struct sigaction stay = {.sa_handler = stay_inside, .sa_flags = SA_ONSTACK};
  sigaction(SIGHUP, &stay, NULL);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, in_handler, alt) == 0);
  while (inside == 0) nap(1);
  wait_for_go();
  struct pollfd ready = {fd, POLLIN, 0};
  CHECK(poll(&ready, 1, 0) == 1);
  struct signalfd_siginfo info;
  CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2);
  CHECK(stack_seen > alt && stack_seen < alt + 65536);
  inside = 2;
  void* good = NULL;
  pthread_join(thread, &good);
  CHECK(good == (void*)1 && inside == 3);
  sigset_t pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN + 1) && !sigismember(&pending, SIGHUP));
  sigprocmask(SIG_SETMASK, &before, NULL);
  int const rt = (SIGRTMIN + 1) * 1000;
  CHECK(taken == 4);
  /* Frames nest: the lowest number's handler was made first and runs last. */
  int seen = 0;
  for (int i = 0; i < 4; i++) seen += order[i];
  CHECK(seen == SIGUSR1 * 1000 + rt * 3 + 6);
  struct sigaction ignored;
  sigaction(SIGWINCH, NULL, &ignored);
  CHECK(ignored.sa_handler == SIG_IGN);
}

/* ---- descriptors ---- */

static char* in_scratch(char const* name) {
  char* path = NULL;
  CHECK(asprintf(&path, "%s/%s", scratch, name) > 0);
  return path;
}

static void descriptors(void) {
  char text[64] = {0};
  int ends[2], small[2];
  CHECK(pipe(ends) == 0 && write(ends[1], "in the pipe", 11) == 11);
  CHECK(pipe2(small, O_NONBLOCK) == 0);
  int const counter = eventfd(41, 0), semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CHECK(write(pair[0], "to the right", 12) == 12 && write(pair[1], "to the left", 11) == 11);
  int messages[2];
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, messages) == 0);
  CHECK(send(messages[0], "one", 3, 0) == 3 && send(messages[0], "three", 5, 0) == 5);
  int const file = open(in_scratch("file"), O_RDWR | O_CREAT, 0600);
  CHECK(file >= 0 && write(file, "0123456789", 10) == 10 && lseek(file, 4, SEEK_SET) == 4);
  int const same = dup(file);
  int const log = open(in_scratch("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  CHECK(log >= 0 && write(log, "before\n", 7) == 7);
  int const gone = open(in_scratch("gone"), O_RDWR | O_CREAT, 0600);
  CHECK(write(gone, "nameless", 8) == 8 && unlink(in_scratch("gone")) == 0);
  int const memory = memfd_create("mine", 0);
  CHECK(write(memory, "memfd", 5) == 5);
  int const random = open("/dev/urandom", O_RDONLY), null = open("/dev/null", O_WRONLY);
  int const set = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.u64 = 99};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &e) == 0);
  e.data.u64 = 100;
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, small[0], &e) == 0);
  struct sockaddr_in at = listen_somewhere();
  int const client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr*)&at, sizeof at) == 0);
  int const udp = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, name;
  socklen_t size = sizeof any;
  CHECK(bind(udp, (struct sockaddr*)&any, size) == 0 && getsockname(udp, (struct sockaddr*)&any, &size) == 0);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3};
  CHECK(fcntl(file, F_SETLK, &lock) == 0);
  chdir(scratch);
  umask(027);
  wait_for_go();

  CHECK(read(ends[0], text, 64) == 11 && memcmp(text, "in the pipe", 11) == 0);
  CHECK(read(small[0], text, 1) < 0 && errno == EAGAIN);
  uint64_t value = 0;
  CHECK(read(counter, &value, 8) == 8 && value == 41);
  for (int i = 0; i < 3; i++) CHECK(read(semaphore, &value, 8) == 8 && value == 1);
  CHECK(read(semaphore, &value, 8) < 0 && errno == EAGAIN);
  CHECK(read(pair[1], text, 64) == 12 && memcmp(text, "to the right", 12) == 0);
  CHECK(read(pair[0], text, 64) == 11 && memcmp(text, "to the left", 11) == 0);
  CHECK(write(pair[0], "again", 5) == 5 && read(pair[1], text, 64) == 5);
  CHECK(recv(messages[1], text, 64, 0) == 3 && recv(messages[1], text, 64, 0) == 5);
  CHECK(read(same, text, 3) == 3 && memcmp(text, "456", 3) == 0 && lseek(file, 0, SEEK_CUR) == 7);
  CHECK(write(log, "after\n", 6) == 6 && (fcntl(log, F_GETFL) & O_APPEND) && (fcntl(log, F_GETFD) & FD_CLOEXEC));
  struct stat st;
  CHECK(fstat(log, &st) == 0 && st.st_size == 13);
  CHECK(pread(gone, text, 64, 0) == 8 && memcmp(text, "nameless", 8) == 0);
  CHECK(pread(memory, text, 64, 0) == 5 && lseek(memory, 0, SEEK_CUR) == 5);
  CHECK(read(random, text, 16) == 16 && write(null, text, 16) == 16);
  CHECK(write(small[1], "x", 1) == 1);
  CHECK(epoll_wait(set, &e, 1, 1000) == 1 && e.data.u64 == 100);
  /* A connection to the outside (here: to itself) is reset, and the listening socket listens again. */
  CHECK(read(client, text, 1) <= 0);
  int const again = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(again, (struct sockaddr*)&at, sizeof at) == 0);
  int const accepted = accept(listener, NULL, NULL);
  CHECK(accepted >= 0 && write(again, "hi", 2) == 2 && read(accepted, text, 2) == 2);
  size = sizeof name;
  CHECK(getsockname(udp, (struct sockaddr*)&name, &size) == 0 && name.sin_port == any.sin_port);
  char here[4096];
  CHECK(getcwd(here, sizeof here) != NULL && strcmp(here, scratch) == 0 && umask(0) == 027);
}

/* ---- memory ---- */

static void memory(void) {
  enum { kPages = 4096 };
  unsigned char* const map = mmap(NULL, kPages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(map != MAP_FAILED);
  for (int i = 0; i < kPages; i += 3) memset(map + i * 4096, i % 251 + 1, 4096);
  CHECK(mprotect(map + 4096 * 30, 4096 * 30, PROT_READ) == 0 && munmap(map + 4096 * 90, 4096 * 3) == 0);
  char* const heap = sbrk(1 << 20);
  memset(heap, 0x5a, 1 << 20);
  /* Pages change all the time, some of them back to zeros. */
  printf("ready\n");
  fflush(stdout);
  char* const end = sbrk(0);
  unsigned round = 0;
  unsigned char* const work = map + 4096 * 1024;
  while (!may_go()) {
    round++;
    for (int i = 0; i < 64; i++) {
      int const page = (int)((round * 64 + (unsigned)i) % 2048);
      memset(work + page * 4096, round % 5 == 0 ? 0 : (int)(round % 250 + 1), 4096);
      work[page * 4096 + 17] = (unsigned char)page;
    }
    char text[8192];
    int const fd = open("/proc/self/stat", O_RDONLY);
    CHECK(read(fd, text, sizeof text) > 0);
    close(fd);
    nap(1);
  }
  for (int page = 0; page < 2048; page++) {
    unsigned char const first = work[page * 4096];
    for (int i = 1; i < 4096; i++) {
      if (i == 17) { /* its own number, if the page has had its turn */
        CHECK(work[page * 4096 + 17] == (unsigned char)page || work[page * 4096 + 17] == first);
      } else {
        CHECK(work[page * 4096 + i] == first);
      }
    }
  }
  for (int i = 0; i < 1024; i += 3) {
    if (i >= 90 && i < 93) continue;
    for (int j = 0; j < 4096; j++) CHECK(map[i * 4096 + j] == (i % 251) + 1);
  }
  for (int i = 0; i < 1 << 20; i++) CHECK(heap[i] == 0x5a);
  CHECK(sbrk(0) == end);
  /* The hole and the protection are there still. */
  CHECK(write(-1, map + 4096 * 91, 1) < 0);
  int const null = open("/dev/zero", O_RDONLY);
  CHECK(read(null, map + 4096 * 31, 1) < 0 && errno == EFAULT);
  CHECK(read(null, map + 4096 * 91, 1) < 0 && errno == EFAULT);
}

/* ---- a file that is mapped shared, written by the mapping and beside it ---- */

static void mapped(void) {
  enum { kPages = 17 };
  int const fd = open(in_scratch("mapped"), O_RDWR | O_CREAT, 0600);
  CHECK(fd >= 0 && ftruncate(fd, kPages * 4096) == 0);
  unsigned char* const map = mmap(NULL, (kPages + 3) * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  unsigned char number = 0, beside = 0, text[4096];
  printf("ready\n");
  fflush(stdout);
  while (!may_go()) {
    number++;
    for (int i = 0; i < kPages - 1; i++) map[i * 4096 + 5] = number;
    if (number % 3 == 0) {
      beside = number;
      CHECK(pwrite(fd, &beside, 1, (kPages - 1) * 4096) == 1);
    }
    nap(1);
  }
  for (int i = 0; i < kPages - 1; i++) {
    CHECK(map[i * 4096 + 5] == number);
    CHECK(pread(fd, text, 4096, i * 4096) == 4096 && text[5] == number);
  }
  CHECK(map[(kPages - 1) * 4096] == beside);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_size == kPages * 4096);
  /* The place is ordinary memory again when the file has left it. */
  CHECK(mmap(map, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == map);
  for (int i = 0; i < 4096; i++) CHECK(map[i] == 0);
}

/* ---- many threads ---- */

static __thread uint64_t mine;
static uint64_t total;
static void* count_up(void* number) {
  mine = (uint64_t)(intptr_t)number << 32;
  uint64_t rounds = 0;
  while (!stop) {
    pthread_mutex_lock(&mutex);
    total++;
    pthread_mutex_unlock(&mutex);
    mine++;
    rounds++;
    if (rounds % 16 == 0) nap(1);
  }
  return (void*)(intptr_t)(mine == ((uint64_t)(intptr_t)number << 32) + rounds ? rounds : 0);
}

static void threads50(void) {
  enum { kThreads = 50 };
  pthread_t threads[kThreads];
  for (intptr_t i = 0; i < kThreads; i++) CHECK(pthread_create(&threads[i], NULL, count_up, (void*)(i + 1)) == 0);
  nap(200);
  wait_for_go();
  stop = 1;
  uint64_t sum = 0;
  for (int i = 0; i < kThreads; i++) {
    void* rounds = NULL;
    CHECK(pthread_join(threads[i], &rounds) == 0 && rounds != NULL);
    sum += (uint64_t)(intptr_t)rounds;
  }
  CHECK(sum == total);
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  go_file = argv[2];
  scratch = argv[3];
  struct {
    char const* name;
    void (*run)(void);
  } const kinds[] = {{"registers", registers},     {"waiting", waiting}, {"timers", timers},       {"signals", signals},
                     {"descriptors", descriptors}, {"memory", memory},   {"threads50", threads50}, {"mapped", mapped}};
  for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (strcmp(kinds[i].name, argv[1]) != 0) continue;
    kinds[i].run();
    printf("all is well\n");
    fflush(stdout);
    return 7;
  }
  return 2;
}
