#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "cli/commands.hpp"
#include "cli/detect_options.hpp"
#include "runtime/detect/proc.hpp"

namespace vmsrs::cli {
namespace {

namespace detect = runtime::detect;
constexpr auto kLookEach = std::chrono::milliseconds(5);

struct Target {
  std::string name, registry, app, probe;
  StatusOptions times;
  unsigned seconds = 10;
};

int fail(vmm::Error const& error) {
  fmt::print(stderr, "vmsrs: {}\n", error.message);
  return error.code == vmm::Errc::kHostCall ? kMonitorError : kUsageError;
}

vmm::Result<std::unique_ptr<detect::Registry>> open(Target const& target) {
  return detect::Registry::open(target.registry.empty() ? detect::Registry::default_name() : target.registry, true);
}

int no_vm(std::string const& name) {
  fmt::print(stderr, "vmsrs: {}: no VM of that name runs; vmsrs status shows them\n", name);
  return kUsageError;
}

detect::VmRecord* living(detect::Registry& registry, std::string const& name) {
  detect::VmRecord* const vm = registry.find(name);
  return vm != nullptr && detect::is_alive(vm->owner.load()) ? vm : nullptr;
}

int stop(Target const& target) {
  auto registry = open(target);
  if (!registry) return fail(registry.error());
  detect::VmRecord* const vm = living(**registry, target.name);
  if (vm == nullptr) return no_vm(target.name);
  detect::ProcessId const owner = vm->owner.load();
  int const pid = detect::pid_of(owner);
  // The operator's record comes first: whoever sees the end finds it.
  vm->wanted = detect::Wanted::kStop;
  if (kill(pid, SIGTERM) != 0) {
    fmt::print(stderr, "vmsrs: {}: kill({}): {}\n", target.name, pid, std::strerror(errno));
    return kMonitorError;
  }
  auto const wait_until = [&](std::chrono::steady_clock::time_point end) {
    while (detect::is_alive(owner) && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(kLookEach);
    return !detect::is_alive(owner);
  };
  if (wait_until(std::chrono::steady_clock::now() + std::chrono::seconds(target.seconds))) return 0;
  fmt::print(stderr, "vmsrs: {}: not gone after {} s; killed\n", target.name, target.seconds);
  kill(pid, SIGKILL);
  wait_until(std::chrono::steady_clock::now() + std::chrono::seconds(10));
  if (vm->owner.load() == owner) detect::Registry::deregister_vm(*vm);
  (*registry)->ring();
  return 1;
}

int register_app(Target const& target) {
  auto registry = open(target);
  if (!registry) return fail(registry.error());
  detect::VmRecord* const vm = living(**registry, target.name);
  if (vm == nullptr) return no_vm(target.name);
  auto app = app_of(target.probe, 0, target.times);
  if (!app) return fail(app.error());
  if (!target.app.empty()) app->name = target.app;
  if (auto const r = detect::Registry::register_app(*vm, *app); !r) return fail(r.error());
  (*registry)->ring();
  return 0;
}

int deregister_app(Target const& target) {
  auto registry = open(target);
  if (!registry) return fail(registry.error());
  detect::VmRecord* const vm = living(**registry, target.name);
  if (vm == nullptr) return no_vm(target.name);
  if (!detect::Registry::deregister_app(*vm, target.app)) {
    fmt::print(stderr, "vmsrs: {}: no application of the name {}\n", target.name, target.app);
    return kUsageError;
  }
  (*registry)->ring();
  return 0;
}

}  // namespace

Command add_stop(CLI::App& app) {
  auto target = std::make_shared<Target>();
  app.description(
      "Notes that the VM is to end, and sends it SIGTERM: detectors take its end for the operator's stop, not for a "
      "failure. Exit status 1: it had to be killed.");
  app.add_option("NAME", target->name, "the VM's name, as vmsrs status shows it")->required();
  app.add_option("--timeout", target->seconds, "seconds until it is killed")
      ->check(CLI::Range(0, 3600).description(""))
      ->capture_default_str();
  add_registry_option(app, target->registry);
  return [target] { return stop(*target); };
}

Command add_register(CLI::App& app) {
  auto target = std::make_shared<Target>();
  app.add_option("VM", target->name, "the VM's name, as vmsrs status shows it")->required();
  app.add_option("NAME", target->app, "the application's name")->required();
  app.add_option("URL", target->probe, "tcp://HOST:PORT[?send=TEXT&expect=TEXT] or http://HOST:PORT/PATH")->required();
  add_probe_times(app, target->times);
  add_registry_option(app, target->registry);
  return [target] { return register_app(*target); };
}

Command add_deregister(CLI::App& app) {
  auto target = std::make_shared<Target>();
  app.add_option("VM", target->name, "the VM's name, as vmsrs status shows it")->required();
  app.add_option("NAME", target->app, "the application's name")->required();
  add_registry_option(app, target->registry);
  return [target] { return deregister_app(*target); };
}

}  // namespace vmsrs::cli
