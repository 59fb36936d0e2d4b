// What is to be injected, and when: a list that is carried out one after the other. Drawn from a seed, read from a
// file, or read from the log of an earlier run, which repeats that run's injections.
//
// A plan is a JSON object:
//   {"seed": 7, "start_ms": 500, "injections": [{"kind": "null_read", "at": "call", "n": 12, "call": "recvfrom",
//   "steps": 40,
//                               "where": "scope", "seed": 123}, …]}
// The keys of an injection are the fields below by their names; kind and at are needed. What is not named is drawn from
// the injection's own seed when it is carried out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "runtime/inject/kinds.hpp"

namespace vmsrs::runtime::inject {

enum class At : uint8_t {
  kCall,       // the end of the n-th system call
  kHypercall,  // likewise
  kStore,      // as the n-th record of a thread's log is written; with --store=strict as the n-th store is about to be
  kDelay       // at a random instruction, after_us microseconds later
};
// In which threads: all; those that serve a request (a scope, or since a rescue point); those in a scope; those in a
// scope and in code of the program, not the C library's, the allocator's or libsrs's (out of which the thread is
// stepped).
enum class Where : uint8_t { kAny, kRequest, kScope, kProgram };

struct Injection {
  Kind kind = Kind::kNullRead;
  At at = At::kCall;
  Where where = Where::kAny;
  uint64_t n = 1;             // counted since the injection before (its own trigger, not its effect)
  std::string call;           // kCall: only this system call
  uint64_t after_us = 0;      // kDelay
  uint64_t steps = 0;         // instructions that the thread still carries out, one by one, before it is struck
  uint64_t seed = 0;          // of what is not named below
  std::optional<int> thread;  // only the guest thread with this (virtual) id
  std::optional<unsigned> reg, bit;
  std::optional<uint64_t> address, value;
};

struct Plan {
  uint64_t seed = 0, start_ms = 0;  // nothing is counted or struck before, from the process's start on
  std::vector<Injection> injections;
};

inline constexpr uint64_t kMostInjections = 100'000;

struct PlanError {
  std::string message;  // for a person: "injection 3: at: \"cal\" is none of call, hypercall, store, delay"
};

// A plan, or the JSON lines of a log (Log in log.hpp).
[[nodiscard]] tl::expected<Plan, PlanError> parse_plan(std::string_view text);
[[nodiscard]] std::string to_json(Plan const& plan);

struct Draw {
  uint64_t seed = 1, count = 1, start_ms = 0;
  std::vector<Kind> kinds;  // in equal parts
  std::vector<At> at;       // likewise
  Where where = Where::kAny;
  uint64_t n_from = 1, n_to = 100;           // of counted triggers
  uint64_t us_from = 1'000, us_to = 20'000;  // of delays
  uint64_t steps_to = 0;                     // 0 to so many
  std::string call;
};
[[nodiscard]] Plan draw_plan(Draw const& draw);

// "null_read,hang,flip": kinds and groups of them; "all".
[[nodiscard]] tl::expected<std::vector<Kind>, PlanError> parse_kinds(std::string_view list);
[[nodiscard]] tl::expected<std::vector<At>, PlanError> parse_at(std::string_view list);
[[nodiscard]] tl::expected<Where, PlanError> parse_where(std::string_view word);
[[nodiscard]] std::string_view name_of(At at);
[[nodiscard]] std::string_view name_of(Where where);

// What follows x in a series that is the same on every machine; for seeds of seeds.
[[nodiscard]] uint64_t mix(uint64_t x);

}  // namespace vmsrs::runtime::inject
