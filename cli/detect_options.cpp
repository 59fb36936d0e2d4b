#include "cli/detect_options.hpp"

#include <fmt/format.h>

#include "runtime/detect/probe.hpp"

namespace vmsrs::cli {

using runtime::detect::AppRegistration;
using runtime::detect::Publisher;

void add_registry_option(CLI::App& app, std::string& registry) {
  app.add_option("--registry", registry, "the shared memory in which monitors and detectors of this host meet")
      ->default_str("$VMSRS_REGISTRY, or vmsrs-UID");
}

void add_probe_times(CLI::App& app, StatusOptions& options) {
  app.add_option("--probe-timeout", options.timeout_ms, "milliseconds in which an answer must come")
      ->check(CLI::Range(10, 600'000).description(""))
      ->capture_default_str();
  app.add_option("--probe-period", options.period_ms, "milliseconds from one question to the next")
      ->check(CLI::Range(10, 600'000).description(""))
      ->capture_default_str();
  app.add_option("--probe-start", options.start_ms, "milliseconds that the first answer may take")
      ->check(CLI::Range(0, 86'400'000).description(""))
      ->capture_default_str();
}

void add_status_options(CLI::App& app, StatusOptions& options) {
  app.add_option("--name", options.name, "of the VM, for vmsrs status, stop and detectd; default: the program's");
  app.add_flag("!--no-status", options.on, "publish no status page: vmsrs status and detectd do not see this VM");
  app.add_flag("--service", options.service, "an end with status 0 is a failure too, unless it was asked for");
  app.add_option(
         "--probe", options.probes,
         "[NAME=]URL: an application to be asked whether it answers: tcp://HOST:PORT[?send=TEXT&expect=TEXT] or "
         "http://HOST:PORT/PATH; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_probe_times(app, options);
  add_registry_option(app, options.registry);
}

std::vector<std::string> status_words(StatusOptions const& options) {
  std::vector<std::string> words;
  auto const add = [&words](char const* option, std::string const& value) {
    words.emplace_back(option);
    words.push_back(value);
  };
  if (!options.name.empty()) add("--name", options.name);
  if (!options.on) words.emplace_back("--no-status");
  if (options.service) words.emplace_back("--service");
  for (std::string const& probe : options.probes) add("--probe", probe);
  add("--probe-timeout", std::to_string(options.timeout_ms));
  add("--probe-period", std::to_string(options.period_ms));
  add("--probe-start", std::to_string(options.start_ms));
  if (!options.registry.empty()) add("--registry", options.registry);
  return words;
}

vmm::Result<AppRegistration> app_of(std::string const& text, size_t n, StatusOptions const& times) {
  AppRegistration app;
  size_t const equals = text.find('='), scheme = text.find("://");
  bool const named = equals != std::string::npos && scheme != std::string::npos && equals < scheme;
  app.name = named ? text.substr(0, equals) : n == 0 ? "app" : fmt::format("app{}", n + 1);
  app.probe = named ? text.substr(equals + 1) : text;
  app.timeout_ms = times.timeout_ms, app.period_ms = times.period_ms, app.start_ms = times.start_ms;
  if (auto const spec = runtime::detect::ProbeSpec::parse(app.probe); !spec) return tl::unexpected(spec.error());
  return app;
}

vmm::Result<std::unique_ptr<Publisher>> make_publisher(StatusOptions const& options, std::string const& program,
                                                       bool verbose) {
  bool const needed = !options.name.empty() || !options.probes.empty() || options.service || !options.registry.empty();
  if (!options.on) {
    if (!needed) return nullptr;
    return vmm::fail(vmm::Errc::kBadOption,
                     "--no-status: --name, --registry, --service and --probe need a status page");
  }
  runtime::detect::PublishOptions publish;
  if (!options.registry.empty()) publish.registry = options.registry;
  publish.name = options.name;
  publish.program = program;
  publish.service = options.service;
  if (options.probes.size() > runtime::detect::kMaxApps) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--probe: {} at most", runtime::detect::kMaxApps));
  }
  for (size_t i = 0; i < options.probes.size(); ++i) {
    auto app = app_of(options.probes[i], i, options);
    if (!app) return tl::unexpected(app.error());
    publish.apps.push_back(std::move(*app));
  }
  auto publisher = Publisher::create(publish);
  if (publisher || needed) return publisher;
  if (verbose) fmt::print(stderr, "vmsrs: no status page: {}\n", publisher.error().message);
  return nullptr;
}

}  // namespace vmsrs::cli
