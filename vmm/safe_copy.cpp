#include "vmm/safe_copy.hpp"

#include <ucontext.h>

#include <csignal>

extern "C" {
extern char const vmm_safe_copy_start[], vmm_safe_copy_end[];
}

namespace vmm {
namespace {

void on_fault(int signal, siginfo_t*, void* context) {
  auto& rip = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  auto const at = reinterpret_cast<char const*>(rip);
  if (at >= vmm_safe_copy_start && at < vmm_safe_copy_end) {
    rip = reinterpret_cast<greg_t>(vmm_safe_copy_end);
    return;
  }
  struct sigaction fatal {};
  fatal.sa_handler = SIG_DFL;
  sigaction(signal, &fatal, nullptr);  // the instruction runs again and ends the monitor, with a core if enabled
}

}  // namespace

void install_safe_copy_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace vmm
