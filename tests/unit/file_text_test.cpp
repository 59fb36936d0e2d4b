// links: vmm
// The read-only part of a program or library on huge pages.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/guest_memory_file.hpp"
#include "vmm/safe_copy.hpp"

namespace {

using vmm::AddressSpace;
using vmm::GuestAddr;
constexpr uint64_t kPage = 4096, kSize = 3 << 20;

class FileText : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "needs the guest's addresses, where AddressSanitizer has its shadow memory";
#endif
    vmm::install_safe_copy_handler();
    auto made = AddressSpace::create({.window = 2ULL << 30});
    ASSERT_TRUE(made) << made.error().message;
    space = std::move(*made);
    std::mt19937_64 random(1);
    bytes.resize(kSize / 8);
    for (auto& word : bytes) word = random();
    file = std::tmpfile();
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(write(fileno(file), bytes.data(), kSize), static_cast<ssize_t>(kSize));
  }
  void TearDown() override {
    if (file != nullptr) std::fclose(file);
  }
  uint64_t map(uint64_t text, uint64_t hint = 0, int flags = MAP_PRIVATE) {
    return static_cast<uint64_t>(
        space->mmap(GuestAddr(hint), kSize, PROT_READ, flags, fileno(file), 0, "/a/library", text));
  }
  uint64_t map_fixed(uint64_t at, uint64_t size, int prot, uint64_t offset) {
    return static_cast<uint64_t>(
        space->mmap(GuestAddr(at), size, prot, MAP_PRIVATE | MAP_FIXED, fileno(file), offset, "/a/library"));
  }
  [[nodiscard]] bool same(uint64_t at, uint64_t offset, uint64_t size) const {
    return std::memcmp(reinterpret_cast<void*>(at), reinterpret_cast<char const*>(bytes.data()) + offset, size) == 0;
  }
  // Of the host mapping that holds the address: a line of /proc/self/smaps.
  static std::string smaps(uint64_t addr, char const* name) {
    std::ifstream maps("/proc/self/smaps");
    bool inside = false;
    for (std::string line; std::getline(maps, line);) {
      unsigned long from = 0, to = 0;
      if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) inside = from <= addr && addr < to;
      if (inside && line.starts_with(name)) return line + " ";
    }
    return "";
  }
  std::unique_ptr<AddressSpace> space;
  std::vector<uint64_t> bytes;
  std::FILE* file = nullptr;
};

TEST_F(FileText, EndsWithAHugePageAndHoldsTheFile) {
  for (uint64_t const text : {kSize, vmm::kHugePage, vmm::kHugePage + 5 * kPage, vmm::kHugePage - 512 * 1024}) {
    uint64_t const at = map(text);
    ASSERT_EQ(at % kPage, 0U);
    EXPECT_EQ((at + text) % vmm::kHugePage, 0U) << text;
    EXPECT_TRUE(same(at, 0, kSize)) << text;
    EXPECT_NE(smaps(at + text - kPage, "VmFlags:").find(" hg "), std::string::npos) << text;
    EXPECT_EQ(smaps(at + text, "VmFlags:").find(" hg "), std::string::npos) << "what will be written is not in it";
    EXPECT_EQ(space->munmap(GuestAddr(at), kSize), 0);
  }
}

TEST_F(FileText, TakesNoMorePaddingThanHalfAMebibyte) {
  uint64_t const text = vmm::kHugePage - 512 * 1024 - kPage;
  uint64_t const at = map(text);
  EXPECT_TRUE(same(at, 0, kSize));
  EXPECT_EQ(smaps(at, "VmFlags:").find(" hg "), std::string::npos);
}

TEST_F(FileText, PaddingReadsAsZerosAndIsNobodyElses) {
  uint64_t const text = vmm::kHugePage - 100 * kPage, at = map(text);
  uint64_t const pad = at - 100 * kPage;
  EXPECT_EQ(pad % vmm::kHugePage, 0U);
  for (uint64_t a = pad; a < at; a += 8) ASSERT_EQ(*reinterpret_cast<uint64_t*>(a), 0U);
  EXPECT_FALSE(space->write(GuestAddr(pad), bytes[0]));
  vmm::Vma vma;
  ASSERT_TRUE(space->find_vma(GuestAddr(pad), vma));
  EXPECT_EQ(vma.name, "[padding]");
}

TEST_F(FileText, AHintIsFollowedUpToTheNextHugePage) {
  uint64_t const hint = 0x1041000000, text = vmm::kHugePage - 16 * kPage;
  EXPECT_EQ(map(text, hint), hint + 16 * kPage);
  // Taken now: elsewhere.
  uint64_t const second = map(text, hint);
  EXPECT_TRUE(second < hint || second >= hint + kSize) << std::hex << second;
  EXPECT_TRUE(same(second, 0, kSize));
}

// As a loader does: the segments over the whole of the file. Bytes that are there already stay; a huge page survives.
TEST_F(FileText, SegmentsThatAreInPlaceStayThere) {
  uint64_t const text = vmm::kHugePage, at = map(text);
  // Only the monitor can see whether they were read again: the file is no longer as it was.
  std::vector<char> zeros(kSize);
  ASSERT_EQ(pwrite(fileno(file), zeros.data(), kSize, 0), static_cast<ssize_t>(kSize));
  EXPECT_EQ(map_fixed(at + 16 * kPage, 64 * kPage, PROT_READ | PROT_EXEC, 16 * kPage), at + 16 * kPage);
  EXPECT_TRUE(same(at, 0, kSize));
  // Other bytes, or to be written: read anew.
  EXPECT_EQ(map_fixed(at + text, kPage, PROT_READ, 7 * kPage), at + text);
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(at + text), 0U);
  EXPECT_EQ(map_fixed(at + text + kPage, kPage, PROT_READ | PROT_WRITE, text + kPage), at + text + kPage);
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(at + text + kPage), 0U);
  EXPECT_TRUE(same(at, 0, text));
}

TEST_F(FileText, BytesThatWereWritableAreReadAnew) {
  uint64_t const at = map(vmm::kHugePage);
  ASSERT_EQ(space->mprotect(GuestAddr(at), kPage, PROT_READ | PROT_WRITE), 0);
  *reinterpret_cast<uint64_t*>(at) = ~bytes[0];
  ASSERT_EQ(space->mprotect(GuestAddr(at), kPage, PROT_READ), 0);
  EXPECT_EQ(map_fixed(at, 4 * kPage, PROT_READ, 0), at);
  EXPECT_TRUE(same(at, 0, kSize));
}

TEST_F(FileText, WhatIsUnmappedLeavesNoAdviceAndNoBytes) {
  uint64_t const at = map(vmm::kHugePage);
  ASSERT_EQ(space->munmap(GuestAddr(at), kSize), 0);
  int64_t const again = space->mmap(GuestAddr(at), kSize / 4, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "");
  ASSERT_EQ(static_cast<uint64_t>(again), at);
  EXPECT_EQ(smaps(at, "VmFlags:").find(" hg "), std::string::npos);
  for (uint64_t a = at; a < at + kSize / 4; a += 8) ASSERT_EQ(*reinterpret_cast<uint64_t*>(a), 0U);
}

// As a program that loads and unloads a library for ever.
TEST_F(FileText, ItsPaddingGoesWithIt) {
  uint64_t const before = space->mapped_bytes(), text = vmm::kHugePage - 100 * kPage, first = map(text);
  EXPECT_EQ(space->mapped_bytes(), before + kSize + 100 * kPage);
  for (int i = 0; i < 20; ++i) {
    uint64_t const at = i == 0 ? first : map(text);
    ASSERT_EQ(at, first);
    ASSERT_EQ(space->munmap(GuestAddr(at), kSize), 0);
    EXPECT_EQ(space->mapped_bytes(), before);
  }
}

}  // namespace
