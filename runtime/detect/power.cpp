#include "runtime/detect/power.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/detect/proc.hpp"

extern char** environ;

namespace vmsrs::runtime::detect {
namespace {

// The last word that is "on" or "off".
Power power_in(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::istringstream words(text);
  Power found = Power::kUnknown;
  for (std::string word; words >> word;) {
    while (!word.empty() && std::ispunct(static_cast<unsigned char>(word.back())) != 0) word.pop_back();
    if (word == "on") found = Power::kOn;
    if (word == "off") found = Power::kOff;
  }
  return found;
}

class NoPower final : public PowerController {
 public:
  Power state(std::string const&, uint64_t) override { return Power::kUnknown; }
};

class SimulatedPower final : public PowerController {
 public:
  explicit SimulatedPower(std::string directory) : directory_(std::move(directory)) {}
  Power state(std::string const& host, uint64_t) override {
    std::ifstream file(directory_ + "/" + host);
    std::ostringstream text;
    text << file.rdbuf();
    return power_in(text.str());
  }

 private:
  std::string directory_;
};

class CommandPower final : public PowerController {
 public:
  explicit CommandPower(std::string text) : text_(std::move(text)) {}
  Power state(std::string const& host, uint64_t timeout_ms) override {
    std::string command = text_;
    constexpr std::string_view kHost = "{host}";
    for (size_t at = 0; (at = command.find(kHost, at)) != std::string::npos; at += host.size()) {
      command.replace(at, kHost.size(), host);
    }
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return Power::kUnknown;
    vmm::ScopedFd const out(ends[0]);
    vmm::ScopedFd in(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in.get(), 1);
    // A group of its own, to be ended as a whole; and signals as a program expects them.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attributes, 0);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    std::string shell = "/bin/sh", option = "-c";
    std::array<char*, 4> argv{shell.data(), option.data(), command.data(), nullptr};
    pid_t child = 0;
    int const failed = posix_spawn(&child, shell.c_str(), &actions, &attributes, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failed != 0) return Power::kUnknown;
    in = vmm::ScopedFd();
    std::string text;
    uint64_t const deadline = now_ns() + timeout_ms * 1'000'000;
    for (uint64_t now = now_ns(); now < deadline && text.size() < 65536; now = now_ns()) {
      pollfd p{out.get(), POLLIN, 0};
      if (poll(&p, 1, static_cast<int>((deadline - now) / 1'000'000 + 1)) <= 0) continue;
      std::array<char, 4096> buffer;
      ssize_t const n = ::read(out.get(), buffer.data(), buffer.size());
      if (n <= 0) break;
      text.append(buffer.data(), static_cast<size_t>(n));
    }
    kill(-child, SIGKILL);
    waitpid(child, nullptr, 0);
    return power_in(text);
  }

 private:
  std::string text_;
};

}  // namespace

vmm::Result<std::unique_ptr<PowerController>> make_power_controller(std::string const& text) {
  if (text.empty() || text == "none") return std::make_unique<NoPower>();
  constexpr std::string_view kSim = "sim:", kCommand = "command:";
  if (text.starts_with(kSim)) {
    std::string directory = text.substr(kSim.size());
    std::error_code error;
    if (!std::filesystem::is_directory(directory, error)) {
      return vmm::fail(vmm::Errc::kBadOption, fmt::format("--power {}: is no directory", text));
    }
    return std::make_unique<SimulatedPower>(std::move(directory));
  }
  if (text.starts_with(kCommand) && text.size() > kCommand.size()) {
    return std::make_unique<CommandPower>(text.substr(kCommand.size()));
  }
  return vmm::fail(vmm::Errc::kBadOption,
                   fmt::format("--power {}: none, sim:DIRECTORY or command:TEXT is needed", text));
}

}  // namespace vmsrs::runtime::detect
