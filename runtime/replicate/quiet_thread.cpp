#include "runtime/replicate/quiet_thread.hpp"

#include <pthread.h>

#include <csignal>
#include <utility>

namespace vmsrs::runtime::replicate {
std::thread quiet_thread(std::function<void()> body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  pthread_setname_np(thread.native_handle(), kQuietThreadName);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace vmsrs::runtime::replicate
