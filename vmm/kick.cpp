#include "vmm/kick.hpp"

#include <ucontext.h>

extern "C" {
extern char const vmm_interruptible_start[], vmm_interruptible_end[], vmm_interruptible_kicked[];
}

namespace vmm {
namespace {

thread_local uint8_t volatile* kick_target = nullptr;

void on_kick(int, siginfo_t*, void* context) {
  auto& rip = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  auto const at = reinterpret_cast<char const*>(rip);
  if (at >= vmm_interruptible_start && at < vmm_interruptible_end) {
    rip = reinterpret_cast<greg_t>(vmm_interruptible_kicked);
  }
  if (kick_target != nullptr) *kick_target = 1;
}

}  // namespace

void install_kick_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_kick;
  action.sa_flags = SA_SIGINFO;  // no SA_RESTART: the call under way must end
  sigemptyset(&action.sa_mask);
  sigaction(kick_signal(), &action, nullptr);
}

void set_kick_target(uint8_t volatile* immediate_exit) noexcept {
  kick_target = immediate_exit;
}

}  // namespace vmm
