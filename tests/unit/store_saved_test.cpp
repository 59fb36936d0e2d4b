// links: srs_store
// A store that is saved, and another that goes on from there over the same memory: as if there had been but one.
#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/store_guest.hpp"

namespace vmsrs::store {
namespace {

class StoreSaved : public testing::Test {
 protected:
  StoreSaved() {
    store_ = std::make_unique<Store>(guest_.config(), guest_.memory());
    for (uint64_t i = 1; i < 4; ++i) EXPECT_TRUE(store_->attach_slot(guest_.slot_config(i)));
  }
  // Another process's store, after a restore.
  void move() {
    store_->drain_all();
    auto const words = store_->save();
    ASSERT_TRUE(words) << words.error().message;
    words_ = *words;
    store_ = std::make_unique<Store>(guest_.config(), guest_.memory());
    auto const went_on = store_->go_on_from(words_);
    ASSERT_TRUE(went_on) << went_on.error().message;
  }
  AbortResult abort(uint64_t slot) {
    auto result = store_->abort(guest_.slot(slot).owner, Restore::eager);
    EXPECT_TRUE(result) << result.error().message;
    return result ? *result : AbortResult{};
  }
  uint64_t* word(size_t i) { return guest_.words() + i; }

  test::Guest guest_;
  std::unique_ptr<Store> store_;
  std::vector<uint64_t> words_;
};

TEST_F(StoreSaved, LiveScopeIsUndone) {
  *word(0) = 5;
  guest_.begin(1);
  for (size_t i = 0; i < 50; ++i) guest_.store(1, word(i), 100 + i);
  guest_.note(1, SRS_REC_ALLOC, 0x1000, 64);
  move();
  guest_.store(1, word(50), 7);
  AbortResult const r = abort(1);
  EXPECT_EQ(r.words_restored, 51U);
  ASSERT_EQ(r.actions.size(), 1U);
  EXPECT_EQ(r.actions[0].arg, 0x1000U);
  EXPECT_EQ(*word(0), 5U);
  for (size_t i = 1; i <= 50; ++i) EXPECT_EQ(*word(i), 0U);
}

TEST_F(StoreSaved, ScopesThatBuildOnEachOther) {
  guest_.begin(1);
  uint64_t const outer = guest_.begin(2);
  guest_.store(1, word(0), 1, 0x0f);
  guest_.store(2, word(0), UINT64_C(2) << 32, 0xf0);
  guest_.store(1, word(1), 3);
  move();
  guest_.commit(2, outer);
  abort(1);
  EXPECT_EQ(*word(0), UINT64_C(2) << 32) << "the committed half stays";
  EXPECT_EQ(*word(1), 0U);
}

TEST_F(StoreSaved, MovedManyTimes) {
  uint64_t const outer = guest_.begin(1);
  for (size_t i = 0; i < 10; ++i) {
    guest_.store(1, word(i), i + 1);
    move();
  }
  EXPECT_EQ(store_->live_scopes().size(), 1U);
  guest_.commit(1, outer);
  store_->drain_all();
  EXPECT_TRUE(store_->live_scopes().empty());
  EXPECT_EQ(store_->stats().entries, 0U);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(*word(i), i + 1);
}

TEST_F(StoreSaved, NonsenseIsRefused) {
  guest_.begin(1);
  guest_.store(1, word(0), 1);
  move();
  for (size_t size = 0; size < words_.size(); ++size) {
    Store other(guest_.config(), guest_.memory());
    EXPECT_FALSE(other.go_on_from({words_.begin(), words_.begin() + static_cast<std::ptrdiff_t>(size)})) << size;
  }
  std::vector<uint64_t> outside = words_;
  for (uint64_t& w : outside) w = w == reinterpret_cast<uint64_t>(word(0)) ? 0x1000 : w;
  Store other(guest_.config(), guest_.memory());
  EXPECT_FALSE(other.go_on_from(outside)) << "a word that is not in guest memory";
}

}  // namespace
}  // namespace vmsrs::store
