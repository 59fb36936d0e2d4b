// vmsrs run --protect: gateway, primary and backup of one host, and who decides when one of them is lost.
//
// Each part is a child process with a pipe for its events. A thread per part reads them until the pipe's end and then
// waits for the process, so that what a part said last is heard before its end is. What is noticed goes to the spine,
// whose policy decides; the executors here act.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <thread>

#include "cli/commands.hpp"
#include "cli/private_folder.hpp"
#include "cli/protect_options.hpp"
#include "runtime/events/event_pipe.hpp"
#include "runtime/events/protect_policy.hpp"
#include "runtime/files/file_undo.hpp"
#include "runtime/lease/shared_coordinator.hpp"

namespace vmsrs::cli {
namespace {

namespace events = runtime::events;
using runtime::PartRole;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr int kPassedOn[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};
constexpr auto kLook = milliseconds(20);           // at the lease
constexpr auto kGrace = milliseconds(500);         // until a backup takes a lease that ran out by itself
constexpr auto kDying = milliseconds(100);         // what it had to say has been read by then
constexpr auto kStart = std::chrono::seconds(10);  // for the gateway
constexpr auto kLast = std::chrono::seconds(2);    // for the gateway to give out what the program wrote last

struct Part {
  std::string role;  // primary, backup, gateway; empty: nobody asks for it any more
  pid_t pid = -1;
  bool ended = false, own_group = false;
  std::thread reader;
};

class Director {
 public:
  Director(ProtectOptions options, std::vector<std::string> for_backup, std::string log)
      : options_(std::move(options)), for_backup_(std::move(for_backup)), log_name_(std::move(log)) {}
  int run(std::function<int(ProtectOptions const&)> const& run_guest);

 private:
  std::optional<std::string> prepare();
  bool gateway_is_there(Part const& gateway);
  Part& spawn(std::string role, std::vector<std::string> arguments,
              std::function<int(ProtectOptions const&)> const& run);
  void listen_to(Part& part, int fd);
  void heard(Part& part, events::Event event);
  void watch_lease();
  void pass_signals();
  std::optional<std::string> fail_over(bool replay);
  void start_backup();
  void end(int status);
  Part* find(std::string_view role);

  ProtectOptions options_;
  std::vector<std::string> for_backup_;
  std::string log_name_, mode_, program_;
  PrivateFolder folder_;
  sigset_t wanted_{}, before_{};
  std::unique_ptr<runtime::SharedCoordinator> coordinator_;
  std::ofstream log_;
  std::unique_ptr<events::Spine> spine_;
  std::mutex mutex_;  // parts_, passed_, lost_since_
  std::list<Part> parts_;
  struct Passed {
    int signal;
    Clock::time_point at;
  };
  std::vector<Passed> passed_;    // the last one of each signal
  Clock::time_point lost_since_;  // of the last failover: what happened from here on may be in no epoch
  unsigned backups_ = 0;
  std::atomic<bool> stop_{false};
  bool verbose_ = false;
  int status_ = kMonitorError;
};

// Nothing, or what is missing.
std::optional<std::string> Director::prepare() {
  mode_ = std::exchange(options_.mode, "");
  std::error_code error;
  program_ = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "/proc/self/exe: " + error.message();
  if (!folder_.made()) return fmt::format("no temporary directory: {}", std::strerror(errno));
  options_.key_file = folder_.at("key");
  options_.gateway = "unix:" + folder_.at("gateway");
  options_.undo_folder = folder_.at("files");
  if (mkdir(options_.undo_folder.c_str(), 0700) != 0)
    return fmt::format("{}: {}", options_.undo_folder, std::strerror(errno));
  std::ofstream key(options_.key_file);
  key << runtime::replicate::Key::random().hex() << '\n';
  key.close();
  if (!key || chmod(options_.key_file.c_str(), 0600) != 0) return options_.key_file + " cannot be written";
  std::string const name = lease_name(getpid());
  auto made = runtime::SharedCoordinator::create(name);
  if (!made) return made.error().message;
  coordinator_ = std::move(*made);
  options_.coordinator = "shm:" + name;
  if (!log_name_.empty()) {
    log_.open(log_name_, std::ios::app);
    if (!log_) return fmt::format("--events {}: {}", log_name_, std::strerror(errno));
  }
  spine_ = std::make_unique<events::Spine>(log_name_.empty() ? nullptr : &log_);
  return std::nullopt;
}

Part& Director::spawn(std::string role, std::vector<std::string> arguments,
                      std::function<int(ProtectOptions const&)> const& run) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) ends[0] = ends[1] = -1;
  ProtectOptions own = options_;
  own.events_fd = ends[1];
  std::vector<std::string> words = {"vmsrs"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  if (!run && ends[1] >= 0 && role == "backup") {
    words.emplace_back("--events-fd");
    words.push_back(std::to_string(ends[1]));
  }
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t const parent = getpid();
  pid_t const child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(kMonitorError);
    sigprocmask(SIG_SETMASK, &before_, nullptr);
    if (run) {
      close(ends[0]);
      std::exit(run(own));
    }
    // A terminal's signals are for the guest.
    setpgid(0, 0);
    if (ends[1] >= 0) fcntl(ends[1], F_SETFD, 0);
    execv(program_.c_str(), argv.data());
    _exit(kMonitorError);
  }
  if (ends[1] >= 0) close(ends[1]);
  std::lock_guard const guard(mutex_);
  Part& part = parts_.emplace_back();
  part.role = std::move(role);
  part.pid = child;
  part.own_group = !run;
  part.reader = std::thread([this, &part, fd = ends[0]] { listen_to(part, fd); });
  return part;
}

void Director::listen_to(Part& part, int fd) {
  if (fd >= 0) {
    events::read_events(fd, [&](events::Event event) { heard(part, std::move(event)); });
    close(fd);
  }
  int status = 0;
  while (part.pid > 0 && waitpid(part.pid, &status, 0) < 0 && errno == EINTR) {
  }
  events::Event event;
  event.kind = events::Kind::kPartEnded;
  event.priority = events::Priority::kHigh;
  event.value = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  event.detail = part.pid < 0        ? "it could not be started"
                 : WIFEXITED(status) ? fmt::format("status {}", WEXITSTATUS(status))
                                     : fmt::format("signal {}", WTERMSIG(status));
  {
    std::lock_guard const guard(mutex_);
    part.ended = true;
    event.subject = part.role;
  }
  if (!event.subject.empty()) spine_->post(std::move(event));
}

void Director::heard(Part& part, events::Event event) {
  {
    std::lock_guard const guard(mutex_);
    if (part.role.empty()) return;
    if (event.kind == events::Kind::kTookOver) {
      part.role = "primary";
      // The epoch that it goes on from may be older than a signal, or nobody was there to have it.
      for (Passed const& passed : passed_) {
        if (passed.at >= lost_since_) kill(part.pid, passed.signal);
      }
    }
  }
  spine_->post(std::move(event));
}

Part* Director::find(std::string_view role) {
  for (Part& part : parts_) {
    if (part.role == role && !part.ended) return &part;
  }
  return nullptr;
}

bool Director::gateway_is_there(Part const& gateway) {
  auto const until = Clock::now() + kStart;
  while (Clock::now() < until) {
    auto const found = coordinator_->find(PartRole::kGateway);
    if (found && !found->empty()) return true;
    {
      std::lock_guard const guard(mutex_);
      if (gateway.ended) return false;
    }
    std::this_thread::sleep_for(milliseconds(2));
  }
  return false;
}

// A primary that sleeps, or hangs, lets its lease run out. One that is dying may take long until it is dead.
void Director::watch_lease() {
  runtime::Term told = 0;
  auto alive = Clock::now();
  while (!stop_) {
    std::this_thread::sleep_for(kLook);
    auto const lease = coordinator_->look();
    if (!lease || lease->revoked || lease->term == 0 || lease->term == told) continue;
    bool dying = false;
    {
      std::lock_guard const guard(mutex_);
      Part const* const primary = find("primary");
      dying = primary != nullptr && runtime::files::has_stopped(primary->pid);
    }
    if (!dying) alive = Clock::now();
    if (lease->held && Clock::now() - alive < kDying) continue;
    told = lease->term;
    spine_->post(
        {.kind = events::Kind::kLeaseExpired,
         .priority = events::Priority::kHigh,
         .subject = "primary",
         .detail = fmt::format("term {}{}", lease->term, lease->held ? ": its process is on its way out" : "")});
  }
}

void Director::pass_signals() {
  while (!stop_) {
    timespec const wait{0, 100'000'000};
    siginfo_t info{};
    int const signal = sigtimedwait(&wanted_, &info, &wait);
    if (signal <= 0) continue;
    std::lock_guard const guard(mutex_);
    Part const* const primary = find("primary");
    std::erase_if(passed_, [signal](Passed const& passed) { return passed.signal == signal; });
    passed_.push_back({signal, Clock::now()});
    if (primary == nullptr) continue;
    if (primary->own_group || info.si_code != SI_KERNEL) {
      // The first primary shares the terminal's group, and has had the terminal's signals already.
      kill(primary->pid, signal);
    }
  }
}

std::optional<std::string> Director::fail_over(bool replay) {
  auto const lease = coordinator_->look();
  if (!lease) return lease.error().message;
  {
    // Dead or asleep: it must not write a file any more.
    std::lock_guard const guard(mutex_);
    lost_since_ = Clock::now() - milliseconds(options_.lease_ms + options_.epoch_ms) - kGrace;
    for (Part& part : parts_) {
      if (part.role != "primary") continue;
      part.role.clear();
      if (!part.ended) kill(part.pid, SIGKILL);
    }
  }
  auto const revoked = coordinator_->revoke(lease->term, replay);
  if (!revoked) return revoked.error().message;
  return std::nullopt;
}

void Director::start_backup() {
  std::vector<std::string> words = {"backup",
                                    "--listen",
                                    "unix:" + folder_.at(fmt::format("backup{}", ++backups_)),
                                    "--gateway",
                                    options_.gateway,
                                    "--key-file",
                                    options_.key_file,
                                    "--coordinator",
                                    options_.coordinator,
                                    "--undo-dir",
                                    options_.undo_folder,
                                    "--epoch",
                                    std::to_string(options_.epoch_ms),
                                    "--shortest-epoch",
                                    std::to_string(options_.shortest_ms),
                                    "--lease",
                                    std::to_string(options_.lease_ms),
                                    "--grace",
                                    std::to_string(kGrace.count())};
  if (!options_.model.empty()) {
    words.insert(words.end(), {"--predict", options_.model, "--longest-epoch", std::to_string(options_.longest_ms),
                               "--epoch-policy", options_.epoch_policy});
  }
  if (!options_.epoch_log.empty()) words.insert(words.end(), {"--epoch-log", options_.epoch_log});
  words.insert(words.end(), for_backup_.begin(), for_backup_.end());
  spawn("backup", words, {});
}

void Director::end(int status) {
  status_ = status;
  stop_ = true;
  spine_->stop();
}

int Director::run(std::function<int(ProtectOptions const&)> const& run_guest) {
  verbose_ = std::ranges::find(for_backup_, "--verbose") != for_backup_.end();
  if (auto const missing = prepare(); missing) {
    fmt::print(stderr, "vmsrs: --protect: {}\n", *missing);
    return kUsageError;
  }
  sigemptyset(&wanted_);
  for (int const signal : kPassedOn) sigaddset(&wanted_, signal);
  sigprocmask(SIG_BLOCK, &wanted_, &before_);
  std::vector<std::string> words = {
      "gateway",       "--listen",           options_.gateway, "--key-file", options_.key_file,
      "--coordinator", options_.coordinator, "--mode",         mode_};
  if (verbose_) words.emplace_back("--verbose");
  Part const& gateway = spawn("gateway", words, {});
  if (gateway_is_there(gateway)) {
    spawn("primary", {}, run_guest);
    start_backup();
    events::ProtectLimits limits;
    limits.window = milliseconds(options_.window_ms);
    spine_->add_policy(std::make_unique<events::ProtectPolicy>(limits));
    spine_->add_executor(events::Action::kFailOver, [this](events::Decision const& what, events::Event const& event) {
      fmt::print(stderr, "vmsrs: {}{}{}\n", what.reason, event.detail.empty() ? "" : ": ", event.detail);
      return fail_over(what.value != 0);
    });
    spine_->add_executor(events::Action::kStartBackup, [this](events::Decision const&, events::Event const& event) {
      if (event.kind == events::Kind::kTookOver) {
        fmt::print(stderr, "vmsrs: the backup goes on as primary {}\n", event.detail);
      }
      start_backup();
      return std::optional<std::string>();
    });
    spine_->add_executor(events::Action::kEnd, [this](events::Decision const& what, events::Event const& event) {
      if (event.subject != "primary" || what.value > 128) fmt::print(stderr, "vmsrs: {}\n", what.reason);
      end(static_cast<int>(what.value));
      return std::optional<std::string>();
    });
    std::thread lease([this] { watch_lease(); });
    std::thread signals([this] { pass_signals(); });
    spine_->run();
    stop_ = true;
    lease.join();
    signals.join();
  } else {
    fmt::print(stderr, "vmsrs: --protect: the gateway did not start\n");
  }
  auto const until = Clock::now() + kLast;
  for (;;) {
    std::unique_lock lock(mutex_);
    if (find("gateway") == nullptr || status_ == kMonitorError || Clock::now() > until) break;
    lock.unlock();
    std::this_thread::sleep_for(milliseconds(2));
  }
  {
    std::lock_guard const guard(mutex_);
    for (Part const& part : parts_) {
      if (!part.ended && part.pid > 0) kill(part.pid, SIGKILL);
    }
  }
  // A killed process may take long to give its memory back. It does nothing any more, and nobody waits for that.
  auto const all_ended = [this] {
    std::lock_guard const guard(mutex_);
    return std::ranges::all_of(parts_, [](Part const& part) { return part.ended || part.pid <= 0; });
  };
  auto const patience = Clock::now() + kLast;
  while (!all_ended() && Clock::now() < patience) std::this_thread::sleep_for(milliseconds(1));
  if (!all_ended()) {
    coordinator_.reset();
    folder_.remove();
    log_.close();
    std::fflush(nullptr);
    _exit(status_);  // with the threads that wait for them
  }
  for (Part& part : parts_) part.reader.join();
  return status_;
}

}  // namespace

int direct(ProtectOptions const& options, std::vector<std::string> const& for_backup, std::string const& log,
           std::function<int(ProtectOptions const&)> const& run) {
  return Director(options, for_backup, log).run(run);
}

}  // namespace vmsrs::cli
