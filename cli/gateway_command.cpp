// vmsrs gateway: owns the clients' connections of a protected server.
#include <fmt/format.h>

#include <boost/asio/signal_set.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/protect_options.hpp"
#include "runtime/gateway/gateway.hpp"

namespace vmsrs::cli {
namespace {

struct GatewayOptions {
  ProtectOptions parts;
  std::string listen, data = "127.0.0.1:0", mode = "strict", stats_json;
  bool verbose = false;
};

int fail(vmm::Error const& error) {
  fmt::print(stderr, "vmsrs: gateway: {}\n", error.message);
  return error.code == vmm::Errc::kBadOption ? kUsageError : kMonitorError;
}

void write_figures(std::string const& path, runtime::gateway::Gateway::Figures const& f) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return fmt::print(stderr, "vmsrs: gateway: {} cannot be written\n", path);
  nlohmann::json const figures = {{"connections", f.connections},
                                  {"failovers", f.failovers},
                                  {"released_bytes", f.released_bytes},
                                  {"replayed_bytes", f.replayed_bytes},
                                  {"unsafe_bytes", f.unsafe_bytes},
                                  {"repeated_bytes", f.repeated_bytes},
                                  {"diverged", f.diverged},
                                  {"reset_at_failover", f.reset_at_failover},
                                  {"unprotected_bytes", f.unprotected_bytes},
                                  {"fenced", f.fenced}};
  fmt::print(file, "{}\n", figures.dump(1));
  std::fclose(file);
}

int serve(GatewayOptions const& options) {
  using runtime::replicate::Address;
  auto const control = Address::parse(options.listen);
  if (!control) return fail(control.error());
  auto const data = Address::parse(options.data);
  if (!data) return fail(data.error());
  auto const key = runtime::replicate::Key::from_file(options.parts.key_file);
  if (!key) return fail(key.error());
  auto const coordinator = runtime::open_coordinator(options.parts.coordinator);
  if (!coordinator) return fail(coordinator.error());
  boost::asio::io_context io;
  runtime::gateway::GatewayConfig config;
  config.control = *control;
  config.data = *data;
  config.key = *key;
  config.strict = options.mode == "strict";
  config.term_is_current = [&](runtime::Term term) {
    auto const lease = (*coordinator)->look();
    return !lease || lease->term <= term;
  };
  config.note = [&options](std::string const& text) {
    if (options.verbose) fmt::print(stderr, "vmsrs: gateway: {}\n", text);
  };
  // What the program wrote last is on its way to the clients.
  boost::asio::steady_timer last(io);
  config.on_ended = [&](int) {
    last.expires_after(std::chrono::milliseconds(100));
    last.async_wait([&io](boost::system::error_code) { io.stop(); });
  };
  auto const gateway = runtime::gateway::Gateway::start(io, std::move(config));
  if (!gateway) return fail(gateway.error());
  auto const address = (*gateway)->control_address().text();
  if (auto told = (*coordinator)->announce(runtime::PartRole::kGateway, address); !told) return fail(told.error());
  boost::asio::steady_timer again(io);
  std::function<void()> tell = [&] {  // etcd forgets who does not call
    again.expires_after(std::chrono::seconds(1));
    again.async_wait([&](boost::system::error_code error) {
      if (error) return;
      (void)(*coordinator)->announce(runtime::PartRole::kGateway, address);
      tell();
    });
  };
  tell();
  boost::asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&io](boost::system::error_code error, int) {
    if (!error) io.stop();
  });
  if (options.verbose) fmt::print(stderr, "vmsrs: gateway: primaries come to {}\n", address);
  io.run();
  if (!options.stats_json.empty()) write_figures(options.stats_json, (*gateway)->figures());
  return 0;
}

}  // namespace

Command add_gateway(CLI::App& app) {
  auto options = std::make_shared<GatewayOptions>();
  app.description(
      "Owns the clients' connections of a protected server, so that the guest behind them can be replaced. "
      "vmsrs run --protect starts one by itself.");
  app.add_option("--listen", options->listen, "where primaries come: HOST:PORT, unix:PATH")->required();
  app.add_option("--data", options->data, "where a restored guest's connections come")->capture_default_str();
  app.add_option("--key-file", options->parts.key_file, "64 hexadecimal digits that the parts share")->required();
  app.add_option("--coordinator", options->parts.coordinator,
                 "who is the primary: shm:NAME, etcd://HOST:PORT[,HOST:PORT…]/NAME")
      ->required();
  app.add_option("--mode", options->mode,
                 "strict: output leaves when an epoch that covers it is safe; relaxed: at once")
      ->check(CLI::IsMember({"strict", "relaxed"}))
      ->capture_default_str();
  app.add_option("--stats-json", options->stats_json, "what it did, at its end");
  app.add_flag("-v,--verbose", options->verbose, "say what happens");
  return [options] { return serve(*options); };
}

}  // namespace vmsrs::cli
