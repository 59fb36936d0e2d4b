#include "cli/protect_options.hpp"

#include <memory>

#include "runtime/events/event_pipe.hpp"

namespace vmsrs::cli {

void add_part_options(CLI::App& app, ProtectOptions& options, bool required) {
  auto* const gateway = app.add_option("--gateway", options.gateway, "where the gateway listens: HOST:PORT, unix:PATH");
  auto* const key = app.add_option("--key-file", options.key_file, "64 hexadecimal digits that the parts share");
  auto* const coordinator = app.add_option("--coordinator", options.coordinator,
                                           "who is the primary: shm:NAME, etcd://HOST:PORT[,HOST:PORT…]/NAME");
  app.add_option("--events-fd", options.events_fd)->group("");
  for (auto* const option : {gateway, key, coordinator}) {
    option->required(required)->group(required ? "Options" : "Protection by parts on several hosts");
  }
  if (!required) gateway->needs(key)->needs(coordinator);
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
  config.primary.key = *key;
  config.primary.longest = std::chrono::milliseconds(options.epoch_ms);
  config.primary.shortest = std::chrono::milliseconds(std::min(options.shortest_ms, options.epoch_ms));
  config.primary.lease = std::chrono::milliseconds(options.lease_ms);
  config.primary.backup_answers_within = std::chrono::milliseconds(3000);
  if (options.events_fd >= 0) {
    config.event = [pipe = std::make_shared<runtime::events::EventPipe>(options.events_fd)](
                       runtime::events::Event const& event) { pipe->send(event); };
  }
  return config;
}

}  // namespace vmsrs::cli
