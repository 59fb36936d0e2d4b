// Leaving handlers by longjmp and by exceptions (-fnon-call-exceptions), and unwinding through a signal frame.
#include <execinfo.h>
#include <setjmp.h>
#include <signal.h>
#include <unwind.h>

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <thread>

// A load may throw here: by its handler.
#pragma GCC optimize("non-call-exceptions")

namespace {

jmp_buf plain;
sigjmp_buf with_mask;
int frames_seen;
bool main_seen;

void jump(int) {
  siglongjmp(with_mask, 2);
}
void throws(int sig) {
  throw std::runtime_error("signal " + std::to_string(sig));
}

int destroyed;
struct Guard {
  ~Guard() { destroyed++; }
};

__attribute__((noinline)) int load(int volatile* p) {
  Guard guard;
  return *p;
}

__attribute__((noinline)) void faulting() {
  try {
    load(nullptr);
    std::puts("not reached");
  } catch (std::runtime_error const& e) {
    std::printf("caught %s, destroyed %d\n", e.what(), destroyed);
  }
}

_Unwind_Reason_Code visit(_Unwind_Context* context, void*) {
  frames_seen++;
  int before = 0;
  _Unwind_GetIPInfo(context, &before);
  if (before) main_seen = true;  // a frame that was interrupted, not one that called
  return frames_seen > 100 ? _URC_END_OF_STACK : _URC_NO_REASON;
}

void walks(int) {
  _Unwind_Backtrace(visit, nullptr);
}

void install(int sig, void (*handler)(int), int flags) {
  struct sigaction action;
  std::memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(sig, &action, nullptr);
}

}  // namespace

int main() {
  install(SIGUSR1, jump, 0);
  for (int i = 0; i < 3; i++) {
    if (sigsetjmp(with_mask, 1) == 0) {
      raise(SIGUSR1);
      std::puts("not reached");
    }
    sigset_t now;
    sigprocmask(SIG_SETMASK, nullptr, &now);
    std::printf("jumped out, blocked %d\n", sigismember(&now, SIGUSR1));
  }
  if (setjmp(plain) == 0) longjmp(plain, 1);

  install(SIGSEGV, throws, SA_NODEFER);
  for (int i = 0; i < 2; i++) faulting();
  std::thread(faulting).join();

  install(SIGUSR2, walks, 0);
  raise(SIGUSR2);
  std::printf("unwound past the signal frame: %d\n", main_seen && frames_seen > 3 && frames_seen < 100);
  return 0;
}
