// links: srs_abi
#include "srs/abi.h"

#include <gtest/gtest.h>

#include <cstring>

TEST(Abi, TagKeepsItsFields) {
  uint64_t const owner = srs_owner(1023, (UINT64_C(1) << 34) - 1);
  uint64_t const tag = srs_tag_make(owner, 4095, 0xa5);
  EXPECT_EQ(srs_tag_owner(tag), owner);
  EXPECT_EQ(srs_tag_seq(tag), 4095u);
  EXPECT_EQ(srs_tag_mask(tag), 0xa5u);
  EXPECT_EQ(srs_owner_slot(owner), 1023u);
  EXPECT_EQ(srs_owner_number(owner), (UINT64_C(1) << 34) - 1);
}

TEST(Abi, NextTagCountsAndKeepsTheMaskOfTheSameOwnerOnly) {
  uint64_t const a = srs_owner(1, 7);
  uint64_t const b = srs_owner(2, 7);
  uint64_t const first = srs_tag_next(0, a, 0x0f);
  uint64_t const wider = srs_tag_next(first, a, 0xf0);
  uint64_t const other = srs_tag_next(wider, b, 0x01);
  EXPECT_EQ(srs_tag_mask(wider), 0xffu);
  EXPECT_EQ(srs_tag_mask(other), 0x01u);
  EXPECT_EQ(srs_tag_seq(other), 3u);
  EXPECT_EQ(srs_tag_seq(srs_tag_next(srs_tag_make(a, 4095, 1), b, 1)), 0u) << "wraps within its field";
}

TEST(Abi, RecordCheckSeesEachBitOfTheRecordItsIndexAndKey) {
  srs_record record{srs_what(SRS_REC_STORE, 0xff, 0x123456789ab8), 42, 77, 0};
  uint64_t const good = srs_record_check(&record, 0xfeed, 5);
  EXPECT_NE(good, srs_record_check(&record, 0xfeed, 6));
  EXPECT_NE(good, srs_record_check(&record, 0xfeee, 5));
  for (unsigned bit = 0; bit < 24 * 8; ++bit) {
    srs_record damaged = record;
    reinterpret_cast<unsigned char*>(&damaged)[bit / 8] ^= 1u << (bit % 8);
    EXPECT_NE(good, srs_record_check(&damaged, 0xfeed, 5)) << "bit " << bit;
  }
}
