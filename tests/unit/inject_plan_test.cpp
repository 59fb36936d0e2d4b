// links: vmsrs_inject_plan
// Plans of fault injection: what a file may say, what is said of one that is wrong, and that a seed is a plan.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "runtime/inject/plan.hpp"

namespace {

using namespace vmsrs::runtime::inject;

std::string complaint(std::string_view text) {
  auto const plan = parse_plan(text);
  return plan ? "" : plan.error().message;
}

TEST(InjectPlan, SaysAllThatAnInjectionMaySay) {
  auto const plan = parse_plan(R"({"seed": 7, "start_ms": 250, "injections": [
      {"kind": "flip_register", "at": "call", "call": "recvfrom", "n": 12, "steps": 40, "where": "scope", "seed": 123,
       "thread": 1003, "register": "r12", "bit": 63, "value": "0x1f", "address": "0xffffffffffffffff"},
      {"kind": "null_read", "at": "delay", "after_us": 500}]})");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->seed, 7U);
  EXPECT_EQ(plan->start_ms, 250U);
  ASSERT_EQ(plan->injections.size(), 2U);
  Injection const& first = plan->injections[0];
  EXPECT_EQ(first.kind, Kind::kFlipRegister);
  EXPECT_EQ(first.at, At::kCall);
  EXPECT_EQ(first.where, Where::kScope);
  EXPECT_EQ(first.call, "recvfrom");
  EXPECT_EQ(first.n, 12U);
  EXPECT_EQ(first.steps, 40U);
  EXPECT_EQ(first.seed, 123U);
  EXPECT_EQ(first.thread, 1003);
  EXPECT_EQ(register_name(first.reg.value()), "r12");
  EXPECT_EQ(first.bit, 63U);
  EXPECT_EQ(first.value, 0x1fU);
  EXPECT_EQ(first.address, UINT64_MAX);
  EXPECT_EQ(plan->injections[1].after_us, 500U);
  EXPECT_FALSE(plan->injections[1].reg);
}

TEST(InjectPlan, WhatIsWrongIsNamed) {
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "null_read", "at": "cal"}]})"),
            "injection 0: at: \"cal\" is none of call, hypercall, store, delay");
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "nul", "at": "call"}]})"),
            "injection 0: kind: \"nul\" is no kind of fault");
  EXPECT_EQ(complaint(R"({"injections": [{"at": "call"}]})"), "injection 0: kind: is missing");
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "loop", "at": "call", "n": 0}]})"), "injection 0: n: counts from 1");
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "loop", "at": "call", "n": -1}]})"),
            "injection 0: n: a number from 0 on, or one like \"0x1f\", is needed");
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "loop", "at": "call", "bit": 64}]})"),
            "injection 0: bit: 64 is more than 63");
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "loop", "at": "store", "call": "read"}]})"),
            "injection 0: call: goes with \"at\": \"call\" only");
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "loop", "at": "call", "when": 3}]})"),
            "injection 0: when: no such key");
  EXPECT_EQ(complaint(R"({"injections": [{"kind": "loop", "at": "call", "register": "eax"}]})"),
            "injection 0: register: \"eax\" is no register");
  EXPECT_EQ(complaint(R"({"injections": {}})"), "injections: a list is needed");
  EXPECT_EQ(complaint(R"({"seeds": 1, "injections": []})"), "seeds: no such key");
  EXPECT_EQ(complaint("[1]"), "line 1: neither a plan nor a line of a log");
  EXPECT_EQ(complaint("nonsense"), "line 1: neither a plan nor a line of a log");
  EXPECT_EQ(complaint(""), "no injection in it");
}

TEST(InjectPlan, WrittenAndReadIsTheSame) {
  Draw draw;
  draw.seed = 99;
  draw.count = 50;
  draw.kinds = *parse_kinds("all");
  draw.at = *parse_at("call,store,delay,hypercall");
  draw.where = Where::kProgram;
  draw.steps_to = 30;
  draw.start_ms = 17;
  Plan const plan = draw_plan(draw);
  auto const again = parse_plan(to_json(plan));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(to_json(*again), to_json(plan));
}

TEST(InjectPlan, ASeedIsAPlan) {
  Draw draw;
  draw.count = 300;
  draw.kinds = *parse_kinds("crash,flip_register");
  draw.at = *parse_at("call,delay");
  draw.n_from = 5;
  draw.n_to = 9;
  draw.us_from = 100;
  draw.us_to = 200;
  Plan const plan = draw_plan(draw);
  EXPECT_EQ(to_json(plan), to_json(draw_plan(draw)));
  std::map<Kind, int> kinds;
  std::set<uint64_t> counts, seeds;
  for (Injection const& i : plan.injections) {
    kinds[i.kind] += 1;
    seeds.insert(i.seed);
    if (i.at == At::kDelay) {
      EXPECT_GE(i.after_us, 100U);
      EXPECT_LE(i.after_us, 200U);
    } else {
      counts.insert(i.n);
    }
  }
  EXPECT_EQ(kinds.size(), 15U);
  for (auto const& [kind, n] : kinds) EXPECT_EQ(n, 20) << info(kind).name;
  EXPECT_EQ(counts, (std::set<uint64_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(seeds.size(), 300U);
  draw.seed = 2;
  EXPECT_NE(to_json(plan), to_json(draw_plan(draw)));
}

// The log of a run is a plan: its injections, with what was drawn for them.
TEST(InjectPlan, ALogIsAPlan) {
  auto const plan = parse_plan(
      "{\"type\":\"plan\",\"seed\":5,\"start_ms\":3,\"injections\":2}\n"
      "{\"type\":\"injection\",\"index\":0,\"kind\":\"flip_stack\",\"at\":\"store\",\"n\":3,\"seed\":9,\"thread\":1002,"
      "\"ip\":\"0x1\",\"bit\":5,\"address\":\"0x7f00\",\"where\":\"scope\",\"steps\":2}\n\n"
      "{\"type\":\"outcome\",\"index\":0,\"fault\":\"page\"}\n"
      "{\"type\":\"injection\",\"index\":1,\"kind\":\"abort\",\"at\":\"delay\",\"after_us\":77,\"thread\":1004}\n"
      "{\"type\":\"end\"}\n");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->seed, 5U);
  ASSERT_EQ(plan->injections.size(), 2U);
  EXPECT_EQ(plan->injections[0].address, 0x7f00U);
  EXPECT_EQ(plan->injections[0].thread, 1002);
  EXPECT_FALSE(plan->injections[1].thread) << "which thread a delay meets is chance";
  EXPECT_EQ(complaint("{\"type\":\"injection\",\"kind\":\"abort\"}"), "line 1: at: is missing");
}

TEST(InjectPlan, ListsOfOptions) {
  EXPECT_EQ(parse_kinds("hang")->size(), 2U);
  EXPECT_EQ(parse_kinds("all")->size(), size_t{kKinds});
  EXPECT_TRUE(parse_kinds("crush").error().message.starts_with("\"crush\" is none of all, crash, hang"));
  EXPECT_FALSE(parse_kinds(""));
  EXPECT_FALSE(parse_kinds("crash,"));
  EXPECT_EQ(parse_at("call,never").error().message, "\"never\" is none of call, hypercall, store, delay");
  EXPECT_EQ(parse_where("here").error().message, "\"here\" is none of any, request, scope, program");
  for (KindInfo const& kind : kinds()) EXPECT_EQ(kind_named(kind.name), kind.kind);
}

}  // namespace
