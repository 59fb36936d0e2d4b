#include "runtime/inject/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

namespace vmsrs::runtime::inject {
namespace {

using Json = nlohmann::json;
using Failed = tl::unexpected<PlanError>;

constexpr std::array<std::pair<std::string_view, At>, 4> kAt{
    {{"call", At::kCall}, {"hypercall", At::kHypercall}, {"store", At::kStore}, {"delay", At::kDelay}}};
constexpr std::array<std::pair<std::string_view, Where>, 4> kWhere{
    {{"any", Where::kAny}, {"request", Where::kRequest}, {"scope", Where::kScope}, {"program", Where::kProgram}}};
constexpr uint64_t kMostSteps = 1'000'000, kMostUs = 3'600'000'000;

Failed fail(std::string message) {
  return Failed(PlanError{std::move(message)});
}

template <class Table>
std::string words(Table const& table) {
  std::string all;
  for (auto const& [name, value] : table) all += (all.empty() ? "" : ", ") + std::string(name);
  return all;
}

template <class T, size_t N>
tl::expected<T, PlanError> look_up(std::array<std::pair<std::string_view, T>, N> const& table, std::string_view word) {
  for (auto const& [name, value] : table) {
    if (name == word) return value;
  }
  return fail(fmt::format("\"{}\" is none of {}", word, words(table)));
}

// Reads one object; the first thing that is wrong stays.
class Reader {
 public:
  explicit Reader(Json const& object) : object_(object) {}

  void number(char const* key, uint64_t& to, uint64_t most) {
    auto const found = object_.find(key);
    if (found == object_.end() || wrong()) return;
    uint64_t value = 0;
    if (found->is_number_unsigned()) {
      value = found->get<uint64_t>();
    } else if (!found->is_string() || !hexadecimal(found->get_ref<std::string const&>(), value)) {
      return set(key, "a number from 0 on, or one like \"0x1f\", is needed");
    }
    if (value > most) return set(key, fmt::format("{} is more than {}", value, most));
    to = value;
  }
  template <class T>
  void optional(char const* key, std::optional<T>& to, uint64_t most) {
    uint64_t value = 0;
    if (!object_.contains(key)) return;
    number(key, value, most);
    if (!wrong()) to = static_cast<T>(value);
  }
  void text(char const* key, std::string& to, bool needed = false) {
    auto const found = object_.find(key);
    if (wrong()) return;
    if (found == object_.end()) {
      if (needed) set(key, "is missing");
    } else if (!found->is_string()) {
      set(key, "a string is needed");
    } else {
      to = found->get<std::string>();
    }
  }
  template <class T>
  void word(char const* key, T& to, tl::expected<T, PlanError> (*parse)(std::string_view), bool needed = false) {
    std::string name;
    text(key, name, needed);
    if (wrong() || name.empty()) return;
    auto const value = parse(name);
    if (!value) return set(key, value.error().message);
    to = *value;
  }
  void set(std::string_view key, std::string_view what) {
    if (!wrong()) wrong_ = fmt::format("{}: {}", key, what);
  }
  void known(std::initializer_list<std::string_view> keys) {
    for (auto const& [key, value] : object_.items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) return set(key, "no such key");
    }
  }
  [[nodiscard]] bool wrong() const { return !wrong_.empty(); }
  [[nodiscard]] std::string const& message() const { return wrong_; }

 private:
  static bool hexadecimal(std::string const& text, uint64_t& to) {
    if (!text.starts_with("0x")) return false;
    auto const [end, error] = std::from_chars(text.data() + 2, text.data() + text.size(), to, 16);
    return error == std::errc() && end == text.data() + text.size() && text.size() > 2;
  }
  Json const& object_;
  std::string wrong_;
};

tl::expected<Kind, PlanError> parse_kind(std::string_view name) {
  if (auto const kind = kind_named(name)) return *kind;
  return fail(fmt::format("\"{}\" is no kind of fault", name));
}

tl::expected<At, PlanError> parse_one_at(std::string_view word) {
  return look_up(kAt, word);
}

tl::expected<unsigned, PlanError> parse_register(std::string_view name) {
  if (auto const reg = register_named(name)) return *reg;
  return fail(fmt::format("\"{}\" is no register", name));
}

// `strict`: a line of a log says more than this.
tl::expected<Injection, PlanError> injection_of(Json const& json, bool strict) {
  if (!json.is_object()) return fail("an object is needed");
  Injection i;
  Reader reader(json);
  if (strict) {
    reader.known({"kind", "at", "where", "n", "call", "after_us", "steps", "seed", "thread", "register", "bit",
                  "address", "value"});
  }
  reader.word("kind", i.kind, parse_kind, true);
  reader.word("at", i.at, parse_one_at, true);
  reader.word("where", i.where, parse_where);
  reader.number("n", i.n, UINT32_MAX);
  reader.text("call", i.call);
  reader.number("after_us", i.after_us, kMostUs);
  reader.number("steps", i.steps, kMostSteps);
  reader.number("seed", i.seed, UINT64_MAX);
  reader.optional("thread", i.thread, INT32_MAX);
  reader.optional("bit", i.bit, 63);
  reader.optional("address", i.address, UINT64_MAX);
  reader.optional("value", i.value, UINT64_MAX);
  if (json.contains("register")) {
    unsigned reg = 0;
    reader.word("register", reg, parse_register, true);
    i.reg = reg;
  }
  if (i.n == 0) reader.set("n", "counts from 1");
  if (!i.call.empty() && i.at != At::kCall) reader.set("call", "goes with \"at\": \"call\" only");
  if (reader.wrong()) return fail(reader.message());
  return i;
}

tl::expected<Plan, PlanError> plan_of(Json const& json) {
  Plan plan;
  Reader reader(json);
  reader.known({"seed", "start_ms", "injections"});
  reader.number("seed", plan.seed, UINT64_MAX);
  reader.number("start_ms", plan.start_ms, kMostUs);
  if (reader.wrong()) return fail(reader.message());
  auto const list = json.find("injections");
  if (list == json.end() || !list->is_array()) return fail("injections: a list is needed");
  if (list->size() > kMostInjections) return fail(fmt::format("more than {} injections", kMostInjections));
  for (Json const& entry : *list) {
    auto injection = injection_of(entry, true);
    if (!injection) return fail(fmt::format("injection {}: {}", plan.injections.size(), injection.error().message));
    plan.injections.push_back(std::move(*injection));
  }
  return plan;
}

tl::expected<Plan, PlanError> plan_of_log(std::string_view text) {
  Plan plan;
  for (size_t line = 1; !text.empty(); ++line) {
    size_t const end = std::min(text.find('\n'), text.size());
    std::string_view const piece = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (piece.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Json const json = Json::parse(piece, nullptr, false);
    auto const type = json.is_object() ? json.find("type") : json.end();
    if (!json.is_object() || type == json.end() || !type->is_string()) {
      return fail(fmt::format("line {}: neither a plan nor a line of a log", line));
    }
    if (*type == "plan") {
      Reader reader(json);
      reader.number("seed", plan.seed, UINT64_MAX);
      reader.number("start_ms", plan.start_ms, kMostUs);
    }
    if (*type != "injection") continue;
    if (plan.injections.size() == kMostInjections) return fail(fmt::format("more than {} injections", kMostInjections));
    auto injection = injection_of(json, false);
    if (!injection) return fail(fmt::format("line {}: {}", line, injection.error().message));
    // Which thread a delay found is chance; the others' counts are those of one thread.
    if (injection->at == At::kDelay) injection->thread.reset();
    plan.injections.push_back(std::move(*injection));
  }
  if (plan.injections.empty()) return fail("no injection in it");
  return plan;
}

template <class T, class F>
tl::expected<std::vector<T>, PlanError> parse_list(std::string_view list, F const& add) {
  std::vector<T> all;
  while (true) {
    size_t const comma = std::min(list.find(','), list.size());
    if (auto const wrong = add(list.substr(0, comma), all); !wrong.empty()) return fail(wrong);
    if (comma == list.size()) return all;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace

tl::expected<Plan, PlanError> parse_plan(std::string_view text) {
  Json const json = Json::parse(text, nullptr, false);
  if (json.is_object() && !json.contains("type")) return plan_of(json);
  return plan_of_log(text);
}

std::string to_json(Plan const& plan) {
  Json list = Json::array();
  for (Injection const& i : plan.injections) {
    Json entry{{"kind", info(i.kind).name}, {"at", name_of(i.at)}, {"where", name_of(i.where)}, {"seed", i.seed}};
    if (i.at != At::kDelay) entry["n"] = i.n;
    if (i.at == At::kDelay) entry["after_us"] = i.after_us;
    if (!i.call.empty()) entry["call"] = i.call;
    if (i.steps != 0) entry["steps"] = i.steps;
    if (i.thread) entry["thread"] = *i.thread;
    if (i.reg) entry["register"] = register_name(*i.reg);
    if (i.bit) entry["bit"] = *i.bit;
    if (i.address) entry["address"] = fmt::format("{:#x}", *i.address);
    if (i.value) entry["value"] = fmt::format("{:#x}", *i.value);
    list.push_back(std::move(entry));
  }
  return Json{{"seed", plan.seed}, {"start_ms", plan.start_ms}, {"injections", std::move(list)}}.dump(1);
}

// SplitMix64 (Steele, Lea, Flood 2014): its constants.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

Plan draw_plan(Draw const& draw) {
  Plan plan;
  plan.seed = draw.seed;
  plan.start_ms = draw.start_ms;
  uint64_t state = draw.seed;
  auto const next = [&state] { return mix(state++); };
  auto const between = [&next](uint64_t from, uint64_t to) { return from + next() % (to - from + 1); };
  // Kinds in turn from a random start, so that each comes as often as any other; triggers at random.
  uint64_t const start = next();
  for (uint64_t i = 0; i < draw.count; ++i) {
    Injection one;
    one.kind = draw.kinds[(start + i) % draw.kinds.size()];
    one.at = draw.at[next() % draw.at.size()];
    one.where = draw.where;
    one.n = one.at == At::kDelay ? 1 : between(draw.n_from, draw.n_to);
    if (one.at == At::kDelay) one.after_us = between(draw.us_from, draw.us_to);
    if (one.at == At::kCall) one.call = draw.call;
    one.steps = between(0, draw.steps_to);
    one.seed = next();
    plan.injections.push_back(std::move(one));
  }
  return plan;
}

tl::expected<std::vector<Kind>, PlanError> parse_kinds(std::string_view list) {
  return parse_list<Kind>(list, [](std::string_view word, std::vector<Kind>& to) -> std::string {
    size_t const before = to.size();
    for (KindInfo const& kind : kinds()) {
      if (word == kind.name || word == kind.group || word == "all") to.push_back(kind.kind);
    }
    if (to.size() != before) return {};
    std::string names;
    for (KindInfo const& kind : kinds()) names += fmt::format(", {}", kind.name);
    return fmt::format("\"{}\" is none of all, crash, hang, flip, corrupt{}", word, names);
  });
}

tl::expected<std::vector<At>, PlanError> parse_at(std::string_view list) {
  return parse_list<At>(list, [](std::string_view word, std::vector<At>& to) -> std::string {
    auto const at = parse_one_at(word);
    if (!at) return at.error().message;
    to.push_back(*at);
    return {};
  });
}

tl::expected<Where, PlanError> parse_where(std::string_view word) {
  return look_up(kWhere, word);
}

std::string_view name_of(At at) {
  return kAt.at(static_cast<size_t>(at)).first;
}

std::string_view name_of(Where where) {
  return kWhere.at(static_cast<size_t>(where)).first;
}

}  // namespace vmsrs::runtime::inject
