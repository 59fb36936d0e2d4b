// vmsrs backup: holds a protected guest's last epochs, and goes on from them when its primary is lost.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/detect_options.hpp"
#include "cli/protect_options.hpp"
#include "runtime/checkpoint/image.hpp"
#include "runtime/checkpoint/restore.hpp"
#include "runtime/recovery.hpp"
#include "runtime/replicate/backup.hpp"

namespace vmsrs::cli {
namespace {

namespace replicate = runtime::replicate;

struct BackupOptions {
  ProtectOptions parts;
  StatusOptions status;
  std::string listen, report, pollers = "auto";
  uint64_t grace_ms = 0;
  bool verbose = false;
};

bool volatile asked_to_end = false;

int fail(vmm::Error const& error) {
  fmt::print(stderr, "vmsrs: backup: {}\n", error.message);
  return error.code == vmm::Errc::kBadOption ? kUsageError : kMonitorError;
}

int shell_status(vmm::Process::Outcome const& outcome) {
  return vmm::ExitStatus{outcome.code, outcome.signal}.shell_status();
}

int go_on(BackupOptions const& options, runtime::protect::ProtectConfig const& config,
          std::unique_ptr<runtime::Coordinator> coordinator, replicate::TakeOver const& take_over,
          replicate::EpochStore& store, checkpoint::Image& image, int pollers) {
  auto guard = runtime::protect::ProtectedGuest::restored(config, std::move(coordinator), take_over.term,
                                                          take_over.replay, store.holds());
  if (!guard) return fail(guard.error());
  replicate::EpochName const from = (*guard)->resume();
  if (auto settled = store.settle(from); !settled) return fail(settled.error());
  // The lost primary is fenced by now: its name is free. A guest that nobody can see still serves its users.
  auto publisher = make_publisher(options.status, image.program(), options.verbose);
  if (!publisher) fmt::print(stderr, "vmsrs: backup: no status page: {}\n", publisher.error().message);
  runtime::detect::Publisher* const shown = publisher ? publisher->get() : nullptr;
  double const taken_at = static_cast<double>(image.taken_at_ns()) / 1e9;
  checkpoint::RestoreConfig restore;
  restore.owner = &(*guard)->sockets();
  restore.pollers = pollers;
  restore.verbose = options.verbose;
  restore.recovery.report = options.report;
  restore.recovery.on_report = [&](runtime::FaultReport const& report) { (*guard)->fault_seen(report); };
  restore.on_ready = [&](vmm::GuestProcess& process, runtime::Recovery* recovery) {
    (*guard)->attach(process);
    if (shown != nullptr) {
      std::function<uint64_t()> open_scopes;
      if (recovery != nullptr) open_scopes = [recovery] { return recovery->open_scopes(); };
      shown->start(process, std::move(open_scopes));
    }
    (*guard)->start(process, recovery);
    if (!config.event) return;
    config.event({.kind = runtime::events::Kind::kTookOver,
                  .priority = runtime::events::Priority::kHigh,
                  .subject = "primary",
                  .detail = fmt::format("at epoch {} of term {}, taken at {:.6f}", from.number, from.term, taken_at),
                  .value = static_cast<int64_t>(take_over.term)});
  };
  restore.on_end = [&](vmm::GuestProcess& process) {
    if (shown != nullptr) shown->finish();
    (*guard)->ended(shell_status(process.exit_outcome()));
  };
  auto const status = checkpoint::run_restored(std::move(image), restore);
  if (!status) return fail(status.error());
  return status->shell_status();
}

int stand_by(BackupOptions const& options) {
  auto const pollers = parse_pollers(options.pollers);
  if (!pollers) return fail(pollers.error());
  auto const config = protect_config(options.parts);
  if (!config) return fail(config.error());
  auto const listen = replicate::Address::parse(options.listen);
  if (!listen) return fail(listen.error());
  auto coordinator = runtime::open_coordinator(options.parts.coordinator);
  if (!coordinator) return fail(coordinator.error());
  checkpoint::Image image;
  replicate::EpochStore store([&image](replicate::EpochName, bool full, replicate::Bytes const& bytes) {
    if (full) image = checkpoint::Image();
    return image.apply(bytes);
  });
  replicate::BackupConfig backup;
  backup.listen = *listen;
  backup.key = config->primary.key;
  backup.lease = config->primary.lease;
  backup.grace = std::chrono::milliseconds(options.grace_ms);
  backup.note = [&options](std::string const& text) {
    if (options.verbose) fmt::print(stderr, "vmsrs: backup: {}\n", text);
  };
  std::signal(SIGTERM, [](int) { asked_to_end = true; });
  auto const take_over = replicate::wait_as_backup(backup, **coordinator, store, asked_to_end);
  std::signal(SIGTERM, SIG_DFL);
  if (!take_over) return fail(take_over.error());
  if (!*take_over) return 0;
  return go_on(options, *config, std::move(*coordinator), **take_over, store, image, *pollers);
}

}  // namespace

Command add_backup(CLI::App& app) {
  auto options = std::make_shared<BackupOptions>();
  app.description(
      "Holds a protected guest's last epochs, and goes on from them as primary when the lease is free. "
      "vmsrs run --protect starts one by itself.");
  app.footer("The exit status is the program's own if this backup became the primary, else 0.");
  app.add_option("--listen", options->listen, "where the primary comes: HOST:PORT, unix:PATH")->required();
  add_part_options(app, options->parts, true);
  add_epoch_options(app, options->parts);
  add_status_options(app, options->status);
  app.add_option("--grace", options->grace_ms, "milliseconds that a lease which ran out is left to somebody else")
      ->capture_default_str();
  app.add_option("--report", options->report, "append one JSON line for each fault to a file (-: standard output)");
  app.add_option("--pollers", options->pollers, "threads that serve system calls without an exit: auto, 0 or a number")
      ->capture_default_str();
  app.add_flag("-v,--verbose", options->verbose, "say what happens");
  return [options] { return stand_by(*options); };
}

}  // namespace vmsrs::cli
