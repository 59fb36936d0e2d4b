#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>

#include "cli/commands.hpp"
#include "runtime/inject/injector.hpp"
#include "runtime/inject/propagation.hpp"
#include "vmm/syscall.hpp"

namespace vmsrs::cli {
namespace {

namespace inject = runtime::inject;

struct InjectOptions {
  std::string plan, replay, write_plan, log, propagation;
  std::string kinds = "crash", at = "delay", where = "any", n = "1:100", after_us = "1000:20000", call;
  uint64_t count = 1, seed = 1, steps = 0, start_ms = 0;
};

tl::unexpected<vmm::Error> bad(std::string message, int err = 0) {
  return vmm::fail(vmm::Errc::kBadOption, std::move(message), err);
}

// "3" or "1:100".
bool parse_range(std::string const& text, uint64_t& from, uint64_t& to) {
  char const* const last = text.data() + text.size();
  auto const [end, error] = std::from_chars(text.data(), last, from);
  if (error != std::errc()) return false;
  to = from;
  if (end == last) return from <= to;
  if (*end != ':') return false;
  auto const [end_to, error_to] = std::from_chars(end + 1, last, to);
  return error_to == std::errc() && end_to == last && from <= to;
}

vmm::Result<std::string> read_file(char const* option, std::string const& name) {
  std::ifstream file(name);
  std::string text;
  if (file) text.assign(std::istreambuf_iterator<char>(file), {});
  if (!file) return bad(fmt::format("{} {}: {}", option, name, std::strerror(errno)), errno);
  return text;
}

vmm::Result<inject::Plan> drawn(InjectOptions const& options) {
  inject::Draw draw;
  draw.seed = options.seed;
  draw.count = options.count;
  draw.start_ms = options.start_ms;
  draw.steps_to = options.steps;
  draw.call = options.call;
  auto const kinds = inject::parse_kinds(options.kinds);
  if (!kinds) return bad("--kinds: " + kinds.error().message);
  auto const at = inject::parse_at(options.at);
  if (!at) return bad("--at: " + at.error().message);
  auto const where = inject::parse_where(options.where);
  if (!where) return bad("--where: " + where.error().message);
  draw.kinds = *kinds;
  draw.at = *at;
  draw.where = *where;
  if (!parse_range(options.n, draw.n_from, draw.n_to) || draw.n_from == 0 || draw.n_to > UINT32_MAX)
    return bad(fmt::format("--n {}: a number from 1 on, or two like 1:100, is needed", options.n));
  if (!parse_range(options.after_us, draw.us_from, draw.us_to) || draw.us_to > 3'600'000'000)
    return bad(
        fmt::format("--after-us {}: microseconds, or two numbers like 1000:20000, are needed", options.after_us));
  return inject::draw_plan(draw);
}

vmm::Result<inject::Plan> plan_of(InjectOptions const& options) {
  if (!options.plan.empty() && !options.replay.empty()) return bad("--plan and --replay exclude each other");
  if (options.plan.empty() && options.replay.empty()) return drawn(options);
  char const* const option = options.plan.empty() ? "--replay" : "--plan";
  std::string const& name = options.plan.empty() ? options.replay : options.plan;
  auto const text = read_file(option, name);
  if (!text) return tl::unexpected(text.error());
  auto plan = inject::parse_plan(*text);
  if (!plan) return bad(fmt::format("{} {}: {}", option, name, plan.error().message));
  return *plan;
}

// What a plan asks for and this run cannot give.
vmm::Result<void> check(inject::Plan const& plan, bool recovery) {
  for (inject::Injection const& i : plan.injections) {
    if (!recovery && (i.where != inject::Where::kAny || i.at == inject::At::kStore))
      return bad("injections into scopes and at stores need --recovery=on");
    if (i.call.empty()) continue;
    bool known = false;
    for (auto const* row : vmm::SyscallTable::instance().rows()) known = known || row->name == i.call;
    if (!known) return bad(fmt::format("{}: no such system call", i.call));
  }
  return {};
}

vmm::Result<std::unique_ptr<vmm::Hooks>> in_front(InjectOptions const& options, vmm::AddressSpace& memory,
                                                  runtime::Recovery* recovery) {
  if (!options.propagation.empty()) {
    auto study = inject::Propagation::create(options.propagation, options.seed, memory, recovery);
    if (!study) return tl::unexpected(study.error());
    return std::unique_ptr<vmm::Hooks>(std::move(*study));
  }
  auto plan = plan_of(options);
  if (!plan) return tl::unexpected(plan.error());
  if (auto const good = check(*plan, recovery != nullptr); !good) return tl::unexpected(good.error());
  if (!options.write_plan.empty()) {
    std::ofstream file(options.write_plan);
    if (!(file << inject::to_json(*plan) << '\n') || !file.flush())
      return bad(fmt::format("--write-plan {}: {}", options.write_plan, std::strerror(errno)), errno);
  }
  auto injector = inject::Injector::create(std::move(*plan), options.log, memory, recovery);
  if (!injector) return tl::unexpected(injector.error());
  return std::unique_ptr<vmm::Hooks>(std::move(*injector));
}

}  // namespace

Command add_inject(CLI::App& app, std::vector<std::string> const& after_dashes) {
  auto o = std::make_shared<InjectOptions>();
  CLI::Validator number = CLI::Range(uint64_t{0}, uint64_t{1'000'000'000});
  number.description("");
  CLI::Validator few = CLI::Range(uint64_t{1}, inject::kMostInjections);
  few.description("");
  auto* const group = app.add_option_group("Injection", "what is injected into which thread, and when");
  group->add_option("--plan", o->plan, "a plan: JSON (docs/injection.md); the options below draw one instead");
  group->add_option("--replay", o->replay, "the --log of an earlier run: the same again");
  group->add_option("--log", o->log, "append one JSON line for each injection and each outcome (-: standard output)");
  group->add_option("--write-plan", o->write_plan, "write what was drawn, as a plan");
  group->add_option("--seed", o->seed, "of everything that is drawn")->check(number)->capture_default_str();
  group->add_option("--count", o->count, "so many injections")->check(few)->capture_default_str();
  group->add_option("--kinds", o->kinds, "all, crash, hang, flip, corrupt, or kinds with commas between")
      ->capture_default_str();
  group
      ->add_option("--at", o->at,
                   "call, hypercall, store (log record), delay (random instruction); several with commas")
      ->capture_default_str();
  group
      ->add_option("--where", o->where,
                   "any thread; one that serves a request, is in a scope, or in a scope and in the program's own "
                   "code: any, request, scope, program")
      ->capture_default_str();
  group->add_option("--n", o->n, "which call, hypercall or store since the injection before: N or FROM:TO")
      ->capture_default_str();
  group->add_option("--after-us", o->after_us, "delay: microseconds since the injection before: N or FROM:TO")
      ->capture_default_str();
  group->add_option("--call", o->call, "--at call: only this system call");
  group->add_option("--steps", o->steps, "up to so many instructions further")->check(number)->capture_default_str();
  group->add_option("--start-ms", o->start_ms, "nothing before the program has run so long")
      ->check(number)
      ->capture_default_str();
  group->add_option(
      "--propagation", o->propagation,
      "inject nothing, but follow what would be corrupted (docs/injection.md): JSON lines to a file; slow, "
      "wants --pollers 0");
  auto run = add_run(app, after_dashes, [o](vmm::AddressSpace& memory, runtime::Recovery* recovery) {
    return in_front(*o, memory, recovery);
  });
  app.description(
      "Runs a program and injects faults into it: vmsrs inject [options] -- PROGRAM [ARGS...]. All options of vmsrs "
      "run "
      "are there too.");
  return run;
}

}  // namespace vmsrs::cli
