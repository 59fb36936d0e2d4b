// What a program learns of its machine and of itself: processors, affinity, limits, names, its maps, its threads.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

static char const* call(long r) {
  return r >= 0 ? "ok" : strerrorname_np(errno);
}

static void* in_thread(void* mask) {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  pthread_getaffinity_np(pthread_self(), sizeof mine, &mine);
  *(int*)mask = CPU_COUNT(&mine);
  return NULL;
}

static int count_from_thread(void) {
  int count = 0;
  pthread_t thread;
  if (pthread_create(&thread, NULL, in_thread, &count) != 0) return -1;
  pthread_join(thread, NULL);
  return count;
}

static void processors(void) {
  cpu_set_t all, one;
  CPU_ZERO(&all);
  printf("affinity %s", call(sched_getaffinity(0, sizeof all, &all)));
  printf(", %d processors", CPU_COUNT(&all));
  printf(", online %ld, configured %ld, get_nprocs %d", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_CONF),
         get_nprocs());
  printf(", a thread sees %d\n", count_from_thread());
  int first = 0;
  while (!CPU_ISSET(first, &all)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  printf("on one %s", call(sched_setaffinity(0, sizeof one, &one)));
  unsigned cpu = 0, node = 0;
  printf(", getcpu %s %d", call(syscall(SYS_getcpu, &cpu, &node, NULL)), (int)cpu == first);
  printf(", sched_getcpu %d", sched_getcpu() == first);
  CPU_ZERO(&one);
  sched_getaffinity(0, sizeof one, &one);
  printf(", now %d, a thread inherits %d", CPU_COUNT(&one), count_from_thread());
  printf(", back %s", call(sched_setaffinity(0, sizeof all, &all)));
  CPU_ZERO(&one);
  printf(", none %s", call(sched_setaffinity(0, sizeof one, &one)));
  printf(", short mask %s", call(syscall(SYS_sched_getaffinity, 0, 4, &one)));
  printf(", of nobody %s\n", call(sched_getaffinity(999999, sizeof one, &one)));
}

// A thread may be asked for as soon as it has been made.
static void new_threads(void) {
  int wrong = 0;
  for (int i = 0; i < 200; i++) {
    int count = 0;
    pthread_t thread;
    cpu_set_t mask;
    pthread_create(&thread, NULL, in_thread, &count);
    int const r = pthread_getaffinity_np(thread, sizeof mask, &mask);
    wrong += r != 0 && r != ESRCH;  // ESRCH: it has ended
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    pthread_attr_setaffinity_np(&attributes, sizeof one, &one);
    int pinned = 0;
    pthread_t second;
    if (pthread_create(&second, &attributes, in_thread, &pinned) != 0) wrong++;
    pthread_join(second, NULL);
    pthread_join(thread, NULL);
    wrong += pinned != 1;
    pthread_attr_destroy(&attributes);
  }
  printf("new threads: %d wrong\n", wrong);
}

static void itself(void) {
  struct utsname name;
  printf("uname %s %s %s", call(uname(&name)), name.sysname, name.machine);
  printf(", page %ld, clock ticks %ld", sysconf(_SC_PAGESIZE), sysconf(_SC_CLK_TCK));
  struct sysinfo info;
  printf(", sysinfo %s, has memory %d", call(sysinfo(&info)), info.totalram > 0);
  printf(", auxv pagesize %lu, secure %lu", getauxval(AT_PAGESZ), getauxval(AT_SECURE));
  printf(", random %d, name %s\n", getauxval(AT_RANDOM) != 0, strrchr((char const*)getauxval(AT_EXECFN), '/') + 1);
  char title[16] = "";
  prctl(PR_GET_NAME, title);
  printf("thread name %s", title);
  printf(", set %s", call(prctl(PR_SET_NAME, "a name that is too long")));
  prctl(PR_GET_NAME, title);
  printf(" %s", title);
  printf(", pid is tid %d", getpid() == (pid_t)syscall(SYS_gettid));
  char path[256] = "";
  ssize_t const n = readlink("/proc/self/exe", path, sizeof path - 1);
  printf(", exe %s", n > 0 ? strrchr(path, '/') + 1 : "none");
  FILE* const f = fopen("/proc/self/comm", "r");
  char comm[32] = "";
  printf(", comm %s", f != NULL && fgets(comm, sizeof comm, f) != NULL ? comm : "none\n");
  if (f != NULL) fclose(f);
}

// The stack and a mapping are found in the maps, with what they allow.
static void maps(void) {
  int on_stack = 0;
  void* const heap = malloc(64);
  FILE* const f = fopen("/proc/self/maps", "r");
  char line[512];
  int stack = 0, code = 0, of_heap = 0, order = 1;
  unsigned long last = 0;
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    unsigned long from, to;
    char prot[8];
    if (sscanf(line, "%lx-%lx %7s", &from, &to, prot) != 3) continue;
    if (strstr(line, "vsyscall") != NULL) continue;
    order = order && from >= last && to > from;
    last = to;
    if (from <= (unsigned long)&on_stack && (unsigned long)&on_stack < to) stack = prot[0] == 'r' && prot[1] == 'w';
    if (from <= (unsigned long)maps && (unsigned long)maps < to) code = prot[0] == 'r' && prot[2] == 'x';
    if (from <= (unsigned long)heap && (unsigned long)heap < to) of_heap = prot[1] == 'w';
  }
  if (f != NULL) fclose(f);
  printf("maps: stack %d, code %d, heap %d, in order %d\n", stack, code, of_heap, order);
  free(heap);
}

static void limits(void) {
  struct rlimit files, was;
  printf("limit %s", call(getrlimit(RLIMIT_NOFILE, &was)));
  files.rlim_cur = 10;
  files.rlim_max = was.rlim_max;
  printf(", ten files %s", call(setrlimit(RLIMIT_NOFILE, &files)));
  int opened = 0;
  while (opened < 20 && open("/dev/null", O_RDONLY) >= 0) opened++;
  printf(", opened %d, then %s", opened, strerrorname_np(errno));
  for (int fd = 3; fd < 3 + opened; fd++) close(fd);
  printf(", back %s", call(setrlimit(RLIMIT_NOFILE, &was)));
  struct rlimit const wrong = {10, 5};
  printf(", more than the most %s\n", call(setrlimit(RLIMIT_NOFILE, &wrong)));
}

int main(void) {
  processors();
  new_threads();
  itself();
  maps();
  limits();
  return 0;
}
