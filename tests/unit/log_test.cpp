// links: srs_abi
// The guest's log steps: what they write, and what they refuse.
#include "srs/log.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace {

struct Guest {
  std::vector<srs_record> ring{std::vector<srs_record>(4)};
  std::unique_ptr<srs_slot> slot{std::make_unique<srs_slot>()};
  uint64_t word = 0x1111;
  uint64_t tag = 0;

  Guest() {
    slot->index = 3;
    slot->ring = reinterpret_cast<uint64_t>(ring.data());
    slot->ring_records = ring.size();
    slot->key = 77;
    slot->next_number = 1;
    slot->owner = srs_owner(3, 0);
  }
};

TEST(Log, StoreTakesTheTagRecordsTheOldValueAndAnnouncesTheNew) {
  Guest g;
  ASSERT_EQ(srs_log_begin(g.slot.get(), SRS_HOLD), SRS_LOG_DONE);
  ASSERT_EQ(srs_log_store(g.slot.get(), &g.tag, &g.word, 0x03, 0x2222), SRS_LOG_DONE);
  EXPECT_EQ(g.word, 0x1111u) << "the log step does not store";
  EXPECT_EQ(g.slot->head, 2u);
  EXPECT_EQ(g.slot->pending, 2u);
  EXPECT_EQ(g.slot->pending_value, 0x2222u);
  srs_record const& r = g.ring[1];
  EXPECT_EQ(srs_record_kind_of(r.what), SRS_REC_STORE);
  EXPECT_EQ(srs_record_mask(r.what), 0x03u);
  EXPECT_EQ(r.a, 0x1111u);
  EXPECT_EQ(r.b, 0u);
  EXPECT_EQ(r.check, srs_record_check(&r, 77, 1));
  EXPECT_EQ(srs_log_store(g.slot.get(), &g.tag, &g.word, 0x03, 0x2222), SRS_LOG_OWNED);
  srs_store_step(g.slot.get(), &g.word, 0x03, 0x2222);
  EXPECT_EQ(g.word, 0x2222u);
  EXPECT_EQ(g.slot->pending, 0u);
  EXPECT_EQ(g.tag, srs_tag_make(srs_owner(3, 1), 1, 0x03));
}

TEST(Log, FullRingAndInterruptedStepChangeNothing) {
  Guest g;
  for (int i = 0; i < 4; ++i) ASSERT_EQ(srs_log_begin(g.slot.get(), 0), SRS_LOG_DONE);
  EXPECT_EQ(srs_log_store(g.slot.get(), &g.tag, &g.word, 0xff, 1), SRS_LOG_FULL);
  EXPECT_EQ(g.tag, 0u);
  EXPECT_EQ(g.slot->pending, 0u);
  g.slot->tail = 5;  // the host took one that was not published
  EXPECT_EQ(srs_log_store(g.slot.get(), &g.tag, &g.word, 0xff, 1), SRS_LOG_DONE);
  EXPECT_EQ(srs_log_store(g.slot.get(), &g.tag, &g.word, 0xff, 1), SRS_LOG_OWNED);
  uint64_t other = 0;
  uint64_t other_tag = 0;
  EXPECT_EQ(srs_log_store(g.slot.get(), &other_tag, &other, 0xff, 1), SRS_LOG_NESTED);
  EXPECT_EQ(other_tag, 0u);
}

TEST(Log, DeltaAddsInItsFieldOnly) {
  Guest g;
  g.word = 0x00000001'ffffffff;
  ASSERT_EQ(srs_log_delta(g.slot.get(), &g.tag, &g.word, 0x0f, 2), SRS_LOG_DONE);
  EXPECT_EQ(srs_delta_step(g.slot.get(), &g.word, 0x0f, 2), 0x00000001'ffffffffu);
  EXPECT_EQ(g.word, 0x00000001'00000001u);
  EXPECT_EQ(g.slot->pending, 0u);
}

TEST(Log, OwnStoreAfterOwnDeltaIsLogged) {
  Guest g;
  ASSERT_EQ(srs_log_delta(g.slot.get(), &g.tag, &g.word, 0xff, 2), SRS_LOG_DONE);
  srs_delta_step(g.slot.get(), &g.word, 0xff, 2);
  EXPECT_EQ(srs_log_store(g.slot.get(), &g.tag, &g.word, 0xff, 9), SRS_LOG_DONE)
      << "the inverse of the delta would be taken from 9";
}

TEST(Log, SwapStepRefusesWhenAnotherCameBetween) {
  Guest g;
  uint64_t old = 0;
  ASSERT_EQ(srs_log_swap(g.slot.get(), &g.tag, &g.word, 0x0f, 0x2222, &old), SRS_LOG_DONE);
  EXPECT_EQ(old, 0x1111u);
  g.word = 0x55'00003333;
  EXPECT_FALSE(srs_swap_step(g.slot.get(), &g.word, 0x0f, old, 0x2222));
  ASSERT_EQ(srs_log_swap(g.slot.get(), &g.tag, &g.word, 0x0f, 0x2222, &old), SRS_LOG_DONE);
  g.word = 0x66'00003333;  // a neighbour's bytes do not matter
  EXPECT_TRUE(srs_swap_step(g.slot.get(), &g.word, 0x0f, old, 0x2222));
  EXPECT_EQ(g.word, 0x66'00002222u);
}

TEST(Log, MaskBitsSpreadsEachBit) {
  for (unsigned mask = 0; mask < 256; ++mask) {
    uint64_t want = 0;
    for (unsigned i = 0; i < 8; ++i) want |= (mask >> i & 1) ? UINT64_C(0xff) << 8 * i : 0;
    EXPECT_EQ(srs_mask_bits(mask), want);
  }
}

}  // namespace
