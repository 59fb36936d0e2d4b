// links: vmsrs_runtime
#include "runtime/recovery_state.hpp"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace vmsrs::runtime
