// Signals from outside: a thread of the monitor takes them and sends them to the guest, so that no
// handler of the host ever runs for them and no host call is cut short.
//
//   block()   first of all in main(), before any thread starts: threads inherit the mask
//   adopt()   what the monitor was started with (ignored signals, mask) becomes the guest's, as
//             exec would leave it
//   start()   before guest code runs; stop() or the destructor ends the thread
//
// SIGPIPE is ignored in the monitor. SIGTTIN and SIGTTOU keep the host's default, which stops the
// monitor and the guest with it. SIGTSTP goes to the guest; its default action there stops the
// monitor too. SIGSTOP, SIGKILL and a SIGCONT's going on are the kernel's own business.
#pragma once

#include <csignal>
#include <cstdint>
#include <thread>

#include "vmm/error.hpp"

namespace vmm {

class Process;
class Thread;

class SignalGateway {
 public:
  SignalGateway() = default;
  ~SignalGateway() { stop(); }
  SignalGateway(SignalGateway const&) = delete;
  SignalGateway& operator=(SignalGateway const&) = delete;

  // `kick_signal`: the monitor's own, left unblocked and never forwarded.
  Result<void> block(int kick_signal);
  void adopt(Process& process, Thread& main_thread);
  Result<void> start(Process& process);
  void stop();

 private:
  void run(Process& process);

  sigset_t taken_{};
  uint64_t inherited_mask_ = 0, inherited_ignored_ = 0;
  int signals_ = -1, stop_ = -1;
  std::thread thread_;
};

}  // namespace vmm
