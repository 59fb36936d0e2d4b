#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "cli/commands.hpp"

namespace {

constexpr char const* kAbout =
    "Runs a multi-user server so that a crash in the code serving one user is nobody else's problem.";

// A standard stream that is closed stays so for the guest: none of the monitor's own files may get its number. Reading
// or writing an O_PATH descriptor is EBADF, as for a closed one.
bool reserve_closed_streams() {
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && open("/", O_PATH | O_CLOEXEC) != fd) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (!reserve_closed_streams()) {
    fmt::print(stderr, "vmsrs: a standard stream is closed and its place cannot be taken: {}\n", std::strerror(errno));
    return vmsrs::cli::kMonitorError;
  }
  // Everything behind the first "--" is the program's, options of its own included.
  int own = argc;
  for (int i = 1; i < argc && own == argc; ++i) {
    if (std::strcmp(argv[i], "--") == 0) own = i;
  }
  std::vector<std::string> const after(argv + (own < argc ? own + 1 : argc), argv + argc);

  CLI::App app{kAbout, "vmsrs"};
  app.failure_message([](CLI::App const*, CLI::Error const& e) {
    return fmt::format("vmsrs: {}\nvmsrs --help and vmsrs run --help tell more\n", e.what());
  });
  app.set_version_flag("--version", "vmsrs " VMSRS_VERSION);
  app.require_subcommand(1);
  struct Entry {
    CLI::App* parser;
    vmsrs::cli::Command command;
  };
  std::vector<Entry> commands;
  CLI::App* run = app.add_subcommand("run", "run a program in a virtual machine of its own");
  commands.push_back({run, vmsrs::cli::add_run(*run, after)});
  CLI::App* inject = app.add_subcommand("inject", "run a program and inject faults into it");
  commands.push_back({inject, vmsrs::cli::add_inject(*inject, after)});
  CLI::App* predict = app.add_subcommand("predict", "forecast a guest's failures from what it uses");
  commands.push_back({predict, vmsrs::cli::add_predict(*predict)});
  CLI::App* syscalls = app.add_subcommand("syscalls", "print the table of system calls and how each is served");
  commands.push_back({syscalls, vmsrs::cli::add_syscalls(*syscalls)});
  CLI::App* checkpoint = app.add_subcommand("checkpoint", "write a checkpoint of a running guest to a file");
  commands.push_back({checkpoint, vmsrs::cli::add_checkpoint(*checkpoint)});
  CLI::App* restore = app.add_subcommand("restore", "run a guest on from a checkpoint");
  commands.push_back({restore, vmsrs::cli::add_restore(*restore)});
  using Add = vmsrs::cli::Command (*)(CLI::App&);
  auto const add = [&](char const* name, char const* about, Add add_command) {
    CLI::App* const parser = app.add_subcommand(name, about);
    commands.push_back({parser, add_command(*parser)});
  };
  add("gateway", "own the clients' connections of a protected server", vmsrs::cli::add_gateway);
  add("backup", "hold a protected guest's epochs, and go on from them", vmsrs::cli::add_backup);
  add("detectd", "detect failures of the VMs of this host, of their applications and of other hosts",
      vmsrs::cli::add_detectd);
  add("status", "show hosts, detectors, VMs and applications", vmsrs::cli::add_status);
  add("stop", "end a VM's program: an operator's stop, no failure", vmsrs::cli::add_stop);
  add("register", "have an application of a running VM watched", vmsrs::cli::add_register);
  add("deregister", "have an application watched no more", vmsrs::cli::add_deregister);
  try {
    app.parse(own, argv);
    for (auto const& entry : commands) {
      if (entry.parser->parsed()) return entry.command();
    }
  } catch (CLI::ParseError const& e) {
    int const status = app.exit(e);
    return status == 0 ? 0 : vmsrs::cli::kUsageError;
  } catch (std::exception const& e) {
    fmt::print(stderr, "vmsrs: {}\n", e.what());
    return vmsrs::cli::kMonitorError;
  }
  return vmsrs::cli::kUsageError;
}
