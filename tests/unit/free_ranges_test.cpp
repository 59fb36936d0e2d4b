// links: vmm
#include "vmm/free_ranges.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace {

using vmm::FreeRanges;

TEST(FreeRanges, TakesTheUpperEndOfTheSmallestRangeThatFits) {
  FreeRanges free;
  EXPECT_EQ(free.find(1), 0u);
  free.add(1000, 2000);
  free.add(5000, 5100);
  EXPECT_EQ(free.find(100), 5000u);
  EXPECT_EQ(free.find(101), 1899u);
  EXPECT_EQ(free.find(1000), 1000u);
  EXPECT_EQ(free.find(1001), 0u);
  free.add(7000, 7100);
  EXPECT_EQ(free.find(60), 7040u) << "of equal ranges, the highest";
}

TEST(FreeRanges, AnAlignedPlaceIsTheHighestThatFits) {
  FreeRanges free;
  free.add(0x1100, 0x5100);
  EXPECT_EQ(free.find(0x1000, 0x1000), 0x4000u);
  EXPECT_EQ(free.find(0x2000, 0x2000), 0x2000u);
  EXPECT_EQ(free.find(0x4000, 0x1000), 0u) << "only unaligned";
  EXPECT_EQ(free.find(0x4000), 0x1100u);
}

TEST(FreeRanges, NeighboursJoin) {
  FreeRanges free;
  free.add(1000, 2000);
  free.add(3000, 4000);
  EXPECT_EQ(free.find(3000), 0u);
  free.add(2000, 3000);
  EXPECT_EQ(free.find(3000), 1000u);
  free.remove(1500, 1600);
  EXPECT_EQ(free.find(500), 1000u);
  EXPECT_EQ(free.find(2401), 0u);
  free.add(1500, 1600);
  EXPECT_EQ(free.find(3000), 1000u);
}

// Against a plain array of units: whatever find() gives is free and of that size, and nothing is overlooked.
TEST(FreeRanges, AgreesWithAModel) {
  constexpr unsigned kUnits = 256;
  std::mt19937 random(1);
  std::vector<bool> used(kUnits + 1, true);  // unit 0 stands for "nowhere"
  FreeRanges free;
  free.add(1, kUnits + 1);
  for (unsigned i = 1; i <= kUnits; ++i) used[i] = false;
  struct Piece {
    unsigned start, size;
  };
  std::vector<Piece> taken;
  auto const fits = [&](unsigned size) {
    unsigned run = 0;
    for (unsigned i = 1; i <= kUnits; ++i) {
      run = used[i] ? 0 : run + 1;
      if (run == size) return true;
    }
    return false;
  };
  unsigned refused = 0;
  for (int step = 0; step < 20000; ++step) {
    if (random() % 2 == 0 && !taken.empty()) {
      std::swap(taken[random() % taken.size()], taken.back());
      Piece const p = taken.back();
      taken.pop_back();
      for (unsigned i = p.start; i < p.start + p.size; ++i) used[i] = false;
      free.add(p.start, p.start + p.size);
      continue;
    }
    unsigned const size = 1 + random() % 40;
    auto const at = static_cast<unsigned>(free.find(size));
    ASSERT_EQ(at != 0, fits(size)) << "step " << step;
    refused += at == 0;
    if (at == 0) continue;
    for (unsigned i = at; i < at + size; ++i) {
      ASSERT_FALSE(used[i]) << "step " << step;
      used[i] = true;
    }
    free.remove(at, at + size);
    taken.push_back({at, size});
  }
  EXPECT_GT(refused, 100u);
}

}  // namespace
