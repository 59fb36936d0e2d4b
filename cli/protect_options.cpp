#include "cli/protect_options.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "runtime/events/event_pipe.hpp"

namespace vmsrs::cli {

namespace {

// A line of --epoch-log. Written whole, so that the lines of a primary and of the one after it do not mix.
void write_epoch(int fd, runtime::replicate::SafeEpoch const& epoch) {
  auto const seconds = [](std::chrono::steady_clock::time_point t) {
    return std::chrono::duration<double>(t.time_since_epoch()).count();
  };
  std::string const line =
      fmt::format("{} {} {:.6f} {:.6f} {} {} {}\n", epoch.name.term, epoch.name.number, seconds(epoch.asked),
                  seconds(epoch.safe), epoch.bytes, epoch.longest.count(), epoch.full ? "full" : "changes");
  (void)!write(fd, line.data(), line.size());
}

}  // namespace

void add_part_options(CLI::App& app, ProtectOptions& options, bool required) {
  auto* const gateway = app.add_option("--gateway", options.gateway, "where the gateway listens: HOST:PORT, unix:PATH");
  auto* const key = app.add_option("--key-file", options.key_file, "64 hexadecimal digits that the parts share");
  auto* const coordinator = app.add_option("--coordinator", options.coordinator,
                                           "who is the primary: shm:NAME, etcd://HOST:PORT[,HOST:PORT…]/NAME");
  auto* const undo = app.add_option("--undo-dir", options.undo_folder,
                                    "of this host, the same for each part that runs the guest: what is kept there of "
                                    "files takes back what a lost primary did to them");
  undo->check(CLI::ExistingDirectory);
  app.add_option("--events-fd", options.events_fd)->group("");
  for (auto* const option : {gateway, key, coordinator}) {
    option->required(required)->group(required ? "Options" : "Protection by parts on several hosts");
  }
  undo->group(required ? "Options" : "Protection by parts on several hosts");
  if (!required) gateway->needs(key)->needs(coordinator), undo->needs(gateway);
}

void add_epoch_options(CLI::App& app, ProtectOptions& options) {
  CLI::Validator number = CLI::Range(uint64_t{1}, uint64_t{600'000});
  number.description("");
  app.add_option("--epoch", options.epoch_ms, "protection: milliseconds from one epoch to the next, at most")
      ->check(number)
      ->capture_default_str();
  app.add_option("--shortest-epoch", options.shortest_ms, "and at least, where output waits for it")
      ->check(number)
      ->capture_default_str();
  auto* const model = app.add_option("--predict", options.model,
                                     "a model of `vmsrs predict train`: epochs are from --epoch, where it forecasts "
                                     "trouble, to --longest-epoch")
                          ->check(CLI::ExistingFile);
  app.add_option("--longest-epoch", options.longest_ms, "milliseconds of an epoch in good health")
      ->check(number)
      ->capture_default_str()
      ->needs(model);
  app.add_option(
         "--epoch-policy", options.epoch_policy,
         "threshold: one or the other; hazard: Daly's interval for the failure rate that is likely; young-daly: "
         "Daly's interval for one failure a day, whatever is forecast")
      ->check(CLI::IsMember({"threshold", "hazard", "young-daly"}))
      ->capture_default_str()
      ->needs(model);
  app.add_option("--epoch-log", options.epoch_log,
                 "append a line for each epoch that is safe: term, number, when it was taken and when safe (seconds of "
                 "CLOCK_MONOTONIC), bytes, the longest time set (ms), full or changes");
  app.add_option("--lease", options.lease_ms, "milliseconds without a sign of life after which a primary is given up")
      ->check(number)
      ->capture_default_str();
}

vmm::Result<runtime::protect::ProtectConfig> protect_config(ProtectOptions const& options) {
  runtime::protect::ProtectConfig config;
  auto const gateway = runtime::replicate::Address::parse(options.gateway);
  if (!gateway) return tl::unexpected(gateway.error());
  auto const key = runtime::replicate::Key::from_file(options.key_file);
  if (!key) return tl::unexpected(key.error());
  config.gateway = *gateway;
  config.coordinator = options.coordinator;
  config.undo_folder = options.undo_folder;
  config.primary.key = *key;
  config.primary.longest = std::chrono::milliseconds(options.epoch_ms);
  config.primary.shortest = std::chrono::milliseconds(std::min(options.shortest_ms, options.epoch_ms));
  config.primary.lease = std::chrono::milliseconds(options.lease_ms);
  config.primary.backup_answers_within = std::chrono::milliseconds(3000);
  if (!options.model.empty()) {
    if (options.longest_ms < options.epoch_ms)
      return vmm::fail(vmm::Errc::kBadOption, "--longest-epoch is shorter than --epoch");
    auto model = predict::read_model(options.model);
    if (!model) return vmm::fail(vmm::Errc::kBadOption, model.error().message, model.error().sys_errno);
    double const shortest = static_cast<double>(options.epoch_ms) / 1000;
    double const longest = static_cast<double>(options.longest_ms) / 1000;
    if (options.epoch_policy == "threshold") {
      config.adaptive.policy = predict::ThresholdEpoch{shortest, longest, model->threshold};
    } else if (options.epoch_policy == "hazard") {
      config.adaptive.policy = predict::HazardEpoch{.shortest = shortest, .longest = longest};
    } else {
      config.adaptive.policy = predict::YoungDalyEpoch{};
    }
    config.adaptive.model = std::move(*model);
  }
  if (!options.epoch_log.empty()) {
    int const fd = open(options.epoch_log.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
      return vmm::fail(vmm::Errc::kBadOption,
                       fmt::format("--epoch-log {}: {}", options.epoch_log, std::strerror(errno)), errno);
    std::shared_ptr<void> const file(nullptr, [fd](void*) { close(fd); });
    config.epoch_is_safe = [fd, file](runtime::replicate::SafeEpoch const& epoch) { write_epoch(fd, epoch); };
  }
  if (options.events_fd >= 0) {
    config.event = [pipe = std::make_shared<runtime::events::EventPipe>(options.events_fd)](
                       runtime::events::Event const& event) { pipe->send(event); };
  }
  return config;
}

}  // namespace vmsrs::cli
