// links: srs_static
// Outside the monitor: the library is plain memory.
#include <gtest/gtest.h>
#include <srs/srs.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <srs/srs.hpp>
#include <string>
#include <thread>
#include <vector>

TEST(SrsNative, IsInactive) {
  EXPECT_EQ(srs_active(), 0);
  EXPECT_EQ(srs_init_profile(), 0);
  srs_fault_info info;
  EXPECT_EQ(srs_last_fault(&info), 0);
  EXPECT_EQ(srs_thread_.slot, nullptr);
}

TEST(SrsNative, StoresOfEverySizeAndAlignment) {
  for (unsigned at = 0; at < 16; ++at) {
    unsigned char expected[32];
    unsigned char memory[32];
    memset(expected, 0xee, sizeof expected);
    memset(memory, 0xee, sizeof memory);
    uint64_t const value = 0x8877665544332211;
    srs_store64(memory + at, value);
    memcpy(expected + at, &value, 8);
    EXPECT_EQ(memcmp(memory, expected, sizeof memory), 0) << "64 at " << at;
    srs_store32(memory + at + 1, 0xa1a2a3a4);
    uint32_t const v32 = 0xa1a2a3a4;
    memcpy(expected + at + 1, &v32, 4);
    srs_store16(memory + at + 7, 0xb1b2);
    uint16_t const v16 = 0xb1b2;
    memcpy(expected + at + 7, &v16, 2);
    srs_store8(memory + at, 0xc1);
    expected[at] = 0xc1;
    EXPECT_EQ(memcmp(memory, expected, sizeof memory), 0) << "at " << at;
    EXPECT_EQ(srs_load32(memory + at + 1) & 0xffffff, 0xa2a3a4u);
    EXPECT_EQ(srs_load8(memory + at), 0xc1);
    EXPECT_EQ(srs_load16(memory + at + 7), 0xb1b2);
  }
}

TEST(SrsNative, Atomics) {
  uint64_t word = 5;
  EXPECT_EQ(srs_fetch_add64(&word, 3), 5u);
  EXPECT_EQ(srs_exchange64(&word, 1), 8u);
  EXPECT_EQ(srs_cas64(&word, 2, 9), 1u);
  EXPECT_EQ(srs_cas64(&word, 1, 9), 1u);
  EXPECT_EQ(word, 9u);
  uint32_t half[2] = {UINT32_MAX, 7};
  EXPECT_EQ(srs_fetch_add32(&half[0], 2), UINT32_MAX);
  EXPECT_EQ(half[0], 1u);
  EXPECT_EQ(half[1], 7u) << "no carry into the neighbour";
  EXPECT_EQ(srs_cas32(&half[1], 7, 8), 7u);
  EXPECT_EQ(srs_exchange32(&half[1], 4), 8u);
}

TEST(SrsNative, StringsAndMemory) {
  char text[32];
  EXPECT_EQ(srs_snprintf(text, sizeof text, "%d-%s", 42, "abc"), 6);
  EXPECT_STREQ(text, "42-abc");
  EXPECT_EQ(srs_snprintf(text, 4, "%s", "long text"), 9);
  EXPECT_STREQ(text, "lon");
  EXPECT_EQ(srs_snprintf(nullptr, 0, "%s", std::string(2000, 'x').c_str()), 2000);
  srs_strcpy(text, "ab");
  srs_strcat(text, "cd");
  srs_strncat(text, "efgh", 2);
  EXPECT_STREQ(text, "abcdef");
  srs_strncpy(text, "xy", 8);
  EXPECT_EQ(memcmp(text, "xy\0\0\0\0\0\0", 8), 0);
  char moved[] = "0123456789";
  srs_memmove(moved + 2, moved, 6);
  EXPECT_STREQ(moved, "0101234589");
  srs_memset(moved, 'z', 3);
  EXPECT_EQ(moved[2], 'z');
  EXPECT_EQ(moved[3], '1');
}

TEST(SrsNative, HeapGivesAlignedZeroedAndGrownBlocks) {
  void* big = srs_aligned_alloc(4096, 100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(big) % 4096, 0u);
  srs_free(big);
  auto* words = static_cast<uint64_t*>(srs_calloc(100, 8));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(words[i], 0u);
  for (int i = 0; i < 100; ++i) words[i] = static_cast<uint64_t>(i);
  words = static_cast<uint64_t*>(srs_realloc(words, 100000));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(words[i], static_cast<uint64_t>(i));
  srs_free(words);
  srs_free(nullptr);
  EXPECT_EQ(srs_malloc(SIZE_MAX / 2), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(srs_calloc(SIZE_MAX / 2, 3), nullptr);
  EXPECT_EQ(srs_aligned_alloc(24, 8), nullptr);
  EXPECT_EQ(errno, EINVAL);
  for (size_t size : {0, 1, 15, 16, 17, 100, 5000, 70000, 3000000}) {
    void* p = srs_malloc(size);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 16, 0u);
    srs_free(p);
  }
}

TEST(SrsNative, PointerChecksKnowBlocksAndRanges) {
  auto* block = static_cast<char*>(srs_malloc(64));
  EXPECT_EQ(srs_ptr_add(block + 10, 54), block + 64);
  EXPECT_EQ(srs_ptr_add(block + 10, -10), block);
  EXPECT_EQ(srs_ptr_check(block, 64), block);
  EXPECT_DEATH(srs_ptr_add(block, 65), "srs_ptr_add leaves the object");
  EXPECT_DEATH(srs_ptr_add(block, -1), "leaves the object");
  EXPECT_DEATH(srs_ptr_check(block + 60, 5), "beyond the object");
  auto* large = static_cast<char*>(srs_malloc(1 << 20));
  EXPECT_EQ(srs_ptr_add(large + 900000, 100), large + 900100);
  EXPECT_DEATH(srs_ptr_check(large, (1 << 20) + 1), "beyond the object");
  static int table[10];
  EXPECT_DEATH(srs_ptr_add(table, 4), "no known object");
  ASSERT_EQ(srs_profile(table, sizeof table, "table"), 0);
  EXPECT_EQ(srs_ptr_add(table, 40), table + 10);
  EXPECT_DEATH(srs_ptr_add(table, 41), "leaves the object");
  EXPECT_EQ(srs_profile(nullptr, 1, "x"), -1);
  EXPECT_EQ(srs_profile(table, 0, "x"), -1);
  EXPECT_EQ(errno, EINVAL);
  srs_free(block);
  EXPECT_DEATH(srs_ptr_check(block, 1), "no known object");
  EXPECT_DEATH(srs_free(block), "no live block");
  EXPECT_DEATH(srs_free(table), "no live block");
  srs_free(large);
}

TEST(SrsNative, RequestJustCalls) {
  int calls = 0;
  EXPECT_EQ(srs::request([&] { ++calls; }), SRS_OK);
  EXPECT_EQ(calls, 1);
  EXPECT_THROW(srs::request([] { throw 1; }), int) << "as without the library";
  EXPECT_EQ(srs_request(nullptr, nullptr, nullptr), SRS_REFUSED);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(srs::request([&] { ++calls; }, {.isolation = 17}), SRS_REFUSED);
  EXPECT_EQ(calls, 1);
  EXPECT_DEATH(srs_request([](void*) { srs_crash_suppression_os(SRS_FAULT_REPORTED); }, nullptr, nullptr),
               "fault of its own");
  EXPECT_DEATH(srs_request([](void* p) { srs_store64(p, 1); }, reinterpret_cast<void*>(8), nullptr), "");
}

TEST(SrsNative, MisalignedAtomicDies) {
  char memory[16];
  EXPECT_DEATH(srs_fetch_add64(memory + (reinterpret_cast<uintptr_t>(memory) % 8 == 0), 1), "multiple of its size");
}

TEST(SrsNative, SharedActsLikeItsType) {
  srs::shared<int> a = 3;
  EXPECT_EQ(a += 4, 7);
  EXPECT_EQ(a++, 7);
  EXPECT_EQ(--a, 7);
  a -= 10;
  EXPECT_EQ(a, -3);
  a *= -2;
  EXPECT_EQ(a.load(), 6);
  srs::shared<char> c = 'a';
  c += 1;
  EXPECT_EQ(c, 'b');
  srs::shared<double> d = 1.5;
  d += 1;
  EXPECT_DOUBLE_EQ(d, 2.5);
  struct Point {
    int x;
    double y;
    char name[5];
  };
  srs::shared<Point> p = Point{1, 2.0, "abc"};
  p.set(&Point::x, 9);
  EXPECT_EQ(p.load().x, 9);
  EXPECT_EQ(p.load().y, 2.0);
  srs::atomic<long> n = 1;
  long expected = 2;
  EXPECT_FALSE(n.compare_exchange_strong(expected, 5));
  EXPECT_EQ(expected, 1);
  EXPECT_TRUE(n.compare_exchange_strong(expected, 5));
  EXPECT_EQ(n--, 5);
  EXPECT_EQ(n, 4);
  std::vector<int, srs::allocator<int>> v;
  for (int i = 0; i < 1000; ++i) v.push_back(i);
  EXPECT_EQ(v[999], 999);
}

TEST(SrsNative, LocksAndConditionVariablesPassThrough) {
  std::mutex m;
  std::condition_variable cv;
  bool ready = false;
  std::shared_mutex rw;
  std::thread other([&] {
    std::shared_lock const read(rw);
    std::lock_guard const hold(m);
    ready = true;
    cv.notify_one();
  });
  {
    std::unique_lock hold(m);
    EXPECT_TRUE(cv.wait_for(hold, std::chrono::seconds(20), [&] { return ready; }));
  }
  other.join();
  EXPECT_TRUE(rw.try_lock());
  std::thread([&] { EXPECT_FALSE(rw.try_lock_shared()); }).join();
  rw.unlock();
}
