// A program's own handlers for its faults: si_addr, si_code, a repaired instruction pointer, longjmp.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int signo, code, trap, writing, times;
static void* volatile address;
static sigjmp_buf back;
static char* page;

static void jump(int sig, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  signo = sig;
  code = info->si_code;
  address = info->si_addr;
  trap = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
  writing = (int)(uc->uc_mcontext.gregs[REG_ERR] >> 1 & 1);
  siglongjmp(back, 1);
}

// The access is `mov (%rax), %rcx`, three bytes: skip it and give a result.
static void skip(int sig, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  (void)sig;
  address = info->si_addr;
  uc->uc_mcontext.gregs[REG_RIP] += 3;
  uc->uc_mcontext.gregs[REG_RCX] = 4711;
  times++;
}

// The program's own lazy memory: the page appears at its first access.
static void give(int sig, siginfo_t* info, void* context) {
  (void)sig;
  (void)context;
  mprotect((void*)((uintptr_t)info->si_addr & ~4095UL), 4096, PROT_READ | PROT_WRITE);
  times++;
}

static void install(int sig, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(sig, &action, NULL);
}

int main(void) {
  page = mmap(NULL, 8 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* hole = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(hole, 4096);
  install(SIGSEGV, jump);
  install(SIGFPE, jump);
  install(SIGILL, jump);
  install(SIGTRAP, jump);

  if (sigsetjmp(back, 1) == 0) *(char volatile*)NULL;
  printf("null load: signal %d code %d address %p trap %d\n", signo, code, address, trap);
  if (sigsetjmp(back, 1) == 0) page[5] = 1;
  printf("store: signal %d code %d offset %ld trap %d write %d\n", signo, code, (long)((char*)address - page), trap,
         writing);
  if (sigsetjmp(back, 1) == 0) *(char volatile*)hole;
  printf("hole: signal %d code %d right %d\n", signo, code, address == hole);
  if (sigsetjmp(back, 1) == 0) *(char volatile*)0xdead000000000000UL;
  printf("non-canonical: signal %d code %d address %p trap %d\n", signo, code, address, trap);
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))(uintptr_t)0x1230)();
  printf("bad call: signal %d code %d address %p\n", signo, code, address);
  volatile int zero = 0, one = 1;
  if (sigsetjmp(back, 1) == 0) one = one / zero;
  printf("division: signal %d code %d trap %d\n", signo, code, trap);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("ud2");
  printf("illegal: signal %d code %d trap %d\n", signo, code, trap);

  install(SIGSEGV, skip);
  for (int i = 0; i < 3; i++) {
    uint64_t value;
    __asm__ volatile("mov (%%rax), %%rcx" : "=c"(value) : "a"(page + 4096) : "memory");
    printf("skipped: %lu at %ld, %d times\n", value, (long)((char*)address - page), times);
  }

  times = 0;
  install(SIGSEGV, give);
  for (int i = 2; i < 8; i++) page[i * 4096] = (char)i;
  int sum = 0;
  for (int i = 2; i < 8; i++) sum += page[i * 4096];
  printf("given: %d pages, sum %d\n", times, sum);
  return 0;
}
