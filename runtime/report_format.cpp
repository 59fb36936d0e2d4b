#include "runtime/report_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

namespace vmsrs::runtime {
namespace {

using Json = nlohmann::ordered_json;  // keys in the order of the documentation

constexpr size_t kShownFrames = 6, kShownEffects = 4;

std::string hex(uint64_t value) {
  return fmt::format("{:#x}", value);
}

std::string signal_name(int signal) {
  if (signal == 0) return {};
  char const* const name = sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

std::string line_of(Json const& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string printable(std::string const& text, size_t limit = 300) {
  std::string out;
  for (char const c : text) {
    if (out.size() >= limit) return out + "…";
    auto const byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

std::string base_name(std::string const& path) {
  return path.substr(path.rfind('/') + 1);
}

std::string join(std::vector<std::string> const& parts, char const* between) {
  return fmt::format("{}", fmt::join(parts, between));
}

void add_count(std::vector<std::string>& parts, uint64_t n, char const* one, char const* many) {
  if (n != 0) parts.push_back(fmt::format("{} {}", n, n == 1 ? one : many));
}

std::string place(Frame const& frame) {
  std::string const module = frame.module.empty() ? "?" : printable(base_name(frame.module));
  if (!frame.function.empty()) {
    return fmt::format("{}+{:#x} ({})", printable(frame.function, 120), frame.function_offset, module);
  }
  return frame.module.empty() ? fmt::format("{:#x} (nowhere)", frame.ip)
                              : fmt::format("{}+{:#x}", module, frame.offset);
}

bool alike(Frame const& a, Frame const& b) {
  return a.ip == b.ip || (!a.function.empty() && a.function == b.function && a.module == b.module);
}

// "load of 0x10 (read), SIGSEGV"
std::string what(FaultReport const& f) {
  std::string text = name_of(f.kind);
  if (!f.access.empty()) {
    text += fmt::format(": {} of {:#x}", f.access, f.address);
  } else if (f.address != 0) {
    text += fmt::format(" at {:#x}", f.address);
  }
  if (f.signal != 0) text += fmt::format(" ({} without recovery)", signal_name(f.signal));
  return text;
}

std::string how_back(FaultReport const& f) {
  uint64_t const back = f.by_eager + f.by_trap + f.by_overwrite + f.by_sweep;
  std::vector<std::string> ways;
  if (f.by_eager != 0) ways.push_back(fmt::format("{} at once", f.by_eager));
  if (f.by_trap != 0) ways.push_back(fmt::format("{} by trap", f.by_trap));
  if (f.by_overwrite != 0) ways.push_back(fmt::format("{} overwritten", f.by_overwrite));
  if (f.by_sweep != 0) ways.push_back(fmt::format("{} by sweep", f.by_sweep));
  if (back < f.words_polluted) ways.push_back(fmt::format("{} not yet", f.words_polluted - back));
  return join(ways, ", ");
}

Json effects_of(FaultReport const& f) {
  Json effects = Json::array();
  for (Effect const& e : f.effects) {
    effects.push_back({{"call", e.call},
                       {"fd", e.fd},
                       {"path", e.path},
                       {"offset", e.offset},
                       {"size", e.size},
                       {"undone", e.undone}});
  }
  return effects;
}

// "pwrite64 of /srv/log (fd 5), 100 bytes at 0"
std::string effect_text(Effect const& e) {
  std::string text = e.call;
  if (!e.path.empty()) text += fmt::format(" of {}", printable(e.path, 120));
  if (e.fd >= 0) text += fmt::format(" (fd {})", e.fd);
  if (e.size != 0) text += fmt::format(", {} byte{} at {}", e.size, e.size == 1 ? "" : "s", e.offset);
  return text;
}

void add_effects(std::vector<std::string>& parts, FaultReport const& f) {
  size_t shown = 0;
  for (Effect const& e : f.effects) {
    if (e.undone || shown == kShownEffects) continue;
    parts.push_back(effect_text(e));
    ++shown;
  }
  if (f.effects_left > shown) parts.push_back(fmt::format("{} more", f.effects_left - shown));
}

}  // namespace

std::string json_line(FaultReport const& f) {
  Json frames = Json::array();
  for (Frame const& frame : f.backtrace) {
    frames.push_back({{"ip", hex(frame.ip)},
                      {"module", frame.module},
                      {"offset", hex(frame.offset)},
                      {"function", frame.function},
                      {"function_offset", frame.function_offset},
                      {"guessed", frame.guessed}});
  }
  Json wild = Json::array();
  for (uint64_t const address : f.wild_addresses) wild.push_back(hex(address));
  return line_of({{"type", "fault"},
                  {"id", f.id},
                  {"when_ns", f.when_ns},
                  {"thread", f.thread},
                  {"user", f.user},
                  {"kind", name_of(f.kind)},
                  {"signal", f.signal},
                  {"signal_name", signal_name(f.signal)},
                  {"address", hex(f.address)},
                  {"access", f.access},
                  {"ip", hex(f.ip)},
                  {"instruction", f.instruction},
                  {"why", f.why},
                  {"outcome", f.outcome},
                  {"depth", f.depth},
                  {"isolation", f.isolation},
                  {"restore", f.restore},
                  {"policy", f.policy},
                  {"words_polluted", f.words_polluted},
                  {"words_spliced", f.words_spliced},
                  {"pages", f.pages},
                  {"by_eager", f.by_eager},
                  {"by_trap", f.by_trap},
                  {"by_overwrite", f.by_overwrite},
                  {"by_sweep", f.by_sweep},
                  {"exposed", f.exposed},
                  {"dependents", f.dependents},
                  {"damaged_records", f.damaged_records},
                  {"unordered_records", f.unordered_records},
                  {"blocks_freed", f.blocks_freed},
                  {"locks_released", f.locks_released},
                  {"fds_closed", f.fds_closed},
                  {"fds_reopened", f.fds_reopened},
                  {"files_undone", f.files_undone},
                  {"events_returned", f.events_returned},
                  {"effects_left", f.effects_left},
                  {"effects", effects_of(f)},
                  {"not_whole", f.not_whole},
                  {"wild_undone", f.wild_undone},
                  {"unexplained", f.unexplained},
                  {"wild_addresses", std::move(wild)},
                  {"lock_cycles", f.lock_cycles},
                  {"output_before_abort", f.output_before_abort},
                  {"tainted", f.tainted},
                  {"abort_us", f.abort_us},
                  {"land_us", f.land_us},
                  {"exits", f.exits},
                  {"run_end", f.run_end},
                  {"run_faults", f.run_faults},
                  {"run_calls", f.run_calls},
                  {"run_us", f.run_us},
                  {"backtrace", std::move(frames)}});
}

std::string json_line(RunSummary const& s, uint64_t lost_lines) {
  FaultTotals const& t = s.totals;
  Json kinds = Json::object();
  for (unsigned kind = 1; kind < SRS_FAULT_KINDS; ++kind) {
    if (t.by_kind[kind] != 0) kinds[name_of(static_cast<enum srs_fault_kind>(kind))] = t.by_kind[kind];
  }
  return line_of({{"type", "summary"},
                  {"program", s.program},
                  {"exit_status", s.exit_status},
                  {"exit_signal", s.exit_signal},
                  {"seconds", s.seconds},
                  {"recovery", s.recovery},
                  {"store", s.store},
                  {"restore", s.restore},
                  {"faults", t.faults},
                  {"faults_by_kind", std::move(kinds)},
                  {"uncontained", t.uncontained},
                  {"passed_on", t.passed_on},
                  {"words_polluted", t.words_polluted},
                  {"words_spliced", t.words_spliced},
                  {"pages", t.pages},
                  {"by_eager", t.by_eager},
                  {"by_trap", t.by_trap},
                  {"by_overwrite", t.by_overwrite},
                  {"by_sweep", t.by_sweep},
                  {"exposed", t.exposed},
                  {"dependents", t.dependents},
                  {"damaged_records", t.damaged_records},
                  {"unordered_records", t.unordered_records},
                  {"blocks_freed", t.blocks_freed},
                  {"locks_released", t.locks_released},
                  {"fds_closed", t.fds_closed},
                  {"fds_reopened", t.fds_reopened},
                  {"files_undone", t.files_undone},
                  {"events_returned", t.events_returned},
                  {"effects_left", t.effects_left},
                  {"not_whole", t.not_whole},
                  {"wild_undone", t.wild_undone},
                  {"unexplained", t.unexplained},
                  {"findings", t.findings},
                  {"lock_cycles", t.lock_cycles},
                  {"output_before_abort", t.output_before_abort},
                  {"tainted", t.tainted},
                  {"scopes", s.scopes},
                  {"commits", s.commits},
                  {"aborts", s.aborts},
                  {"kvm_exits", s.kvm_exits},
                  {"hypercalls", s.hypercalls},
                  {"syscalls", s.syscalls},
                  {"missing_traps", s.missing_traps},
                  {"kicks", s.kicks},
                  {"threads_started", s.threads_started},
                  {"peak_threads", s.peak_threads},
                  {"lost_lines", lost_lines}});
}

std::string finding_line(int thread, std::string const& what) {
  return line_of({{"type", "finding"}, {"thread", thread}, {"what", what}});
}

std::string one_line(FaultReport const& f) {
  std::string where = f.backtrace.empty() ? hex(f.ip) : place(f.backtrace.front());
  return fmt::format("vmsrs: fault {}: user {}, thread {}: {}; {}; {}\n", f.id, f.user, f.thread, what(f), where,
                     printable(f.outcome));
}

std::string paragraph(FaultReport const& f) {
  std::string text = fmt::format("vmsrs: fault {}: user {}, thread {}: {}\n", f.id, f.user, f.thread, what(f));
  if (!f.why.empty()) text += fmt::format("  said:    {}\n", printable(f.why));
  if (!f.instruction.empty()) text += fmt::format("  at:      {:#x}: {}\n", f.ip, printable(f.instruction));

  size_t shown = 0;
  for (size_t i = 0; i < f.backtrace.size() && shown < kShownFrames; ++shown) {
    size_t next = i + 1;
    while (next < f.backtrace.size() && alike(f.backtrace[i], f.backtrace[next])) ++next;
    text += fmt::format("  {} {}{}{}\n", shown == 0 ? "in:     " : "from:   ", place(f.backtrace[i]),
                        f.backtrace[i].guessed ? " (guessed)" : "", next - i > 1 ? fmt::format(" ×{}", next - i) : "");
    i = next;
    if (shown + 1 == kShownFrames && i < f.backtrace.size()) {
      text += fmt::format("           … {} more\n", f.backtrace.size() - i);
    }
  }

  std::string outcome = f.outcome.empty() ? "unknown" : printable(f.outcome);
  std::vector<std::string> how;
  if (f.depth != 0) how.push_back(fmt::format("depth {}", f.depth));
  for (auto const* word : {&f.isolation, &f.restore, &f.policy}) {
    if (!word->empty()) how.push_back(*word);
  }
  text += fmt::format("  outcome: {}{}\n", outcome, how.empty() ? "" : fmt::format(" ({})", join(how, ", ")));

  std::vector<std::string> undone;
  if (f.words_polluted != 0) {
    undone.push_back(fmt::format("{} word{} on {} page{} ({})", f.words_polluted, f.words_polluted == 1 ? "" : "s",
                                 f.pages, f.pages == 1 ? "" : "s", how_back(f)));
  }
  add_count(undone, f.words_spliced, "word under a later scope's", "words under a later scope's");
  add_count(undone, f.blocks_freed, "block freed", "blocks freed");
  add_count(undone, f.locks_released, "lock released", "locks released");
  add_count(undone, f.fds_closed, "fd closed", "fds closed");
  add_count(undone, f.events_returned, "event given back", "events given back");
  add_count(undone, f.fds_reopened, "fd opened again", "fds opened again");
  add_count(undone, f.wild_undone, "wild write", "wild writes");
  add_count(undone, f.files_undone, "write to a file taken back", "writes to files taken back");
  add_count(undone, f.dependents, "dependent scope aborted too", "dependent scopes aborted too");
  if (!undone.empty()) text += fmt::format("  undone:  {}\n", join(undone, "; "));

  if (!f.run_end.empty()) {
    std::vector<std::string> run = {printable(f.run_end)};
    add_count(run, f.run_faults, "fault gone over", "faults gone over");
    add_count(run, f.run_calls, "call filtered", "calls filtered");
    text += fmt::format("  ran on:  {}; {:.1f} µs\n", join(run, "; "), f.run_us);
  }

  std::vector<std::string> not_whole;
  add_count(not_whole, f.exposed, "committed scope had built on it", "committed scopes had built on it");
  add_count(not_whole, f.damaged_records, "damaged record", "damaged records");
  add_count(not_whole, f.unordered_records, "record out of order", "records out of order");
  add_count(not_whole, f.lock_cycles, "hold ended early to break a cycle", "holds ended early to break a cycle");
  if (f.output_before_abort) not_whole.push_back("output had left before the abort");
  if (f.tainted) not_whole.push_back("the fault was inside the allocator or libsrs: the thread ends");
  add_count(not_whole, f.unexplained, "word changed without explanation", "words changed without explanation");
  add_effects(not_whole, f);
  for (std::string const& what : f.not_whole) not_whole.push_back(printable(what));
  if (!not_whole.empty()) text += fmt::format("  but:     {}\n", join(not_whole, "; "));

  text += fmt::format("  time:    {:.1f} µs to abort, {:.1f} µs to land, {} exit{}\n", f.abort_us, f.land_us, f.exits,
                      f.exits == 1 ? "" : "s");
  return text;
}

}  // namespace vmsrs::runtime
