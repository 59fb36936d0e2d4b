#include <fmt/format.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/detect_options.hpp"
#include "cli/protect_options.hpp"
#include "cli/supervisor.hpp"
#include "runtime/detect/publisher.hpp"
#include "runtime/recovery.hpp"
#include "vmm/monitor.hpp"

extern char** environ;

namespace vmsrs::cli {
namespace {

constexpr int kMostPollers = 64;
constexpr uint64_t kMinMemory = 2ULL << 30, kMaxMemory = 64ULL << 30;

struct RunOptions {
  std::vector<std::string> program;
  std::vector<std::string> environment;  // NAME=VALUE, over what the monitor itself has
  std::string memory = "8G";
  std::string stats_json, pollers = "auto";
  std::string rescue_adapter, strike_call, control;
  bool verbose = false, stats = false, recovery = true, no_undo = false, no_suppress = false, restart = false;
  runtime::Options recovery_options;
  StatusOptions status;
  ProtectOptions protect;
  std::string events;
};

int status_of(vmm::Error const& error) {
  switch (error.code) {
    case vmm::Errc::kNoProgram:
      return error.sys_errno == ENOENT ? kNotFound : kNotExecutable;
    case vmm::Errc::kNotElf:
    case vmm::Errc::kWrongArchitecture:
    case vmm::Errc::kNoInterpreter:
    case vmm::Errc::kBadElf:
      return kNotExecutable;
    case vmm::Errc::kBadOption:
      return kUsageError;
    default:
      return kMonitorError;
  }
}

int fail(vmm::Error const& error) {
  fmt::print(stderr, "vmsrs: {}\n", error.message);
  return status_of(error);
}

nlohmann::json by_name(std::array<std::atomic<uint64_t>, 512> const& counts) {
  nlohmann::json calls = nlohmann::json::object();
  for (size_t nr = 0; nr < counts.size(); ++nr) {
    uint64_t const n = counts[nr].load();
    if (n == 0) continue;
    auto const* row = vmm::SyscallTable::instance().find(nr);
    calls[row != nullptr ? row->name : fmt::format("unknown_{}", nr)] = n;
  }
  return calls;
}

nlohmann::json stats_of(vmm::GuestProcess& process, double seconds) {
  vmm::Stats const& s = process.stats();
  return {{"kvm_exits", s.kvm_exits.load()},
          {"hypercalls", s.hypercalls.load()},
          {"exitless_calls", s.exitless_calls.load()},
          {"exitless_hypercalls", s.exitless_hypercalls.load()},
          {"spun_out", s.spun_out.load()},
          {"posts_missed", s.posts_missed.load()},
          {"mailbox_damaged", s.mailbox_damaged.load()},
          {"pollers_started", s.pollers_started.load()},
          {"pollers_replaced", s.pollers_replaced.load()},
          {"polling_suspended", s.polling_suspended.load()},
          {"processors_reserved", s.processors_reserved.load()},
          {"exit_ns", s.exit_ns.load()},
          {"exits_tried", s.exits_tried.load()},
          {"exits_faster", s.exits_faster.load()},
          {"sites_patched", s.sites_patched.load()},
          {"sites_refused", s.sites_refused.load()},
          {"faults", s.faults.load()},
          {"missing_traps", s.missing_traps.load()},
          {"unknown_syscalls", s.unknown_syscalls.load()},
          {"threads_started", s.threads_started.load()},
          {"peak_threads", s.peak_threads.load()},
          {"vcpus", s.vcpus_created.load()},
          {"seconds", seconds},
          {"syscalls", by_name(s.syscalls)},
          {"exitless", by_name(s.exitless)},
          {"spun_out_calls", by_name(s.spun_out_calls)}};
}

void print_stats(nlohmann::json const& stats) {
  double const seconds = std::max(stats["seconds"].get<double>(), 1e-6);
  auto const number = [&](char const* name) { return stats[name].get<uint64_t>(); };
  auto const rate = [&](char const* name) { return static_cast<double>(number(name)) / seconds; };
  fmt::print(stderr, "vmsrs: {} exits, {} hypercalls, {} faults, {} threads (at most {} at once) in {:.3f} s\n",
             number("kvm_exits"), number("hypercalls"), number("faults"), number("threads_started"),
             number("peak_threads"), seconds);
  fmt::print(stderr, "vmsrs: a second: {:.0f} exits, {:.0f} exitless calls, {:.0f} spun out; {} pollers\n",
             rate("kvm_exits"), rate("exitless_calls"), rate("spun_out"), number("pollers_started"));
  std::vector<std::pair<uint64_t, std::string>> calls;
  for (auto const& [name, n] : stats["syscalls"].items()) calls.emplace_back(n.get<uint64_t>(), name);
  std::ranges::sort(calls, std::greater<>());
  fmt::print(stderr, "vmsrs: {:>10} {:>10} {:>10}  system call\n", "calls", "exitless", "spun out");
  for (auto const& [n, name] : calls) {
    fmt::print(stderr, "vmsrs: {:10} {:10} {:10}  {}\n", n, stats["exitless"].value(name, uint64_t{0}),
               stats["spun_out_calls"].value(name, uint64_t{0}), name);
  }
}

vmm::Result<uint64_t> parse_size(std::string const& text) {
  uint64_t value = 0;
  char const* const last = text.data() + text.size();
  auto const [end, error] = std::from_chars(text.data(), last, value);
  std::string_view const unit(end, static_cast<size_t>(last - end));
  int const shift = unit == "G" || unit == "GiB" ? 30 : unit == "M" || unit == "MiB" ? 20 : 0;
  if (error != std::errc() || shift == 0) {
    return vmm::fail(vmm::Errc::kBadOption,
                     fmt::format("--memory {}: a number followed by M or G is needed, for example 4G", text));
  }
  uint64_t const size = value << shift;
  if (size >> shift != value || size < kMinMemory || size > kMaxMemory || !std::has_single_bit(size)) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--memory {}: 2G, 4G, 8G, 16G, 32G or 64G is needed", text));
  }
  return size;
}

// Libraries that the guest is to have preloaded lie beside the monitor: ../lib, by its own path.
vmm::Result<std::string> library(std::string const& name) {
  std::error_code error;
  auto const own = std::filesystem::read_symlink("/proc/self/exe", error);
  auto const path = own.parent_path().parent_path() / "lib" / name;
  if (!error && std::filesystem::exists(path, error)) return path.string();
  return vmm::fail(vmm::Errc::kBadOption, fmt::format("--rescue: {} is missing", path.string()));
}

// In front of what the program would have preloaded anyway: whoever stands first sees the locks.
vmm::Result<void> preload_rescue(RunOptions const& options, std::vector<std::string>& envp) {
  auto const tracker = library("libsrs_rescue.so");
  if (!tracker) return tl::unexpected(tracker.error());
  std::string words = *tracker;
  if (!options.rescue_adapter.empty() && !std::filesystem::exists(options.rescue_adapter)) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--rescue-adapter: {} is missing", options.rescue_adapter));
  }
  if (!options.rescue_adapter.empty()) words += " " + options.rescue_adapter;
  constexpr std::string_view kName = "LD_PRELOAD=";
  for (std::string& entry : envp) {
    if (!entry.starts_with(kName)) continue;
    entry.insert(kName.size(), words + " ");
    return {};
  }
  envp.push_back(std::string(kName) + words);
  return {};
}

int run(RunOptions const& options, HooksInFront const& in_front) {
  if (options.program.empty()) {
    fmt::print(stderr, "vmsrs: no program given: vmsrs run [options] -- PROGRAM [ARGS...]\n");
    return kUsageError;
  }
  auto memory_size = parse_size(options.memory);
  if (!memory_size) return fail(memory_size.error());
  vmm::RunConfig config;
  config.program.argv = options.program;
  for (char** e = environ; *e != nullptr; ++e) config.program.envp.emplace_back(*e);
  for (std::string const& entry : options.environment) {
    std::string_view const name = std::string_view(entry).substr(0, entry.find('=') + 1);
    if (name.size() < 2) {
      fmt::print(stderr, "vmsrs: --env {}: NAME=VALUE is needed\n", entry);
      return kUsageError;
    }
    std::erase_if(config.program.envp, [name](std::string const& other) { return other.starts_with(name); });
    config.program.envp.push_back(entry);
  }
  runtime::RescueOptions const& rescue = options.recovery_options.rescue;
  if (!rescue.on && (rescue.strikes != 0 || !options.rescue_adapter.empty())) {
    return fail({vmm::Errc::kBadOption, "--strikes and --rescue-adapter need --rescue=guarded", 0});
  }
  if (rescue.on) {
    if (!options.recovery_options.recovery) {
      return fail({vmm::Errc::kBadOption, "--rescue=guarded needs --recovery=on", 0});
    }
    if (auto const preloaded = preload_rescue(options, config.program.envp); !preloaded) return fail(preloaded.error());
  }
  config.memory = *memory_size;
  config.verbose = options.verbose;
  auto const pollers = parse_pollers(options.pollers);
  if (!pollers) return fail(pollers.error());
  config.pollers = *pollers;
  auto memory = vmm::make_memory(config);
  if (!memory) return fail(memory.error());
  runtime::protect::ProtectedGuest* hears = nullptr;  // of faults; there before the guest runs
  std::unique_ptr<runtime::Recovery> recovery;
  if (options.recovery_options.recovery) {
    runtime::Options recovery_options = options.recovery_options;
    if (options.protect.is_part())
      recovery_options.on_report = [&hears](runtime::FaultReport const& report) { hears->fault_seen(report); };
    auto made = runtime::Recovery::create(recovery_options, **memory);
    if (!made) return fail(made.error());
    recovery = std::move(*made);
  }
  std::ofstream stats_file;
  if (!options.stats_json.empty()) {
    stats_file.open(options.stats_json);
    if (!stats_file) {
      return fail(
          {vmm::Errc::kBadOption, fmt::format("--stats-json {}: {}", options.stats_json, std::strerror(errno)), errno});
    }
  }
  auto publisher = make_publisher(options.status, options.program.front(), options.verbose);
  if (!publisher) return fail(publisher.error());
  if (*publisher != nullptr) {
    config.watch = [&](vmm::GuestProcess& process) {
      std::function<uint64_t()> open_scopes;
      if (recovery != nullptr) open_scopes = [&recovery] { return recovery->open_scopes(); };
      (*publisher)->start(process, std::move(open_scopes));
      return std::shared_ptr<void>(nullptr, [&publisher](void*) { (*publisher)->stop(); });
    };
  }
  std::unique_ptr<runtime::protect::ProtectedGuest> guard;
  if (options.protect.is_part()) {
    auto const parts = protect_config(options.protect);
    if (!parts) return fail(parts.error());
    auto made = runtime::protect::ProtectedGuest::first(*parts);
    if (!made) return fail(made.error());
    guard = std::move(*made);
    hears = guard.get();
    config.watch = [&guard, before = std::move(config.watch)](vmm::GuestProcess& process) {
      guard->attach(process);
      return before ? before(process) : nullptr;
    };
  }
  vmm::Hooks* hooks = recovery.get();
  std::unique_ptr<vmm::Hooks> front;
  if (in_front) {
    auto made = in_front(**memory, recovery.get());
    if (!made) return fail(made.error());
    front = std::move(*made);
    if (front != nullptr) hooks = front.get();
  }
  auto const begin = std::chrono::steady_clock::now();
  Door door;
  auto const on_end = [&](vmm::GuestProcess& process) {
    if (*publisher != nullptr) (*publisher)->finish();
    std::chrono::duration<double> const seconds = std::chrono::steady_clock::now() - begin;
    auto stats = stats_of(process, seconds.count());
    if (recovery != nullptr) stats["log_records"] = recovery->log_records();
    if (options.stats) print_stats(stats);
    if (stats_file.is_open()) stats_file << stats.dump(1) << '\n';
    door.reset();
    if (guard != nullptr) {
      auto const [code, signal] = process.exit_outcome();
      guard->ended(vmm::ExitStatus{code, signal}.shell_status());
    }
  };
  auto const status = vmm::run_guest(config, std::move(*memory), hooks, on_end, [&](vmm::GuestProcess& process) {
    if (guard != nullptr) {
      guard->start(process, recovery.get());
    } else {
      door = open_door(process, recovery.get(), options.control);
    }
  });
  if (!status) return fail(status.error());
  return status->shell_status();
}

// 0: the options go together.
int check_protection(RunOptions const& options) {
  ProtectOptions const& p = options.protect;
  if (p.mode.empty() && p.gateway.empty()) {
    return options.events.empty() ? 0 : fail({vmm::Errc::kBadOption, "--events needs --protect", 0});
  }
  char const* const wrong =
      !p.mode.empty() && p.mode != "strict" && p.mode != "relaxed" ? "--protect is strict or relaxed"
      : !p.mode.empty() && !p.gateway.empty() ? "--protect starts a gateway of its own: leave --gateway out"
      : options.recovery_options.rescue.on    ? "--protect: a guest under --rescue=guarded cannot be checkpointed"
      : options.restart                       ? "--protect starts the program anew by itself: leave --restart out"
      : !options.control.empty() && options.control != "none" ? "--protect takes the checkpoints: leave --control out"
                                                              : nullptr;
  return wrong == nullptr ? 0 : fail({vmm::Errc::kBadOption, wrong, 0});
}

std::vector<std::string> for_backup(RunOptions const& options) {
  std::vector<std::string> words = {"--pollers", options.pollers};
  if (!options.recovery_options.report.empty()) {
    words.emplace_back("--report");
    words.push_back(options.recovery_options.report);
  }
  if (options.verbose) words.emplace_back("--verbose");
  // The guest that a backup goes on with has the name that this one has.
  StatusOptions named = options.status;
  if (named.on && named.name.empty()) named.name = std::filesystem::path(options.program.front()).filename().string();
  auto const status = status_words(named);
  words.insert(words.end(), status.begin(), status.end());
  return words;
}

}  // namespace

vmm::Result<int> parse_pollers(std::string const& text) {
  if (text == "auto") return vmm::Pollers::kAuto;
  int value = -1;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0 && value <= kMostPollers) return value;
  return vmm::fail(vmm::Errc::kBadOption,
                   fmt::format("--pollers {}: auto, 0 (every call exits) or 1 to {}", text, kMostPollers));
}

Command add_run(CLI::App& app, std::vector<std::string> const& after_dashes, HooksInFront in_front) {
  auto options = std::make_shared<RunOptions>();
  runtime::Options& r = options->recovery_options;
  app.description("Runs a program in a virtual machine of its own: vmsrs run [options] -- PROGRAM [ARGS...]");
  app.footer(
      "The exit status is the program's own, 128+n if it died of signal n; 125: the monitor could not run it; "
      "126, 127: the program cannot be executed, or was not found.");
  app.prefix_command();
  app.add_option("--memory", options->memory, "the guest's memory: 2G, 4G, 8G, 16G, 32G or 64G; used as it is needed")
      ->capture_default_str();
  app.add_option("--env", options->environment, "NAME=VALUE: set for the program, not for the monitor; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--pollers", options->pollers, "threads that serve system calls without an exit: auto, 0 or a number")
      ->capture_default_str();
  app.add_option("--control", options->control, "the socket for vmsrs checkpoint; none: no socket");
  app.add_flag("-v,--verbose", options->verbose, "say what the guest asks for and does not get");
  app.add_flag("--stats", options->stats, "print exits and system calls at the end");
  app.add_option("--stats-json", options->stats_json, "write them to a file");
  app.add_option("--report", r.report, "append one JSON line for each fault to a file (-: standard output)");
  auto const choice = [&app](char const* name, auto& to, auto map, char const* about) {
    auto const set = [name, &to, map](std::string const& word) {
      auto const found = map.find(word);
      if (found != map.end()) {
        to = found->second;
        return;
      }
      std::string words;
      for (auto const& [known, value] : map) words += (words.empty() ? "" : ", ") + known;
      throw CLI::ValidationError(name, fmt::format("{} is none of {}", word, words));
    };
    app.add_option_function<std::string>(name, set, about);
  };
  add_status_options(app, options->status);
  app.add_flag("--protect{strict}", options->protect.mode,
               "survive the loss of the whole VM: strict (default), or --protect=relaxed (docs/failover.md)");
  app.add_option("--events", options->events, "--protect: append each decision and its cause, one JSON line each");
  add_epoch_options(app, options->protect);
  app.add_option(
         "--failover-window", options->protect.window_ms,
         "--protect: a failover within so many milliseconds of another one does not replay input, and four end it")
      ->capture_default_str();
  add_part_options(app, options->protect, false);
  choice("--recovery", r.recovery, std::map<std::string, bool>{{"on", true}, {"off", false}},
         "on (default) or off: faults are the program's own");
  choice("--store", r.store, std::map<std::string, uint32_t>{{"log", SRS_STORE_LOG}, {"strict", SRS_STORE_STRICT}},
         "log (default): stores go to a ring; strict: each store is a hypercall");
  using runtime::RestoreMode;
  choice("--restore", r.restore,
         std::map<std::string, RestoreMode>{
             {"auto", RestoreMode::kAuto}, {"demand", RestoreMode::kDemand}, {"eager", RestoreMode::kEager}},
         "auto (default), demand: a word comes back when somebody needs it, or eager: at once");
  choice("--policy", r.policy,
         std::map<std::string, srs_policy>{{"land", SRS_LAND}, {"unwind", SRS_UNWIND}, {"run", SRS_RUN}},
         "land (default): the faulted request returns at once; unwind: destructors run first; run: it goes on to its "
         "end in a "
         "copy of memory that nobody sees, and returns then");
  choice("--isolation", r.isolation,
         std::map<std::string, srs_isolation>{{"hold", SRS_HOLD}, {"release", SRS_RELEASE}, {"track", SRS_TRACK}},
         "hold (default): locks under which a request wrote are kept to its end; release; track");
  // Not CLI11's own check for unsigned numbers: it takes -1 for the greatest of them.
  CLI::Validator number = CLI::Range(uint64_t{0}, uint64_t{1'000'000'000});
  number.description("");
  app.add_option("--sweep-after", r.sweep_after_ms, "milliseconds until what --restore=demand left over is put right")
      ->check(number)
      ->capture_default_str();
  app.add_option("--run-budget", r.run_budget_ms, "--policy=run: milliseconds that a faulted request may go on")
      ->check(number)
      ->capture_default_str();
  app.add_option("--run-faults", r.run_faults, "--policy=run: faults that it may go over, the first included")
      ->check(number)
      ->capture_default_str();
  choice(
      "--rescue", r.rescue.on, std::map<std::string, bool>{{"off", false}, {"guarded", true}},
      "off (default), or guarded: a thread of an unmodified server that faults goes back to the read of its request, "
      "which returns ECONNRESET, unless that is not safe");
  app.add_option("--rescue-adapter", options->rescue_adapter, "--rescue: a library that knows the server; preloaded");
  app.add_option("--rescue-loop", r.rescue.loop_faults, "--rescue: so many at one place within 10 s, and no more")
      ->check(number)
      ->capture_default_str();
  app.add_option("--rescue-probe", r.rescue.probe_ms,
                 "--rescue: milliseconds in which the server must answer after a rescue; 0: it is not asked")
      ->check(number)
      ->capture_default_str();
  app.add_flag("--restart", options->restart, "start the program anew when a signal ended it, a few times a minute");
  app.add_option("--strikes", r.rescue.strikes, "for experiments: so many faults that the monitor makes up")
      ->check(number)
      ->group("Experiments");
  app.add_option("--strike-call", options->strike_call,
                 "at the end of this system call, of threads that serve a request")
      ->group("Experiments");
  app.add_option("--strike-each", r.rescue.strike_each, "each time it was made so often")
      ->check(CLI::PositiveNumber)
      ->group("Experiments");
  app.add_option("--strike-us", r.rescue.strike_every_us, "at random instructions, so many microseconds apart")
      ->check(number)
      ->group("Experiments");
  app.add_option("--strike-seed", r.rescue.strike_seed, "of what is random")->group("Experiments");
  app.add_flag("!--no-undo", r.undo, "for experiments: a faulted request's stores stay")->group("Experiments");
  app.add_flag("!--no-suppress", r.suppress, "for experiments: the faulted thread goes on into its fault")
      ->group("Experiments");
  return [&app, options, after_dashes, in_front = std::move(in_front)] {
    options->program = after_dashes.empty() ? app.remaining() : after_dashes;
    if (!after_dashes.empty() && app.remaining_size() != 0) {
      fmt::print(stderr, "vmsrs: {}: unknown option (options go before --, the program behind it)\n",
                 app.remaining().front());
      return kUsageError;
    }
    if (options->program.size() > 0 && after_dashes.empty() && options->program.front().starts_with("-")) {
      fmt::print(stderr, "vmsrs: {}: unknown option; vmsrs run --help lists them\n", options->program.front());
      return kUsageError;
    }
    runtime::RescueOptions& rescue = options->recovery_options.rescue;
    if (!options->strike_call.empty()) {
      for (auto const* row : vmm::SyscallTable::instance().rows()) {
        if (row->name == options->strike_call) rescue.strike_call = row->nr;
      }
      if (rescue.strike_call < 0) {
        fmt::print(stderr, "vmsrs: --strike-call {}: no such system call\n", options->strike_call);
        return kUsageError;
      }
    }
    if (int const refused = check_protection(*options); refused != 0) return refused;
    if (!options->protect.mode.empty()) {
      return direct(options->protect, for_backup(*options), options->events, [&](ProtectOptions const& parts) {
        options->protect = parts;
        return run(*options, in_front);
      });
    }
    if (!options->restart) return run(*options, in_front);
    return supervise([&] { return run(*options, in_front); });
  };
}

}  // namespace vmsrs::cli
