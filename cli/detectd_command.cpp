#include <fmt/format.h>
#include <sys/signalfd.h>

#include <csignal>
#include <thread>

#include "cli/commands.hpp"
#include "cli/detect_options.hpp"
#include "runtime/detect/detector.hpp"

namespace vmsrs::cli {
namespace {

namespace detect = runtime::detect;

struct DetectdOptions {
  detect::DetectorOptions detector;
  std::string registry, period = "continuous";
  std::vector<std::string> hosts;
};

int fail(vmm::Error const& error) {
  fmt::print(stderr, "vmsrs: {}\n", error.message);
  return error.code == vmm::Errc::kBadOption ? kUsageError : kMonitorError;
}

int run(DetectdOptions options) {
  // Before any thread starts: a thread of its own takes them.
  sigset_t ends;
  sigemptyset(&ends);
  for (int const signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&ends, signal);
  sigprocmask(SIG_BLOCK, &ends, nullptr);
  auto const period = detect::PeriodPolicy::parse(options.period);
  if (!period) return fail(period.error());
  options.detector.period = *period;
  if (!options.registry.empty()) options.detector.registry = options.registry;
  for (std::string const& text : options.hosts) {
    auto host = detect::HostAddress::parse(text);
    if (!host) return fail(host.error());
    options.detector.hosts.hosts.push_back(std::move(*host));
  }
  auto detector = detect::Detector::create(options.detector);
  if (!detector) return fail(detector.error());
  std::thread signals([&] {
    int signal = 0;
    sigwait(&ends, &signal);
    (*detector)->stop();
  });
  (*detector)->run();
  signals.join();
  return 0;
}

}  // namespace

Command add_detectd(CLI::App& app) {
  auto options = std::make_shared<DetectdOptions>();
  detect::DetectorOptions& d = options->detector;
  app.description(
      "Detects failures of this host's VMs and their applications, and of other hosts; runs until SIGTERM or SIGINT.\n"
      "The first one is master, a second one its backup, further ones follow; a role whose holder fails is taken "
      "over.");
  add_registry_option(app, options->registry);
  app.add_option("--events", d.events, "append a JSON line for each change of a verdict to a file (-: standard output)")
      ->capture_default_str();
  app.add_option("--period", options->period,
                 "of sweeps, by the forecast CPU use: continuous (0.25 to 5 s), steps (0.5, 2, 5 s), fixed:SECONDS")
      ->capture_default_str();
  CLI::Validator const ms = CLI::Range(10, 600'000).description("");
  app.add_option("--vm-timeout", d.vm_timeout_ms, "milliseconds without a heartbeat until a VM does not respond")
      ->check(ms)
      ->capture_default_str();
  app.add_option("--lease", d.lease_ms, "milliseconds without a beat until a detector's role is taken over")
      ->check(ms)
      ->capture_default_str();
  CLI::Validator const positive = CLI::Range(1e-12, 1e6).description("");
  app.add_option("--q", d.q, "Q of the Kalman filter: covariance of how the CPU use changes")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--r", d.r, "R of the Kalman filter: covariance of what is measured")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--host", options->hosts, "NAME=ADDRESS of another host to watch; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--host-timeout", d.hosts.timeout_ms, "milliseconds in which a host must answer an ICMP echo")
      ->check(ms)
      ->capture_default_str();
  app.add_option("--host-period", d.hosts.period_ms, "milliseconds from one question to the hosts to the next")
      ->check(ms)
      ->capture_default_str();
  app.add_option("--coordinator", d.coordinator,
                 "etcd://HOST:PORT/NAME: of the detectors of several hosts one watches the hosts, one is its backup");
  app.add_option(
         "--power", d.power,
         "who knows a host's power state: none, sim:DIRECTORY (files HOST with on or off), or command:TEXT, run by "
         "the shell with {host} replaced, whose output says on or off")
      ->capture_default_str();
  return [options] { return run(*options); };
}

}  // namespace vmsrs::cli
