#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/commands.hpp"
#include "cli/detect_options.hpp"
#include "runtime/detect/proc.hpp"
#include "runtime/detect/roles.hpp"
#include "runtime/detect/verdict.hpp"

namespace vmsrs::cli {
namespace {

namespace detect = runtime::detect;
using Json = nlohmann::ordered_json;

struct StatusCommand {
  std::string registry;
  bool json = false, watch = false;
  double every_s = 0.5;
};

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

double seconds_since(uint64_t then, uint64_t now) {
  return then == 0 || then > now ? 0 : static_cast<double>(now - then) / 1e9;
}

Json verdict_of(detect::SharedVerdict const& shared, uint64_t now) {
  detect::Verdict const v = detect::read(shared);
  return {{"class", detect::name_of(v.failure)},
          {"cause", detect::name_of(v.cause)},
          {"evidence", v.evidence},
          {"since_s", seconds_since(shared.since_ns.load(), now)}};
}

Json detectors_of(detect::RoleBoard const& board, uint64_t now) {
  Json all = Json::array();
  for (unsigned i = 0; i < detect::kMaxSeats; ++i) {
    detect::DetectorSeat const& seat = board.seats[i];
    detect::ProcessId const owner = seat.owner.load();
    if (owner == 0) continue;
    bool const alive = detect::is_alive(owner);
    all.push_back({{"pid", detect::pid_of(owner)},
                   {"role", detect::name_of(detect::role_of(board, i))},
                   {"alive", alive},
                   {"beat_age_s", seconds_since(seat.beat_ns.load(), now)},
                   {"period_s", static_cast<double>(seat.period_us.load()) / 1e6},
                   {"forecast_cpu", static_cast<double>(seat.predicted_ppm.load()) / 1e6},
                   {"sweeps", seat.sweeps.load()},
                   {"looks", seat.looks.load()},
                   {"cpu_s", static_cast<double>(seat.cpu_ns.load()) / 1e9},
                   {"runs_s", seconds_since(seat.started_ns.load(), now)}});
  }
  return all;
}

char const* name_of(detect::Life life) {
  switch (life) {
    case detect::Life::kNone:
      return "none";
    case detect::Life::kStarting:
      return "starting";
    case detect::Life::kRunning:
      return "running";
    case detect::Life::kEnded:
      return "ended";
  }
  return "?";
}

char const* name_of_state(uint32_t state) {
  constexpr std::array<char const*, 4> kNames{"guest", "monitor", "blocked", "parked"};
  return state < kNames.size() ? kNames[state] : "?";
}

Json apps_of(detect::VmRecord const& vm, uint64_t now) {
  Json apps = Json::array();
  for (detect::AppRecord const& app : vm.apps) {
    if (app.registered.load() != 1) continue;
    Json one = {{"name", app.name.get()}};
    one.update(verdict_of(app.verdict, now));
    if (std::string const probe = app.probe.get(); !probe.empty()) {
      one["probe"] = probe;
      one["timeout_ms"] = app.timeout_ms.load();
      one["period_ms"] = app.period_ms.load();
      one["probes"] = app.probes.load();
      one["answers"] = app.answers.load();
      one["answer_ms"] = static_cast<double>(app.answer_us.load()) / 1e3;
    }
    apps.push_back(std::move(one));
  }
  return apps;
}

Json vms_of(detect::RegistryLayout const& layout, uint64_t now) {
  Json all = Json::array();
  for (detect::VmRecord const& vm : layout.vms) {
    detect::ProcessId const owner = vm.owner.load();
    if (owner == 0 || vm.life.load() == detect::Life::kNone) continue;
    bool const alive = detect::is_alive(owner);
    Json threads = Json::array();
    for (detect::ThreadCounters const& t : vm.threads) {
      if (t.tid.load() == 0) continue;
      threads.push_back({{"tid", t.tid.load()},
                         {"state", name_of_state(t.state.load())},
                         {"call", t.call.load()},
                         {"progress", t.exits.load()},
                         {"cpu_s", static_cast<double>(t.cpu_ns.load()) / 1e9},
                         {"progress_age_s", seconds_since(t.progress_ns.load(), now)}});
    }
    Json one = {
        {"name", vm.name.get()},           {"program", vm.program.get()},
        {"pid", detect::pid_of(owner)},    {"monitor", alive ? "runs" : "gone"},
        {"life", name_of(vm.life.load())}, {"wanted", vm.wanted.load() == detect::Wanted::kRun ? "run" : "stop"}};
    one.update(verdict_of(vm.verdict, now));
    one["runs_s"] = seconds_since(vm.started_ns.load(), now);
    one["beat_age_s"] = seconds_since(vm.beat_ns.load(), now);
    for (auto const& [name, n] : {std::pair<char const*, std::atomic<uint64_t> const&>{"faults", vm.faults},
                                  {"open_scopes", vm.open_scopes},
                                  {"threads_now", vm.thread_count},
                                  {"exits", vm.kvm_exits},
                                  {"exitless_calls", vm.exitless_calls},
                                  {"hypercalls", vm.hypercalls},
                                  {"memory_refused", vm.memory_refused},
                                  {"fds_refused", vm.fds_refused}}) {
      one[name] = n.load();
    }
    one["cpu_s"] = static_cast<double>(vm.cpu_ns.load()) / 1e9;
    if (vm.life.load() == detect::Life::kEnded) {
      one["exit_code"] = vm.exit_code.load();
      one["exit_signal"] = vm.exit_signal.load();
    }
    one["applications"] = apps_of(vm, now);
    one["threads"] = std::move(threads);
    all.push_back(std::move(one));
  }
  return all;
}

Json tree_of(detect::Registry const& registry) {
  uint64_t const now = detect::now_ns();
  detect::RegistryLayout const& layout = registry.layout();
  Json hosts = Json::array();
  for (detect::HostRecord const& host : layout.hosts) {
    if (host.used.load() == 0) continue;
    Json one = {{"name", host.name.get()}, {"address", host.address.get()}};
    one.update(verdict_of(host.verdict, now));
    one["answer_ms"] = static_cast<double>(host.answer_us.load()) / 1e3;
    hosts.push_back(std::move(one));
  }
  return {{"host", host_name()},
          {"registry", registry.name()},
          {"epoch", layout.roles.master.load() >> 8},
          {"detectors", detectors_of(layout.roles, now)},
          {"vms", vms_of(layout, now)},
          {"hosts", std::move(hosts)}};
}

std::string verdict_text(Json const& of) {
  auto const text = [&](char const* key) { return of[key].get<std::string>(); };
  std::string const cause = text("cause"), evidence = text("evidence");
  return text("class") + (cause == "none" ? "" : " (" + cause + ")") + (evidence.empty() ? "" : ": " + evidence);
}

std::string text_of(Json const& tree) {
  std::string out =
      fmt::format("{}  registry {}\n", tree["host"].get<std::string>(), tree["registry"].get<std::string>());
  for (Json const& d : tree["detectors"]) {
    double const runs = d["runs_s"].get<double>();
    out += fmt::format("  detector {}  {}{}  period {:.2f} s at {:.0f} % CPU foretold, uses {:.3f} % of a core\n",
                       d["pid"].get<int>(), d["role"].get<std::string>(), d["alive"].get<bool>() ? "" : " (gone)",
                       d["period_s"].get<double>(), d["forecast_cpu"].get<double>() * 100,
                       runs > 0 ? d["cpu_s"].get<double>() / runs * 100 : 0);
  }
  if (tree["detectors"].empty()) out += "  no detector runs: vmsrs detectd; what VMs say of themselves:\n";
  for (Json const& vm : tree["vms"]) {
    out += fmt::format("  VM {}  pid {} {}  {}\n", vm["name"].get<std::string>(), vm["pid"].get<int>(),
                       vm["monitor"].get<std::string>(), verdict_text(vm));
    out += fmt::format("    {} {}, {} threads, {:.2f} s CPU, {} exits, {} faults, {} open scopes, beat {:.2f} s ago\n",
                       vm["program"].get<std::string>(), vm["life"].get<std::string>(),
                       vm["threads_now"].get<uint64_t>(), vm["cpu_s"].get<double>(), vm["exits"].get<uint64_t>(),
                       vm["faults"].get<uint64_t>(), vm["open_scopes"].get<uint64_t>(), vm["beat_age_s"].get<double>());
    for (Json const& app : vm["applications"]) {
      out += fmt::format("    application {}  {}\n", app["name"].get<std::string>(), verdict_text(app));
    }
  }
  for (Json const& host : tree["hosts"]) {
    out += fmt::format("  host {} ({})  {}\n", host["name"].get<std::string>(), host["address"].get<std::string>(),
                       verdict_text(host));
  }
  return out;
}

int status(StatusCommand const& command) {
  auto const registry =
      detect::Registry::open(command.registry.empty() ? detect::Registry::default_name() : command.registry, true);
  if (!registry) {
    fmt::print(stderr, "vmsrs: {}\n", registry.error().message);
    return registry.error().code == vmm::Errc::kHostCall ? kMonitorError : 1;
  }
  bool const terminal = isatty(STDOUT_FILENO) == 1;
  for (;;) {
    Json const tree = tree_of(**registry);
    std::string text = command.json
                           ? tree.dump(command.watch ? -1 : 1, ' ', false, Json::error_handler_t::replace) + "\n"
                           : text_of(tree);
    if (command.watch && terminal && !command.json) text.insert(0, "\x1b[H\x1b[2J");
    fmt::print("{}", text);
    if (std::fflush(stdout) != 0) return 0;  // nobody reads any more
    if (!command.watch) return 0;
    std::this_thread::sleep_for(std::chrono::duration<double>(command.every_s));
  }
}

}  // namespace

Command add_status(CLI::App& app) {
  auto command = std::make_shared<StatusCommand>();
  app.description(
      "Shows the tree of detectors, VMs, applications and hosts, as their shared memory has it now. Exit status 1: "
      "there "
      "is no registry, so nothing ran yet.");
  app.add_flag("--json", command->json, "as JSON; with --watch one object a line");
  app.add_flag("--watch", command->watch, "again and again, until it is interrupted");
  app.add_option("--every", command->every_s, "--watch: seconds between two looks")
      ->check(CLI::Range(0.05, 3600.0).description(""))
      ->capture_default_str();
  add_registry_option(app, command->registry);
  return [command] { return status(*command); };
}

}  // namespace vmsrs::cli
