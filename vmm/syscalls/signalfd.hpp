// signalfd: a descriptor whose reads take the guest's pending signals. The host fd is an eventfd
// that ProcessSignals keeps readable while there is one for the process, or for the thread that asked last, so poll
// and epoll work on it, but for its being writable, which is not asked for. (Linux answers each thread for itself,
// which one host fd cannot.)
#pragma once

#include <atomic>

#include "vmm/fd_table.hpp"

namespace vmm {

class ProcessSignals;
class StateAccess;
class Thread;

class SignalFd : public OpenFile {
 public:
  SignalFd(ProcessSignals& signals, int event_fd, uint64_t mask, bool non_blocking);
  ~SignalFd() override;
  void set_mask(uint64_t mask);
  uint32_t asked_for(Thread& thread, uint32_t events) override;
  // As read(2) of a signalfd, into `to`: bytes (a multiple of 128) or -errno.
  int64_t read(Thread& thread, void* to, uint64_t size);

  std::atomic<bool> nonblock;

 private:
  friend class StateAccess;  // vmm/checkpoint
  ProcessSignals& signals_;
  std::atomic<uint64_t> mask_;
};

}  // namespace vmm
