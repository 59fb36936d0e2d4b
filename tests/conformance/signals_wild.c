// Wild addresses: read, written, jumped to, and as stack and program counter that a signal handler returns to. Each is
// a fault of the thread that does it, with the address and code that Linux gives, and nothing else. Instructions that
// store a system register there fault too; how depends on the processor (UMIP).
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int putting;  // 0, or the register that the next signal's return sets
static uint64_t wild;
static int only_number;

static void on_signal(int number, siginfo_t* info, void* context) {
  ucontext_t* user = context;
  if (putting != 0) {
    user->uc_mcontext.gregs[putting] = (greg_t)wild;
    putting = 0;
    return;
  }
  if (only_number) {
    printf(" %d", number);
    siglongjmp(back, 1);
  }
  printf(" %d/%d/%lx", number, info->si_code, (unsigned long)(uintptr_t)info->si_addr);
  siglongjmp(back, 1);
}

static void try_all(uint64_t address) {
  printf("%lx:", (unsigned long)address);
  wild = address;
  if (sigsetjmp(back, 1) == 0) (void)*(volatile char*)address;
  if (sigsetjmp(back, 1) == 0) *(volatile char*)address = 1;
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))(uintptr_t)address)();
  putting = REG_RIP;
  if (sigsetjmp(back, 1) == 0) raise(SIGUSR1);
  putting = REG_RSP;
  if (sigsetjmp(back, 1) == 0) raise(SIGUSR1);
  printf("\n");
}

static void store_registers(uint64_t address) {
  printf("%lx:", (unsigned long)address);
  short volatile* const to = (short volatile*)address;
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("sldt %0" : "=m"(*to));
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("str %0" : "=m"(*to));
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("smsw %0" : "=m"(*to));
  printf("\n");
}

int main(void) {
  static char stack[65536];
  stack_t const alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  action.sa_sigaction = on_signal;
  int const signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGUSR1};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; ++i) sigaction(signals[i], &action, NULL);
  try_all(0);
  // All powers of two, and what is just below them; a page that starts one and that ends there.
  for (unsigned bit = 12; bit < 64; ++bit) {
    uint64_t const power = 1ULL << bit;
    try_all(power);
    try_all(power - 4096);
    try_all(power + 8192);
  }
  // Between the powers, in steps of a GiB, where programs usually have nothing.
  for (uint64_t gib = 1; gib < 64; ++gib) try_all(gib << 30);
  for (uint64_t gib = 65; gib < 512; gib += 16) try_all((gib << 30) - 4096);
  only_number = 1;
  static uint64_t const nowhere[] = {0, 4096, 1ULL << 30, 1ULL << 36, 3ULL << 36, 1ULL << 46, 1ULL << 62};
  for (unsigned i = 0; i < sizeof nowhere / sizeof *nowhere; ++i) store_registers(nowhere[i]);
  char* const denied = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("sldt %0" : "=m"(*(short volatile*)denied));
  mprotect(denied, 8192, PROT_READ);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("str %0" : "=m"(*(short volatile*)denied));
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("smsw %0" : "=m"(*(short volatile*)(denied + 4095)));
  printf("\n");
  only_number = 0;
  try_all(UINT64_MAX);
  try_all(0xffff800000000000);
  return 0;
}
