#include "runtime/inject/log.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace vmsrs::runtime::inject {
namespace {

using Json = nlohmann::ordered_json;

std::string hex(uint64_t value) {
  return fmt::format("{:#x}", value);
}

}  // namespace

vmm::Result<std::unique_ptr<Log>> Log::open(std::string const& file) {
  auto log = std::make_unique<Log>();
  if (file.empty()) return log;
  if (file == "-") {
    log->fd_ = STDOUT_FILENO;
    return log;
  }
  int const fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--log {}: {}", file, std::strerror(errno)), errno);
  }
  log->owned_ = vmm::ScopedFd(fd);
  log->fd_ = fd;
  return log;
}

void Log::write(std::string line) {
  line += '\n';
  std::lock_guard const lock(mutex_);
  if (fd_ >= 0 && ::write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    fmt::print(stderr, "vmsrs: the log of injections cannot be written; it ends here\n");
    fd_ = -1;
  }
}

void Log::plan(Plan const& plan) {
  write(Json{{"type", "plan"}, {"seed", plan.seed}, {"start_ms", plan.start_ms}, {"injections", plan.injections.size()}}
            .dump());
}

void Log::injection(Injection const& injection, Done const& done) {
  Struck const& struck = done.struck;
  Json line{{"type", "injection"},
            {"index", done.index},
            {"kind", info(injection.kind).name},
            {"at", name_of(injection.at)},
            {"where", name_of(injection.where)},
            {"n", injection.n},
            {"seed", injection.seed},
            {"thread", done.thread},
            {"ip", hex(done.ip)},
            {"sp", hex(done.sp)},
            {"count", done.count},
            {"stepped", done.stepped},
            {"in_scope", done.in_scope},
            {"in_request", done.in_request},
            {"critical", done.critical},
            {"seconds", done.seconds}};
  if (!injection.call.empty()) line["call"] = injection.call;
  if (injection.at == At::kDelay) line["after_us"] = injection.after_us;
  line["steps"] = injection.steps;
  if (struck.reg) line["register"] = register_name(*struck.reg);
  if (struck.bit) line["bit"] = *struck.bit;
  if (struck.address) line["address"] = hex(*struck.address);
  if (struck.value) line["value"] = hex(*struck.value);
  if (struck.old_value) line["old_value"] = hex(*struck.old_value);
  write(line.dump());
}

void Log::outcome(uint64_t index, std::string const& fault, int signal, bool contained, double us) {
  write(Json{
      {"type", "outcome"}, {"index", index}, {"fault", fault}, {"signal", signal}, {"contained", contained}, {"us", us}}
            .dump());
}

void Log::end(uint64_t carried_out, uint64_t planned) {
  write(Json{{"type", "end"}, {"carried_out", carried_out}, {"planned", planned}}.dump());
}

}  // namespace vmsrs::runtime::inject
