// links: srs_store
// What the model does not hold: journal, dependencies, damage, demand restore by counters, system calls in flight.
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "tests/unit/store_guest.hpp"

namespace vmsrs::store::test {
namespace {

class StoreRules : public testing::Test {
 protected:
  void make(Rules const& rules = {}) {
    Config c = guest.config();
    c.rules = rules;
    store = std::make_unique<Store>(c, guest.memory());
    for (uint64_t i = 1; i < Guest::kSlots; ++i) ASSERT_TRUE(store->attach_slot(guest.slot_config(i)));
  }
  void SetUp() override { make(); }
  uint64_t* word(size_t i) { return guest.words() + i; }
  AbortResult abort(uint64_t slot, Restore restore = Restore::eager) {
    auto result = store->abort(guest.slot(slot).owner, restore);
    EXPECT_TRUE(result) << result.error().message;
    if (!result) return {};
    guest.slot(slot).owner = result->outer;
    return *result;
  }

  Guest guest;
  std::unique_ptr<Store> store;
};

TEST_F(StoreRules, JournalGoesBackwardAndLocksComeLast) {
  guest.begin(1);
  guest.note(1, SRS_REC_LOCK, 0x100, SRS_LOCK_MUTEX);
  guest.note(1, SRS_REC_ALLOC, 0x1000, 64);
  guest.note(1, SRS_REC_LOCK, 0x200, SRS_LOCK_WRLOCK);
  guest.note(1, SRS_REC_FREE, 0x3000, 32);
  guest.note(1, SRS_REC_ALLOC, 0x2000, 128);
  guest.note(1, SRS_REC_LOCK, 0x300, SRS_LOCK_MUTEX);
  guest.note(1, SRS_REC_UNLOCK, 0x300, SRS_LOCK_MUTEX);
  AbortResult const r = abort(1);
  ASSERT_EQ(r.actions.size(), 4u);
  EXPECT_EQ(r.actions[0].kind, SRS_ACT_FREE);
  EXPECT_EQ(r.actions[0].arg, 0x2000u);
  EXPECT_EQ(r.actions[0].detail, 128u);
  EXPECT_EQ(r.actions[1].arg, 0x1000u);
  EXPECT_EQ(r.actions[2].kind, SRS_ACT_UNLOCK);
  EXPECT_EQ(r.actions[2].arg, 0x200u);
  EXPECT_EQ(r.actions[2].detail, static_cast<uint64_t>(SRS_LOCK_WRLOCK));
  EXPECT_EQ(r.actions[3].arg, 0x100u);
  EXPECT_TRUE(store->take_freed().empty()) << "a free of an aborted scope never takes effect";
}

TEST_F(StoreRules, WhatIsFinalKeepsTheBlocksAllocatedBefore) {
  guest.begin(1);
  guest.note(1, SRS_REC_ALLOC, 0x1000, 64);
  guest.store(1, word(0), 0x1000);
  guest.note(1, SRS_REC_FINAL, 0, SRS_FINAL_ALL);
  guest.note(1, SRS_REC_ALLOC, 0x2000, 64);
  AbortResult const r = abort(1);
  EXPECT_EQ(*word(0), 0x1000u);
  ASSERT_EQ(r.actions.size(), 1u) << "a committed word points to the first block";
  EXPECT_EQ(r.actions[0].arg, 0x2000u);
}

TEST_F(StoreRules, FinalAllReachesBeyondTheLastRenewal) {
  for (bool const all : {false, true}) {
    make();
    *word(0) = *word(1) = 0;
    guest.begin(1);
    guest.store(1, word(0), 7);
    guest.note(1, SRS_REC_RENEW, 0, srs_owner(1, guest.slot(1).next_number++));
    guest.slot(1).owner = srs_owner(1, guest.slot(1).next_number - 1);
    guest.store(1, word(1), 8);
    guest.note(1, SRS_REC_FINAL, 0, all ? SRS_FINAL_ALL : 0);
    abort(1);
    EXPECT_EQ(*word(0), all ? 7u : 0u);
    EXPECT_EQ(*word(1), 8u);
  }
}

TEST_F(StoreRules, AnUndrainedRecordIsUndoneToo) {
  guest.begin(1);
  for (size_t i = 0; i < 100; ++i) guest.store(1, word(i), i + 1);
  AbortResult const r = abort(1);
  EXPECT_EQ(r.words_polluted, 100u);
  EXPECT_EQ(r.words_restored, 100u);
  EXPECT_TRUE(r.pages.empty());
  for (size_t i = 0; i < 100; ++i) ASSERT_EQ(*word(i), 0u);
  EXPECT_EQ(store->stats().entries, 0u);
}

TEST_F(StoreRules, DemandKeepsWordsUntilTheirPageIsAskedFor) {
  guest.begin(1);
  guest.store(1, word(0), 1);
  guest.store(1, word(1), 2);
  guest.store(1, word(512), 3);
  guest.store(1, word(1024), 4);
  auto const pages = store->pages_of(guest.slot(1).owner);
  ASSERT_TRUE(pages);
  EXPECT_EQ(pages->size(), 3u);
  AbortResult const r = abort(1, Restore::demand);
  EXPECT_EQ(r.pages, *pages);
  EXPECT_EQ(r.words_polluted, 4u);
  EXPECT_EQ(r.words_restored, 0u);
  EXPECT_EQ(*word(0), 1u) << "not before somebody asks";
  RestoreResult const trap = store->restore_page(address(word(3)), Reason::trap);
  EXPECT_EQ(trap.restored, 2u);
  EXPECT_EQ(*word(0), 0u);
  EXPECT_EQ(*word(1), 0u);
  RestoreResult const over = store->restore_page(address(word(512)), Reason::overwrite, address(word(512)));
  EXPECT_EQ(over.restored, 1u);
  EXPECT_EQ(over.overwritten, 1u);
  EXPECT_EQ(store->restore_page(address(word(512)), Reason::trap).restored, 0u);
  EXPECT_EQ(store->sweep(), std::vector<uint64_t>{address(word(1024))});
  EXPECT_EQ(*word(1024), 0u);
  Stats const s = store->stats();
  EXPECT_EQ(s.by_trap, 2u);
  EXPECT_EQ(s.by_overwrite, 1u);
  EXPECT_EQ(s.by_sweep, 1u);
  EXPECT_EQ(s.polluted_now, 0u);
}

TEST_F(StoreRules, ASecondAbortLosesNothingOfTheFirst) {
  *word(0) = 7;
  *word(1) = 8;
  guest.begin(1);
  guest.begin(2);
  guest.store(1, word(0), 100);
  guest.store(2, word(0), 200, 0x0f);  // above it
  guest.store(1, word(1), 101);
  abort(1, Restore::demand);
  EXPECT_EQ(*word(1), 101u);
  AbortResult const second = abort(2, Restore::demand);
  EXPECT_EQ(second.words_polluted, 1u);
  store->sweep();
  EXPECT_EQ(*word(0), 7u);
  EXPECT_EQ(*word(1), 8u);
}

TEST_F(StoreRules, EagerUndoAboveAPollutedWordPutsAllOfItRight) {
  *word(0) = 7;
  guest.begin(1);
  guest.begin(2);
  guest.store(1, word(0), 100);
  guest.store(2, word(0), 200, 0x0f);
  abort(1, Restore::demand);
  abort(2, Restore::eager);
  EXPECT_EQ(*word(0), 7u);
  EXPECT_EQ(store->stats().polluted_now, 0u);
}

TEST_F(StoreRules, WhoBuiltOnAnAbortedScopeIsNamed) {
  guest.begin(1);
  uint64_t const outer = guest.begin(2);
  guest.begin(3);
  guest.store(1, word(0), 1);
  guest.store(2, word(0), 2);
  guest.store(3, word(0), 3);
  guest.commit(2, outer);
  guest.store(4, word(1), 4);  // outside scopes, on nobody's value
  AbortResult const r = abort(1);
  EXPECT_EQ(r.exposed, 1u) << "2 is committed; 3 built on 2";
  EXPECT_TRUE(r.dependents.empty());
  EXPECT_EQ(*word(0), 3u);
}

TEST_F(StoreRules, ALiveDependentIsToAbortToo) {
  guest.begin(1);
  guest.begin(2);
  guest.begin(3);
  guest.store(1, word(0), 1, 0x0f);
  guest.store(3, word(0), uint64_t{9} << 32, 0xf0);  // a neighbour, no dependency
  guest.store(2, word(0), 2, 0x0f);
  Owner const two = guest.slot(2).owner;
  AbortResult const r = abort(1);
  EXPECT_EQ(r.dependents, std::vector<Owner>{two});
  EXPECT_EQ(r.exposed, 0u);
}

TEST_F(StoreRules, WithoutTrackingNobodyIsNamed) {
  Rules rules;
  rules.track_dependents = false;
  make(rules);
  guest.begin(1);
  guest.begin(2);
  guest.store(1, word(0), 1);
  guest.store(2, word(0), 2);
  EXPECT_TRUE(abort(1).dependents.empty());
}

TEST_F(StoreRules, ALockTakenFromALiveScopeIsADependency) {
  guest.begin(1);
  guest.begin(2);
  guest.store(1, word(0), 1);
  store->drain_all();
  guest.note(2, SRS_REC_LOCK, 0x100, SRS_LOCK_MUTEX, guest.slot(1).owner);
  Owner const two = guest.slot(2).owner;
  EXPECT_EQ(abort(1).dependents, std::vector<Owner>{two});
}

TEST_F(StoreRules, DamagedRecordsAreCountedAndNotBelieved) {
  *word(0) = 7;
  guest.begin(1);
  guest.store(1, word(0), 1);
  guest.store(1, word(1), 2);
  guest.ring(1)[1].what ^= 8;  // the record of word 0 now names word 1
  AbortResult const r = abort(1);
  EXPECT_EQ(r.damaged, 1u);
  EXPECT_EQ(*word(0), 1u) << "lost, and said so";
  EXPECT_EQ(*word(1), 0u);
}

TEST_F(StoreRules, WithoutCheckWordsADamagedRecordDoesHarm) {
  Rules rules;
  rules.check_words = false;
  make(rules);
  guest.begin(1);
  guest.store(1, word(0), 1);
  guest.ring(1)[1].what ^= 8 * 4;  // word 4 now, which nobody stored to
  *word(4) = 55;
  abort(1);
  EXPECT_NE(*word(4), 55u);
}

TEST_F(StoreRules, AWildHeadReadsNoMoreThanARing) {
  guest.begin(1);
  guest.store(1, word(0), 1);
  guest.slot(1).head = uint64_t{1} << 60;
  store->drain_all();
  EXPECT_LE(store->stats().records, Guest::kRing);
  EXPECT_EQ(store->stats().damaged, Guest::kRing - 2);
  AbortResult const r = abort(1);
  EXPECT_EQ(*word(0), 0u);
  EXPECT_EQ(guest.slot(1).head, guest.slot(1).tail);
}

TEST_F(StoreRules, AddressesOutsideGuestMemoryAreRefused) {
  guest.begin(1);
  uint64_t const index = guest.slot(1).head;
  srs_record r{srs_what(SRS_REC_STORE, 0xff, 0x1000), 1, 0, 0};
  r.check = srs_record_check(&r, guest.slot(1).key, index);
  guest.ring(1)[index] = r;
  guest.slot(1).head = index + 1;
  store->drain_all();
  EXPECT_EQ(store->stats().damaged, 1u);
  EXPECT_EQ(store->store_word(1, 0x1000, 0xff, 1).error().code, Code::bad_address);
  EXPECT_EQ(store->store_word(1, address(word(0)) + 1, 0xff, 1).error().code, Code::bad_address);
  EXPECT_EQ(store->fetch_op(1, address(word(0)) + 2, SRS_OP_ADD, 1, 4, 0).error().code, Code::bad_argument);
  EXPECT_EQ(store->range_begin(1, guest.base() + Guest::size() - 4, 8).error().code, Code::bad_address);
  EXPECT_EQ(store->drain(99).error().code, Code::no_such_slot);
  EXPECT_EQ(store->abort(srs_owner(1, 77), Restore::eager).error().code, Code::no_such_scope);
  EXPECT_EQ(store->attach_slot(guest.slot_config(1)).error().code, Code::slot_in_use);
  ASSERT_TRUE(store->detach_slot(2));
  SlotConfig bad = guest.slot_config(2);
  bad.records = 3;
  EXPECT_EQ(store->attach_slot(bad).error().code, Code::bad_ring);
  bad = guest.slot_config(2);
  bad.ring = 0x1000;
  EXPECT_EQ(store->attach_slot(bad).error().code, Code::bad_ring);
}

TEST_F(StoreRules, AStoreBehindWhatASystemCallWroteIsLogged) {
  for (size_t i = 0; i < 3; ++i) *word(i) = 0x0707070707070707;
  guest.begin(1);
  ASSERT_TRUE(store->range_begin(1, address(word(0)), 24));
  *word(0) = 0x2222222222222222;
  ASSERT_TRUE(store->range_done(1, 8));
  guest.store(1, word(1), 0x0101010101010101);  // the text's end, as a server would set it
  abort(1);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(*word(i), 0x0707070707070707u) << i;
}

TEST_F(StoreRules, ASystemCallThatWroteLessLeavesTheRestToOthers) {
  for (size_t i = 0; i < 4; ++i) *word(i) = 0x0707070707070707;
  guest.begin(1);
  for (size_t i = 0; i < 4; ++i) guest.store(1, word(i), 0x0101010101010101);
  ASSERT_TRUE(store->range_begin(2, address(word(0)) + 4, 20));  // outside scopes: 4 bytes, then 8, then 8
  std::memset(reinterpret_cast<char*>(word(0)) + 4, 0x22, 8);
  ASSERT_TRUE(store->range_done(2, 8));
  abort(1);
  EXPECT_EQ(*word(0), 0x2222222207070707u);
  EXPECT_EQ(*word(1), 0x0707070722222222u);
  EXPECT_EQ(*word(2), 0x0707070707070707u);
  EXPECT_EQ(*word(3), 0x0707070707070707u);
  EXPECT_EQ(store->stats().entries, 0u);
}

TEST_F(StoreRules, AnAbortDuringASystemCallIsMadeGoodWhenItEnds) {
  *word(0) = 7;
  *word(1) = 8;
  guest.begin(1);
  guest.begin(2);
  guest.store(1, word(0), 1);
  guest.store(1, word(1), 1);
  ASSERT_TRUE(store->range_begin(2, address(word(0)), 16));
  abort(1);
  *word(0) = 99;
  ASSERT_TRUE(store->range_done(2, 8));
  EXPECT_EQ(*word(0), 99u);
  EXPECT_EQ(*word(1), 8u) << "not written after all: as before the aborted scope";
  abort(2);
  EXPECT_EQ(*word(0), 7u);
}

TEST_F(StoreRules, ALongScopeDoesNotMakeAChainGrow) {
  guest.begin(1);
  for (unsigned i = 0; i < 1000; ++i) {
    guest.store(1, word(0), i);
    uint64_t const outer = guest.begin(2);
    guest.store(2, word(0), i);
    guest.commit(2, outer);
    guest.store(3, word(1), i);
    ASSERT_EQ(srs_log_delta(&guest.slot(1), guest.tag(word(2)), word(2), 0xff, 1), SRS_LOG_DONE);
    srs_delta_step(&guest.slot(1), word(2), 0xff, 1);
    ASSERT_EQ(srs_log_delta(&guest.slot(3), guest.tag(word(2)), word(2), 0xff, 1), SRS_LOG_DONE);
    srs_delta_step(&guest.slot(3), word(2), 0xff, 1);
    store->drain_all();
    ASSERT_LE(store->stats().entries, 4u);
  }
  abort(1);
  EXPECT_EQ(*word(2), 1000u);
  EXPECT_EQ(*word(0), 999u);
}

TEST_F(StoreRules, CommittedScopesCostNoInsertion) {
  for (unsigned round = 0; round < 20; ++round) {
    uint64_t const outer = guest.begin(1);
    for (size_t i = 0; i < 50; ++i) guest.store(1, word(i), round);
    guest.commit(1, outer);
  }
  store->drain_all();
  Stats const s = store->stats();
  EXPECT_EQ(s.skipped, 1000u);
  EXPECT_EQ(s.chains, 0u);
  EXPECT_EQ(s.commits, 20u);
}

TEST_F(StoreRules, AHandlerInTheMiddleOfALogStepUsesTheStoreItself) {
  guest.begin(1);
  ASSERT_EQ(srs_log_store(&guest.slot(1), guest.tag(word(0)), word(0), 0xff, 1), SRS_LOG_DONE);
  ASSERT_EQ(srs_log_store(&guest.slot(1), guest.tag(word(1)), word(1), 0xff, 2), SRS_LOG_NESTED);
  ASSERT_TRUE(store->store_word(1, address(word(1)), 0xff, 2));
  ASSERT_TRUE(store->store_word(1, address(word(0)), 0xff, 3));
  srs_store_step(&guest.slot(1), word(0), 0xff, 1);
  EXPECT_EQ(*word(1), 2u);
  abort(1);
  EXPECT_EQ(*word(0), 0u);
  EXPECT_EQ(*word(1), 0u);
}

// An unlocked swap that was under way overwrites the host's mark, and its scope commits, all while words are closed.
TEST_F(StoreRules, AStepUnderWayDuringTheUndoIsMetAndNoMarkStays) {
  Config c = guest.config();
  std::function<void()> during;
  c.barrier = [&] {
    if (auto once = std::exchange(during, nullptr)) once();
  };
  store = std::make_unique<Store>(c, guest.memory());
  for (uint64_t i = 1; i < 4; ++i) ASSERT_TRUE(store->attach_slot(guest.slot_config(i)));
  *word(0) = 7;
  *word(1) = 8;
  guest.begin(1);
  guest.store(1, word(0), 1);
  guest.store(1, word(1), 1);
  uint64_t const outer = guest.begin(2);
  guest.store(2, word(0), 2);
  srs_log_step step;
  srs_slot& two = guest.slot(2);
  ASSERT_EQ(srs_log_claim(&two, &step.index), SRS_LOG_DONE);
  two.pending_value = 3;
  ASSERT_TRUE(srs_log_prepare(&two, guest.tag(word(1)), word(1), SRS_REC_STORE, 0xff, 0, &step));
  during = [&] {
    EXPECT_EQ(srs_tag_owner(*guest.tag(word(1))), SRS_OWNER_BUSY);
    *guest.tag(word(1)) = srs_tag_next(step.record.b, two.owner, 0xff);
    srs_log_publish(&two, &step);
    srs_store_step(&two, word(1), 0xff, 3);
    guest.commit(2, outer);
  };
  AbortResult const r = abort(1);
  EXPECT_EQ(r.damaged, 0u);
  EXPECT_EQ(*word(0), 2u);
  EXPECT_EQ(*word(1), 3u);
  for (size_t i : {0, 1}) EXPECT_NE(srs_tag_owner(*guest.tag(word(i))), SRS_OWNER_BUSY) << "word " << i;
  EXPECT_EQ(store->stats().entries, 0u);
}

TEST_F(StoreRules, AForgedTagEndsTheWaitAndIsReported) {
  *word(0) = 7;
  guest.begin(1);
  guest.store(1, word(0), 1);
  *guest.tag(word(0)) = srs_tag_make(srs_owner(3, 9), 77, 0xff);
  AbortResult const r = abort(1);
  EXPECT_EQ(r.damaged, 1u);
  EXPECT_EQ(*word(0), 7u);
}

TEST_F(StoreRules, StrictAtomics) {
  *word(0) = 5;
  ASSERT_TRUE(store->note(1, {srs_what(SRS_REC_BEGIN, 0, 0), 0, 0, 0}));
  EXPECT_EQ(guest.slot(1).owner, srs_owner(1, 1));
  EXPECT_EQ(store->fetch_op(1, address(word(0)), SRS_OP_ADD, 3, 8, 0).value(), 5u);
  EXPECT_EQ(store->fetch_op(2, address(word(0)), SRS_OP_ADD, 10, 8, 0).value(), 8u);
  EXPECT_EQ(store->fetch_op(1, address(word(1)) + 4, SRS_OP_EXCHANGE, 9, 4, 0).value(), 0u);
  EXPECT_EQ(store->fetch_op(1, address(word(1)) + 4, SRS_OP_CAS, 11, 4, 8).value(), 9u) << "refused";
  EXPECT_EQ(store->fetch_op(1, address(word(1)) + 4, SRS_OP_CAS, 11, 4, 9).value(), 9u);
  EXPECT_EQ(*word(1), uint64_t{11} << 32);
  AbortResult const r = abort(1);
  EXPECT_EQ(r.outer, srs_owner(1, 0));
  EXPECT_EQ(*word(0), 15u);
  EXPECT_EQ(*word(1), 0u);
  EXPECT_EQ(store->note(1, {srs_what(SRS_REC_COMMIT, 0, 0), 0, 0, 0}).error().code, Code::bad_argument);
}

TEST_F(StoreRules, AThreadThatEndsInAScopeIsUndone) {
  guest.begin(1);
  guest.store(1, word(0), 1);
  ASSERT_TRUE(store->detach_slot(1));
  EXPECT_EQ(*word(0), 0u);
  EXPECT_EQ(store->stats().live_scopes, 0u);
}

TEST_F(StoreRules, AThreadThatEndsBetweenLogAndStoreHidesNobodysUndo) {
  *word(0) = 7;
  guest.begin(1);
  guest.store(1, word(0), 1);
  ASSERT_EQ(srs_log_store(&guest.slot(2), guest.tag(word(0)), word(0), 0xff, 2), SRS_LOG_DONE);
  store->drain_all();
  ASSERT_TRUE(store->detach_slot(2));
  EXPECT_EQ(*word(0), 1u);
  abort(1);
  EXPECT_EQ(*word(0), 7u);
}

}  // namespace
}  // namespace vmsrs::store::test
