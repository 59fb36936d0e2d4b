#include "runtime/replicate/quiet_thread.hpp"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <utility>

namespace vmsrs::runtime::replicate {
namespace {

constexpr int kNice = -10;

}  // namespace

std::thread quiet_thread(std::function<void()> body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread([run = std::move(body)] {
    (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
    run();
  });
  pthread_setname_np(thread.native_handle(), kQuietThreadName);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace vmsrs::runtime::replicate
