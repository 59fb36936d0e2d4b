// links: vmm
#include "vmm/address_space.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "vmm/safe_copy.hpp"

namespace {

using vmm::Access;
using vmm::AddressSpace;
using vmm::GuestAddr;
constexpr int kAnon = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int kRw = PROT_READ | PROT_WRITE;

class AddressSpaceTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "needs the guest's addresses, where AddressSanitizer has its shadow memory";
#endif
    vmm::install_safe_copy_handler();
    auto made = AddressSpace::create({.window = 2ULL << 30});
    ASSERT_TRUE(made) << made.error().message;
    space = std::move(*made);
  }
  GuestAddr map(uint64_t size, int prot = kRw) {
    int64_t const r = space->mmap(GuestAddr(0), size, prot, kAnon, -1, 0, "");
    EXPECT_GT(r, 0);
    return GuestAddr(static_cast<uint64_t>(r));
  }
  std::unique_ptr<AddressSpace> space;
};

TEST_F(AddressSpaceTest, AliasAndGuestPlaceAreTheSameMemory) {
  GuestAddr const a = map(8192);
  *reinterpret_cast<uint64_t*>(a.value + 4096) = 42;
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(space->alias(a + 4096)), 42u);
  EXPECT_EQ(space->buffer(a, 8192, Access::kWrite), space->alias(a));
}

// The flags of the host mapping that holds an address, as /proc/self/smaps tells them.
std::string host_flags(GuestAddr addr) {
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) inside = from <= addr.value && addr.value < to;
    if (inside && line.starts_with("VmFlags:")) return line + " ";
  }
  return "";
}

TEST_F(AddressSpaceTest, LargeWritableMemoryMayHaveHugePagesAndStacksMayNot) {
  constexpr uint64_t kHuge = 2 << 20;
  GuestAddr const large = map(2 * kHuge + 4096);
  EXPECT_EQ(large.value % kHuge, 0u);
  if (host_flags(large).find(" hg ") == std::string::npos) GTEST_SKIP() << "needs a host with huge pages";
  EXPECT_EQ(host_flags(map(kHuge - 4096)).find(" hg "), std::string::npos);
  EXPECT_EQ(host_flags(map(kHuge, PROT_NONE)).find(" hg "), std::string::npos);
  int64_t const stack = space->mmap(GuestAddr(0), kHuge, kRw, kAnon | MAP_STACK, -1, 0, "");
  EXPECT_EQ(host_flags(GuestAddr(static_cast<uint64_t>(stack))).find(" hg "), std::string::npos);
  ASSERT_EQ(space->munmap(large, 2 * kHuge + 4096), 0);
  EXPECT_EQ(host_flags(large).find(" hg "), std::string::npos) << "who gets the range next did not ask";
}

TEST_F(AddressSpaceTest, APageOfAHugePageIsGivenBackAndProtectedAlone) {
  constexpr uint64_t kHuge = 2 << 20;
  GuestAddr const large = map(kHuge);
  std::memset(reinterpret_cast<void*>(large.value), 7, kHuge);
  EXPECT_EQ(space->madvise(large + 8192, 4096, MADV_DONTNEED), 0);
  EXPECT_EQ(space->mprotect(large + 4096, 4096, PROT_NONE), 0);
  char byte = 0;
  for (uint64_t page = 0; page < kHuge; page += 4096) {
    EXPECT_EQ(space->read(large + page, &byte, 1), page != 4096) << page;
    EXPECT_EQ(byte, page == 8192 ? 0 : 7) << page;  // what cannot be read leaves the byte before
  }
  EXPECT_EQ(space->munmap(large, kHuge), 0);
  GuestAddr const again = map(kHuge);
  EXPECT_EQ(again.value, large.value);
  for (uint64_t page = 0; page < kHuge; page += 4096) {
    ASSERT_TRUE(space->read(again + page, &byte, 1));
    EXPECT_EQ(byte, 0) << page;
  }
}

TEST_F(AddressSpaceTest, NothingOutsideTheWindowsPasses) {
  int local = 0;
  for (uint64_t bad : {reinterpret_cast<uint64_t>(&local), reinterpret_cast<uint64_t>(space->alias(map(4096))),
                       UINT64_C(0xffff800000000000), UINT64_C(0), UINT64_C(0x1000), vmm::kLowEnd, vmm::kHighBase,
                       space->tag_base(), space->tag_base() - 4, ~UINT64_C(0) - 3}) {
    EXPECT_FALSE(space->contains(GuestAddr(bad), 8)) << std::hex << bad;
    EXPECT_EQ(space->buffer(GuestAddr(bad), 8, Access::kRead), nullptr);
    EXPECT_FALSE(space->write(GuestAddr(bad), &local, 4) && bad != space->tag_base() - 4);
  }
  EXPECT_FALSE(space->contains(GuestAddr(vmm::kLowBase), ~UINT64_C(0))) << "wrap-around";
}

TEST_F(AddressSpaceTest, UnmappedAndProtectedMemoryIsAFalseNotACrash) {
  GuestAddr const a = map(4096, PROT_READ);
  int value = 7;
  EXPECT_TRUE(space->read(a, value));
  EXPECT_EQ(value, 0);
  EXPECT_FALSE(space->write(a, value));
  EXPECT_EQ(space->munmap(a, 4096), 0);
  EXPECT_FALSE(space->read(a, value));
}

TEST_F(AddressSpaceTest, MemoryGivenBackReadsAsZerosWhenItComesAgain) {
  GuestAddr const a = map(4096);
  ASSERT_TRUE(space->write(a, uint64_t{99}));
  ASSERT_EQ(space->munmap(a, 4096), 0);
  ASSERT_EQ(space->mmap(a, 4096, kRw, kAnon | MAP_FIXED, -1, 0, ""), static_cast<int64_t>(a.value));
  uint64_t value = 1;
  ASSERT_TRUE(space->read(a, value));
  EXPECT_EQ(value, 0u);
}

TEST_F(AddressSpaceTest, ProtectSplitsAndJoins) {
  GuestAddr const a = map(4 * 4096);
  auto const before = space->vmas().size();
  ASSERT_EQ(space->mprotect(a + 4096, 4096, PROT_NONE), 0);
  EXPECT_EQ(space->vmas().size(), before + 2);
  uint64_t value = 0;
  EXPECT_FALSE(space->read(a + 4096, value));
  EXPECT_TRUE(space->read(a + 8192, value));
  ASSERT_EQ(space->mprotect(a + 4096, 4096, kRw), 0);
  EXPECT_EQ(space->vmas().size(), before);
  EXPECT_EQ(space->mprotect(a - 4096 * 16, 4096, kRw), -ENOMEM);
}

TEST_F(AddressSpaceTest, BrkGrowsShrinksAndStopsAtANeighbour) {
  GuestAddr const start(vmm::kHighBase + vmm::kLowEnd + 0x10000);
  space->set_brk_start(start);
  auto const base = space->brk(GuestAddr(0));
  EXPECT_EQ(base, static_cast<int64_t>(start.value));
  for (int i = 1; i <= 100; ++i) EXPECT_EQ(space->brk(start + i * 1000), base + i * 1000);
  EXPECT_EQ(space->vmas().size(), 1u);
  space->mmap(start + 0x100000, 4096, kRw, kAnon | MAP_FIXED, -1, 0, "");
  EXPECT_EQ(space->brk(start + 0x200000), base + 100000) << "refused: the old break";
  EXPECT_EQ(space->brk(start), base);
}

TEST_F(AddressSpaceTest, RemapMovesContentsAndZeroesTheRest) {
  GuestAddr const a = map(4096);
  map(4096);
  ASSERT_TRUE(space->write(a, uint64_t{5}));
  int64_t const moved = space->mremap(a, 4096, 1 << 20, MREMAP_MAYMOVE, GuestAddr(0));
  ASSERT_GT(moved, 0);
  uint64_t value = 0;
  ASSERT_TRUE(space->read(GuestAddr(static_cast<uint64_t>(moved)), value));
  EXPECT_EQ(value, 5u);
  EXPECT_EQ(space->mremap(GuestAddr(static_cast<uint64_t>(moved)), 4096, 8192, 0x80, GuestAddr(0)), -EINVAL);
}

TEST_F(AddressSpaceTest, SharedAreasAreNotTheGuestsToChange) {
  auto area = space->map_shared_area(8192, "[test]");
  ASSERT_TRUE(area);
  EXPECT_EQ(space->munmap(*area, 4096), -EPERM);
  EXPECT_EQ(space->mprotect(*area, 4096, PROT_NONE), -EPERM);
  EXPECT_EQ(space->mmap(*area, 4096, kRw, kAnon | MAP_FIXED, -1, 0, ""), -EPERM);
  EXPECT_EQ(space->madvise(*area, 4096, MADV_DONTNEED), -EPERM);
}

TEST_F(AddressSpaceTest, PagesAwayComeBackWhenTheMonitorNeedsThem) {
  GuestAddr const a = map(16 * 4096);
  ASSERT_TRUE(space->write(a + 4096, uint64_t{1}));
  std::vector<GuestAddr> const pages{a + 4096, a + 8192, a + 5 * 4096};
  ASSERT_TRUE(space->take_away(pages));
  EXPECT_EQ(space->away_count(), 3u);
  EXPECT_TRUE(space->is_away(a + 4100));
  EXPECT_FALSE(space->is_away(a));
  // The alias still reaches them, and that is how the store puts them right.
  *reinterpret_cast<uint64_t*>(space->alias(a + 4096)) = 2;
  unsigned asked = 0;
  space->set_missing_handler([&](vmm::GuestRange range) {
    ++asked;
    std::vector<GuestAddr> back;
    for (uint64_t p = vmm::page_down(range.start.value); p < range.end().value; p += vmm::kPageSize) {
      back.emplace_back(p);
    }
    space->bring_back(back);
  });
  uint64_t value = 0;
  EXPECT_TRUE(space->read(a, value));
  EXPECT_EQ(asked, 0u) << "a neighbour that is there asks nobody";
  EXPECT_TRUE(space->read(a + 4096, value));
  EXPECT_EQ(value, 2u);
  EXPECT_EQ(asked, 1u);
  EXPECT_EQ(space->away_count(), 2u);
  ASSERT_EQ(space->mprotect(a, 16 * 4096, PROT_READ), 0);
  EXPECT_TRUE(space->is_away(a + 8192)) << "mprotect does not bring pages back";
  EXPECT_EQ(space->munmap(a, 16 * 4096), 0);
  EXPECT_EQ(space->away_count(), 0u);
}

TEST_F(AddressSpaceTest, TheLowWindowIsTheRoomOfLastResort) {
  uint64_t const high = 1ULL << 30;  // all that a window of 2 GiB has above
  GuestAddr const a = map(high, PROT_NONE);
  EXPECT_GE(a.value, vmm::kHighBase);
  GuestAddr const b = map(512 << 20, PROT_NONE);
  EXPECT_LT(b.value, vmm::kLowEnd);
  *space->alias(b) = std::byte{7};
  EXPECT_EQ(space->mmap(GuestAddr(0), 512 << 20, PROT_NONE, kAnon, -1, 0, ""), -ENOMEM);
  EXPECT_EQ(space->munmap(a, high), 0);
  EXPECT_EQ(map(high, PROT_NONE).value, a.value);
}

TEST_F(AddressSpaceTest, Map32BitIsBelow4GiB) {
  int64_t const r = space->mmap(GuestAddr(0), 4096, kRw, kAnon | MAP_32BIT, -1, 0, "");
  ASSERT_GT(r, 0);
  EXPECT_LT(static_cast<uint64_t>(r), vmm::kLowEnd);
}

// A search that walks all mappings would make this quadratic: thousands of pieces of differing protection, so that
// nothing is joined, and holes that are all too small for what is asked next.
TEST_F(AddressSpaceTest, AFullRegionWithThousandsOfPiecesIsSearchedQuickly) {
  constexpr int kPieces = 4000, kSearches = 20000;
  std::vector<GuestAddr> pieces;
  for (int i = 0; i < kPieces; ++i) pieces.push_back(map(4096, i % 2 == 0 ? kRw : PROT_READ));
  for (int i = 0; i < kPieces; i += 2) EXPECT_EQ(space->munmap(pieces[static_cast<size_t>(i)], 4096), 0);
  timespec begin{}, end{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
  for (int i = 0; i < kSearches; ++i) {
    ASSERT_EQ(space->mmap(GuestAddr(0), 2ULL << 30, PROT_NONE, kAnon, -1, 0, ""), -ENOMEM);
  }
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
  double const ns = (static_cast<double>(end.tv_sec - begin.tv_sec) * 1e9 + static_cast<double>(end.tv_nsec) -
                     static_cast<double>(begin.tv_nsec)) /
                    kSearches;
  RecordProperty("ns_per_search", static_cast<int>(ns));
  EXPECT_LT(ns, 10000) << "a walk over 4000 pieces takes some 40000 ns";
}

// ---- the host's limit of mappings per process ----

class AddressSpaceLimitTest : public AddressSpaceTest {
 protected:
  // Every second page of `count` pages.
  static std::vector<GuestAddr> scattered(GuestAddr from, uint64_t count) {
    std::vector<GuestAddr> pages;
    for (uint64_t i = 0; i < count; i += 2) pages.push_back(from + i * 4096);
    return pages;
  }
  static uint64_t host_limit() {
    uint64_t limit = 0;
    std::ifstream("/proc/sys/vm/max_map_count") >> limit;
    return limit;
  }
};

TEST_F(AddressSpaceLimitTest, PagesAwayAnyPatternStayUnderTheHostsLimit) {
  constexpr uint64_t kPages = 59'000;
  if (host_limit() < 65'530) GTEST_SKIP() << "vm.max_map_count is " << host_limit() << ", below the default";
  GuestAddr const a = map(4 * kPages * 4096);
  EXPECT_FALSE(space->take_away(scattered(a, 4 * kPages)));
  EXPECT_EQ(space->away_count(), 0u);
  // One run costs two host mappings, but every second page may come back first.
  std::vector<GuestAddr> run;
  for (uint64_t i = 0; i < kPages; ++i) run.push_back(a + i * 4096);
  ASSERT_TRUE(space->take_away(run));
  space->bring_back(scattered(a, kPages));
  EXPECT_EQ(space->away_count(), kPages / 2);
  EXPECT_FALSE(space->is_away(a + 2 * 4096));
  EXPECT_TRUE(space->is_away(a + 3 * 4096));
  EXPECT_FALSE(space->take_away(scattered(a + kPages * 4096, 2 * kPages)));
  EXPECT_EQ(space->away_count(), kPages / 2) << "those that were away before are still away";
  EXPECT_TRUE(space->is_away(a + 3 * 4096));
  space->bring_back(run);
  EXPECT_EQ(space->away_count(), 0u);
  EXPECT_TRUE(space->write(a + 3 * 4096, uint64_t{1}));
}

TEST_F(AddressSpaceLimitTest, WhatTheHostRefusesIsAllUndone) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "needs every mapping the host allows, and ThreadSanitizer dies when it gets none for itself";
#endif
  uint64_t const limit = host_limit();
  if (limit > 100'000) GTEST_SKIP() << "vm.max_map_count is " << limit << ", too many mappings to make";
  GuestAddr const a = map(limit * 4096), b = map(8192 * 4096);
  // The guest itself uses up the host's mappings, and is told so as it would be natively.
  uint64_t page = 0;
  int64_t refused = 0;
  for (; page < limit && refused == 0; page += 2) refused = space->mprotect(a + page * 4096, 4096, PROT_READ);
  ASSERT_EQ(refused, -ENOMEM);
  EXPECT_TRUE(space->write(a + (page - 2) * 4096, uint64_t{1})) << "a refused mprotect changes nothing";
  EXPECT_FALSE(space->write(a + (page - 4) * 4096, uint64_t{1}));
  // Room for some pages, not for all.
  for (uint64_t i = 0; i < 100; i += 2) ASSERT_EQ(space->mprotect(a + i * 4096, 4096, kRw), 0);
  EXPECT_FALSE(space->take_away(scattered(b, 8192)));
  EXPECT_EQ(space->away_count(), 0u);
  for (GuestAddr const p : scattered(b, 8192)) {
    ASSERT_FALSE(space->is_away(p));
    ASSERT_TRUE(space->write(p, uint64_t{1}));
  }
  auto const few = scattered(b, 32);
  EXPECT_TRUE(space->take_away(few)) << "the first attempt gave back the mappings it had used";
  space->bring_back(few);
  EXPECT_EQ(space->munmap(a, limit * 4096), 0);
}

}  // namespace
