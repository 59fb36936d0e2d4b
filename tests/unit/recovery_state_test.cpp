// links: vmsrs_runtime
#include "runtime/recovery_state.hpp"

#include <gtest/gtest.h>

#include <utility>

#include "runtime/slot_area.hpp"

namespace vmsrs::runtime {
namespace {

RecoveryState one_thread() {
  RecoveryState state;
  state.attached = true;
  state.abort_message = 0x1234;
  RecoveryState::Thread thread;
  thread.tid = 1007;
  thread.slot = 3;
  thread.answer_number = 9;
  thread.masks = {{.number = 5, .mask = 0xff}};
  thread.effects.opened = {{.fd = 8, .number = 5}};
  thread.effects.told = {{.effect = {.call = "unlink", .path = "/x/y"}, .number = 5, .why_not = "gone"}};
  thread.effects.more = 2;
  state.threads.push_back(thread);
  return state;
}

TEST(RecoveryState, WhatAScopeDidOutsideMemoryComesBack) {
  RecoveryState state = one_thread();
  auto const bytes = encode(state);
  auto const back = decode_recovery_state(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ((*back)->abort_message, 0x1234U);
  ASSERT_EQ((*back)->threads.size(), 1U);
  RecoveryState::Thread const& thread = (*back)->threads[0];
  EXPECT_EQ(thread.answer_number, 9U);
  ASSERT_EQ(thread.masks.size(), 1U);
  EXPECT_EQ(thread.masks[0].mask, 0xffU);
  ScopeEffects effects;
  effects.load(thread.effects);
  EXPECT_TRUE(effects.can_be_saved());
  auto const again = effects.save();
  ASSERT_EQ(again.opened.size(), 1U);
  EXPECT_EQ(again.opened[0].fd, 8);
  ASSERT_EQ(again.told.size(), 1U);
  EXPECT_EQ(again.told[0].effect.call, "unlink");
  EXPECT_EQ(again.told[0].effect.path, "/x/y");
  EXPECT_EQ(again.told[0].why_not, "gone");
  EXPECT_EQ(again.more, 2U);
}

TEST(RecoveryState, EveryTornStateIsRefused) {
  RecoveryState state = one_thread();
  auto const bytes = encode(state);
  for (size_t size = 1; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_recovery_state(std::span(bytes).first(size))) << size;
  }
}

// What lies below top() is what a checkpoint marks and deadlines are looked for in.
TEST(RecoveryState, SlotsComeBackWithTheirTopWhereverTheyAreMoved) {
  auto memory = vmm::AddressSpace::create({});
  ASSERT_TRUE(memory) << memory.error().message;
  auto made = SlotArea::create(**memory);
  ASSERT_TRUE(made) << made.error().message;
  for (int tid = 1; tid <= 4; ++tid) EXPECT_NE(made->take(tid), 0U);
  made->give_back(2);
  SlotArea::Saved const saved = made->save();
  EXPECT_EQ(saved.top, 5U);
  memory->reset();  // there is room for one in a process
  auto other = vmm::AddressSpace::create({});
  ASSERT_TRUE(other) << other.error().message;
  auto again = SlotArea::create(**other);
  ASSERT_TRUE(again) << again.error().message;
  ASSERT_TRUE(again->load(saved));
  SlotArea const moved(std::move(*again));
  EXPECT_EQ(moved.top(), saved.top);
  EXPECT_EQ(moved.used_bytes(), saved.top * sizeof(srs_slot));
  for (uint64_t index = 1; index < saved.top; ++index) EXPECT_EQ(moved.key(index), saved.keys[index]);
}

}  // namespace
}  // namespace vmsrs::runtime
