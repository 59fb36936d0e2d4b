// vmsrs checkpoint, vmsrs restore.
#include <fmt/format.h>

#include <cstdio>

#include "cli/commands.hpp"
#include "runtime/checkpoint/control.hpp"
#include "runtime/checkpoint/image.hpp"
#include "runtime/checkpoint/restore.hpp"

namespace vmsrs::cli {
namespace {

int fail(vmm::Error const& error) {
  fmt::print(stderr, "vmsrs: {}\n", error.message);
  return error.code == vmm::Errc::kBadOption ? kUsageError : kMonitorError;
}

struct RestoreOptions {
  std::string file, control, report, pollers = "auto";
  bool verbose = false;
};

int restore(RestoreOptions const& options) {
  auto pollers = parse_pollers(options.pollers);
  if (!pollers) return fail(pollers.error());
  auto image = checkpoint::Image::from_file(options.file);
  if (!image) return fail(image.error());
  checkpoint::RestoreConfig config;
  config.pollers = *pollers;
  config.verbose = options.verbose;
  config.recovery.report = options.report;
  Door door;
  config.on_ready = [&](vmm::GuestProcess& process, runtime::Recovery* recovery) {
    door = open_door(process, recovery, options.control);
  };
  config.on_end = [&](vmm::GuestProcess&) { door.reset(); };
  auto const status = checkpoint::run_restored(std::move(*image), config);
  if (!status) return fail(status.error());
  return status->shell_status();
}

}  // namespace

struct CheckpointDoor {
  std::unique_ptr<checkpoint::Checkpointer> checkpointer;
  std::unique_ptr<checkpoint::ControlSocket> socket;  // goes first
};

void CloseDoor::operator()(CheckpointDoor* door) const {
  delete door;
}

Door open_door(vmm::GuestProcess& process, runtime::Recovery* recovery, std::string const& control) {
  if (control == "none") return nullptr;
  Door door(new CheckpointDoor);
  checkpoint::Options options;
  options.recovery = recovery;
  door->checkpointer = std::make_unique<checkpoint::Checkpointer>(process, options);
  auto socket = checkpoint::ControlSocket::open(
      control, [c = door->checkpointer.get()](bool full) { return full ? c->take_full() : c->take_epoch(); });
  if (!socket) {
    fmt::print(stderr, "vmsrs: no checkpoints can be taken of this guest: {}\n", socket.error().message);
    return nullptr;
  }
  door->socket = std::move(*socket);
  return door;
}

Command add_checkpoint(CLI::App& app) {
  struct Words {
    std::string target, file;
    uint64_t epochs = 1, every_ms = 100;
  };
  auto words = std::make_shared<Words>();
  app.description("Writes a checkpoint of a running guest to a file; the guest goes on. Prints what it cost, as JSON.");
  app.add_option("guest", words->target, "process id of its vmsrs, or the socket that --control named")->required();
  app.add_option("file", words->file, "where the checkpoint goes")->required();
  CLI::Validator number = CLI::Range(uint64_t{1}, uint64_t{1'000'000});
  number.description("");
  app.add_option("--epochs", words->epochs, "so many one after the other: the first is full, the others what changed")
      ->check(number)
      ->capture_default_str();
  app.add_option("--every", words->every_ms, "milliseconds between two epochs")->check(number)->capture_default_str();
  return [words] {
    auto taken = checkpoint::ask_for_checkpoint(words->target, words->file, words->epochs, words->every_ms,
                                                [](std::string const& line) {
                                                  std::fputs(line.c_str(), stdout);
                                                  std::fflush(stdout);
                                                });
    return taken ? 0 : fail(taken.error());
  };
}

Command add_restore(CLI::App& app) {
  auto options = std::make_shared<RestoreOptions>();
  app.description("Makes a guest of a checkpoint and runs it to its end.");
  app.footer(
      "The exit status is the program's own, as of vmsrs run; 125: the checkpoint is damaged or does not fit here.");
  app.add_option("file", options->file, "what vmsrs checkpoint wrote")->required();
  app.add_option("--control", options->control, "the socket for the next checkpoint; none: no socket");
  app.add_option("--report", options->report, "append one JSON line for each fault to a file (-: standard output)");
  app.add_option("--pollers", options->pollers, "threads that serve system calls without an exit: auto, 0 or a number")
      ->capture_default_str();
  app.add_flag("-v,--verbose", options->verbose, "say what the guest asks for and does not get");
  return [options] { return restore(*options); };
}

}  // namespace vmsrs::cli
