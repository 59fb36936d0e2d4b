#include "runtime/report.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "runtime/report_format.hpp"

namespace vmsrs::runtime {
namespace {

// A reader that went away, or a limit on file sizes, must not end the monitor: the signals for them are kept from this
// thread while it writes; write() says the same with EPIPE and EFBIG.
class NoWriteSignals {
 public:
  NoWriteSignals() {
    sigset_t pending;
    sigpending(&pending);
    sigemptyset(&ours_);
    sigemptyset(&all_);
    for (int const signal : {SIGPIPE, SIGXFSZ}) {
      sigaddset(&all_, signal);
      if (sigismember(&pending, signal) == 0) sigaddset(&ours_, signal);  // what waited before is not ours to take
    }
    pthread_sigmask(SIG_BLOCK, &all_, &old_);
  }
  ~NoWriteSignals() {
    timespec const none{};
    while (sigtimedwait(&ours_, nullptr, &none) > 0 || errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &old_, nullptr);
  }
  NoWriteSignals(NoWriteSignals const&) = delete;
  NoWriteSignals& operator=(NoWriteSignals const&) = delete;

 private:
  sigset_t ours_{}, all_{}, old_{};
};

struct Written {
  size_t bytes;
  int error;  // why not all; 0: all
};

Written write_all(int fd, std::string_view text) {
  size_t done = 0;
  int error = 0;
  NoWriteSignals const guard;
  while (done < text.size() && error == 0) {
    ssize_t const n = ::write(fd, text.data() + done, text.size() - done);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n == 0) {
      error = ENOSPC;
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  return {done, error};
}

}  // namespace

tl::expected<std::unique_ptr<Reporter>, ReportError> Reporter::open(Config config) {
  std::unique_ptr<Reporter> reporter(new Reporter(std::move(config)));
  std::string const& file = reporter->config_.file;
  if (file == "-") {
    reporter->json_fd_ = STDOUT_FILENO;
  } else if (!file.empty()) {
    // O_NONBLOCK: a pipe that nobody reads is an error now or a lost line later, never a guest that waits for it.
    reporter->owned_ =
        vmm::ScopedFd(::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644));
    if (!reporter->owned_) {
      int const error = errno;
      char const* const hint = error == ENXIO ? " (a pipe that nobody reads)" : "";
      return tl::unexpected(
          ReportError{fmt::format("--report {}: open: {}{}", file, strerrordesc_np(error), hint), error});
    }
    reporter->json_fd_ = reporter->owned_.get();
  }
  return reporter;
}

void Reporter::tell(std::string_view text) const {
  if (config_.error_fd >= 0) write_all(config_.error_fd, text);
}

void Reporter::write_json(std::string const& line) {
  if (json_fd_ < 0) return;
  // After a line that was cut off, a newline keeps this one readable.
  std::string const text = partial_ ? "\n" + line : line;
  auto const [done, error] = write_all(json_fd_, text);
  if (error == 0) {
    partial_ = false;
    return;
  }
  ++lost_lines_;
  partial_ = done > 0 ? text[done - 1] != '\n' : partial_;
  if (said_lost_) return;
  said_lost_ = true;
  tell(fmt::format("vmsrs: --report {}: write: {}; this line of the report is lost, the guest goes on\n", config_.file,
                   strerrordesc_np(error)));
}

void Reporter::report(FaultReport const& fault) {
  std::string const json = json_fd_ >= 0 ? json_line(fault) : std::string();
  std::lock_guard const lock(mutex_);
  totals_.add(fault);
  if (totals_.faults <= config_.paragraphs) {
    tell(paragraph(fault));
    if (totals_.faults == config_.paragraphs) tell("vmsrs: further faults are said in one line each\n");
  } else if (totals_.faults <= config_.paragraphs + config_.lines) {
    tell(one_line(fault));
    if (totals_.faults == config_.paragraphs + config_.lines) tell("vmsrs: further faults are only counted\n");
  } else if (config_.count_every != 0 &&
             (totals_.faults - config_.paragraphs - config_.lines) % config_.count_every == 0) {
    tell(fmt::format("vmsrs: {} faults so far\n", totals_.faults));
  }
  write_json(json);
}

void Reporter::finding(int thread, std::string const& what) {
  std::lock_guard const lock(mutex_);
  totals_.findings += 1;
  if (totals_.findings <= config_.paragraphs) tell(fmt::format("vmsrs: found: {} (thread {})\n", what, thread));
  write_json(finding_line(thread, what));
}

void Reporter::summary(RunSummary const& summary) {
  std::lock_guard const lock(mutex_);
  write_json(json_line(summary, lost_lines_));
}

FaultTotals Reporter::totals() const {
  std::lock_guard const lock(mutex_);
  return totals_;
}

uint64_t Reporter::lost_lines() const {
  std::lock_guard const lock(mutex_);
  return lost_lines_;
}

}  // namespace vmsrs::runtime
