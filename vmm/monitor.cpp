#include "vmm/monitor.hpp"

#include "vmm/kick.hpp"
#include "vmm/signal_gateway.hpp"

namespace vmm {

Result<std::unique_ptr<AddressSpace>> make_memory(RunConfig const& config) {
  return AddressSpace::create({.window = config.memory});
}

Result<ExitStatus> run_guest(RunConfig const& config, std::unique_ptr<AddressSpace> memory, Hooks* hooks,
                             std::function<void(GuestProcess&)> const& on_end,
                             std::function<void(GuestProcess&)> const& on_start) {
  SignalGateway gateway;
  if (auto r = gateway.block(kick_signal()); !r) return tl::unexpected(r.error());
  auto process = GuestProcess::create(std::move(memory), hooks, config.verbose, config.pollers);
  if (!process) return tl::unexpected(process.error());
  (*process)->fds().adopt_standard_streams();
  (*process)->on_started = on_start;
  std::shared_ptr<void> watcher;
  if (config.watch) watcher = config.watch(**process);
  auto status = (*process)->run(config.program, gateway);
  gateway.stop();
  if (status && on_end) on_end(**process);
  return status;
}

Result<ExitStatus> run_made_guest(RunConfig const& config, std::unique_ptr<AddressSpace> memory, Hooks* hooks,
                                  std::function<Result<void>(GuestProcess&)> const& begin,
                                  std::function<void(GuestProcess&)> const& on_end) {
  SignalGateway gateway;
  if (auto r = gateway.block(kick_signal()); !r) return tl::unexpected(r.error());
  auto process = GuestProcess::create(std::move(memory), hooks, config.verbose, config.pollers);
  if (!process) return tl::unexpected(process.error());
  auto status = (*process)->run([&] { return begin(**process); }, gateway);
  gateway.stop();
  if (status && on_end) on_end(**process);
  return status;
}

}  // namespace vmm
