// links: vmm
// The time page and the vDSO, both used natively: the image is mapped in this process as it is in a guest and called
// as the C library would call it.
#include "vmm/time_page.hpp"

#include <elf.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "vmm/clock.hpp"
#include "vmm/vdso.hpp"

namespace {

using namespace std::chrono_literals;
using vmm::to_ns;

constexpr int64_t kAllowedError = 2000;  // ns

int64_t host_now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return to_ns(t);
}

// How far `value` lies outside what the host's clock said before and after it.
int64_t distance(int64_t before, int64_t value, int64_t after) {
  return value < before ? before - value : value > after ? value - after : 0;
}

// Time page and image side by side, as load_vdso() puts them.
class NativeVdso {
 public:
  NativeVdso() {
    auto const image = vmm::vdso_bytes();
    size_ = VMSRS_TIME_PAGE_SIZE + (image.size() + 4095) / 4096 * 4096;
    base_ = static_cast<std::byte*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memcpy(base_ + VMSRS_TIME_PAGE_SIZE, image.data(), image.size());
    mprotect(base_ + VMSRS_TIME_PAGE_SIZE, size_ - VMSRS_TIME_PAGE_SIZE, PROT_READ | PROT_EXEC);
    page_ = *vmm::TimePage::create(base_);
  }
  ~NativeVdso() {
    page_.reset();
    munmap(base_, size_);
  }
  vmm::TimePage& page() { return *page_; }
  vmsrs_time_data const* guest_page() { return reinterpret_cast<vmsrs_time_data const*>(base_); }
  std::byte* image() { return base_ + VMSRS_TIME_PAGE_SIZE; }

  template <class F>
  F* find(std::string_view name) {
    auto const* header = reinterpret_cast<Elf64_Ehdr const*>(image());
    auto const* segments = reinterpret_cast<Elf64_Phdr const*>(image() + header->e_phoff);
    Elf64_Dyn const* dynamic = nullptr;
    for (int i = 0; i < header->e_phnum; i++)
      if (segments[i].p_type == PT_DYNAMIC) dynamic = reinterpret_cast<Elf64_Dyn const*>(image() + segments[i].p_vaddr);
    if (dynamic == nullptr) return nullptr;
    Elf64_Sym const* symbols = nullptr;
    char const* strings = nullptr;
    Elf64_Word const* hash = nullptr;
    Elf64_Half const* versions = nullptr;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
      auto* at = image() + dynamic->d_un.d_ptr;
      if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<Elf64_Sym const*>(at);
      if (dynamic->d_tag == DT_STRTAB) strings = reinterpret_cast<char const*>(at);
      if (dynamic->d_tag == DT_HASH) hash = reinterpret_cast<Elf64_Word const*>(at);
      if (dynamic->d_tag == DT_VERSYM) versions = reinterpret_cast<Elf64_Half const*>(at);
    }
    if (!symbols || !strings || !hash || !versions) return nullptr;
    for (Elf64_Word i = 0; i < hash[1]; i++) {
      if (strings + symbols[i].st_name != name) continue;
      if (versions[i] < 2) return nullptr;  // not in a named version
      return reinterpret_cast<F*>(image() + symbols[i].st_value);
    }
    return nullptr;
  }

 private:
  std::byte* base_ = nullptr;
  size_t size_ = 0;
  std::shared_ptr<vmm::TimePage> page_;
};

class TimePageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!vdso.page().valid()) GTEST_SKIP() << "this host does not use its counter as clock";
  }
  NativeVdso vdso;
};

TEST_F(TimePageTest, AgreesWithTheHostFromTheFirstMomentOn) {
  int64_t worst = 0;
  auto const end = std::chrono::steady_clock::now() + 700ms;  // over several updates
  while (std::chrono::steady_clock::now() < end) {
    for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME}) {
      int64_t value = 0;
      int64_t const before = host_now(clock);
      ASSERT_TRUE(vdso.page().read(clock, value));
      worst = std::max(worst, distance(before, value, host_now(clock)));
    }
    std::this_thread::sleep_for(100us);
  }
  EXPECT_LT(worst, kAllowedError);
  RecordProperty("worst_error_ns", std::to_string(worst));
  printf("worst error: %ld ns\n", worst);
}

TEST_F(TimePageTest, NeverRunsBackwardsAcrossThreadsAndUpdates) {
  constexpr int kReads = 1'000'000;
  std::atomic<int64_t> latest{0};
  std::atomic<int> backwards{0}, done{0};
  auto const reader = [&](bool guest) {
    for (int i = 0; i < kReads; i++) {
      int64_t const seen = latest.load();
      int64_t now = 0;
      // The guest reads its page, and asks the monitor when the writer has lost its CPU.
      if (!guest || vmsrs_time_read(vdso.guest_page(), CLOCK_MONOTONIC, &now) != 1) {
        if (!vdso.page().read(CLOCK_MONOTONIC, now)) backwards++;
      }
      if (now < seen) backwards++;
      int64_t old = seen;
      while (old < now && !latest.compare_exchange_weak(old, now)) {
      }
    }
    done++;
  };
  std::thread guest(reader, true), monitor(reader, false);
  int updates = 0;
  while (done.load() < 2) {
    vdso.page().update();
    updates++;
    std::this_thread::sleep_for(1500us);
  }
  guest.join();
  monitor.join();
  EXPECT_EQ(backwards.load(), 0);
  EXPECT_GT(updates, 5);
}

TEST_F(TimePageTest, EverySymbolAnswersAsTheHost) {
  auto const gettime = vdso.find<int(clockid_t, timespec*)>("clock_gettime");
  auto const getres = vdso.find<int(clockid_t, timespec*)>("__vdso_clock_getres");
  auto const timeofday = vdso.find<int(timeval*, void*)>("__vdso_gettimeofday");
  auto const seconds = vdso.find<time_t(time_t*)>("__vdso_time");
  auto const getcpu = vdso.find<int(unsigned*, unsigned*, void*)>("__vdso_getcpu");
  ASSERT_TRUE(gettime && getres && timeofday && seconds && getcpu);
  for (char const* name : {"clock_getres", "gettimeofday", "time", "getcpu", "__vdso_clock_gettime"})
    EXPECT_NE(vdso.find<void()>(name), nullptr) << name;

  // Clocks that the page does not serve are system calls.
  for (clockid_t clock : {CLOCK_MONOTONIC_RAW, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID, CLOCK_PROCESS_CPUTIME_ID}) {
    timespec t{};
    int64_t const before = host_now(clock);
    ASSERT_EQ(gettime(clock, &t), 0);
    EXPECT_EQ(distance(before, to_ns(t), host_now(clock)), 0) << clock;
  }
  timespec t{};
  EXPECT_EQ(gettime(99, &t), -EINVAL);
  EXPECT_EQ(getres(99, &t), -EINVAL);
  ASSERT_EQ(getres(CLOCK_MONOTONIC, &t), 0);
  EXPECT_EQ(to_ns(t), 1);
  EXPECT_EQ(getres(CLOCK_MONOTONIC, nullptr), 0);

  timeval day{};
  int64_t const before = host_now(CLOCK_REALTIME);
  ASSERT_EQ(timeofday(&day, nullptr), 0);
  int64_t const us = day.tv_sec * 1'000'000 + day.tv_usec;
  EXPECT_LE(distance(before / 1000, us, host_now(CLOCK_REALTIME) / 1000), 2);
  struct timezone zone {
    - 1, -1
  };
  ASSERT_EQ(timeofday(&day, &zone), 0);
  EXPECT_EQ(zone.tz_dsttime, 0);

  time_t stored = 0;
  time_t const value = seconds(&stored);
  EXPECT_EQ(stored, value);
  EXPECT_LE(std::abs(value - host_now(CLOCK_REALTIME) / vmm::kNsPerSecond), 1);
}

TEST_F(TimePageTest, CpuNumberIsTheHostsByCallAndByCounter) {
  auto const getcpu = vdso.find<int(unsigned*, unsigned*, void*)>("getcpu");
  ASSERT_NE(getcpu, nullptr);
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  for (bool from_aux : {false, true}) {
    vdso.page().set_cpu_from_aux(from_aux);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (!CPU_ISSET(cpu, &all)) continue;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
      unsigned got = ~0U, node = ~0U;
      ASSERT_EQ(getcpu(&got, &node, nullptr), 0);
      EXPECT_EQ(got, static_cast<unsigned>(cpu)) << from_aux;
    }
    sched_setaffinity(0, sizeof all, &all);
  }
}

// ---- the page alone, with figures made up ----

vmsrs_time_data made_up(uint64_t switch_tsc) {
  vmsrs_time_data page{};
  page.valid = 1;
  page.switch_tsc = switch_tsc;
  page.before = {1000, 5000, 1ULL << 31};  // half a ns a tick
  page.after = {switch_tsc, 5000 + static_cast<int64_t>(switch_tsc - 1000) / 2, 1ULL << 30};
  return page;
}

TEST(TimeData, LinesMeetAtTheSwitch) {
  vmsrs_time_data const page = made_up(9001);
  EXPECT_EQ(vmsrs_on_line(&page.before, 1000), 5000);
  EXPECT_EQ(vmsrs_on_line(&page.before, 999), 5000);  // a CPU whose counter lags
  EXPECT_EQ(vmsrs_on_line(&page.before, 9001), vmsrs_on_line(&page.after, 9001));
  EXPECT_EQ(vmsrs_on_line(&page.after, 9001 + 4000), 9000 + 1000);
  // A delta of 100 years does not overflow.
  EXPECT_EQ(vmsrs_on_line(&page.before, 1000 + (1ULL << 62)), 5000 + (1LL << 61));
}

TEST(TimeData, ReaderTakesTheLineThatHolds) {
  int64_t past = 0, future = 0;
  vmsrs_time_data page = made_up(2000);  // long ago
  page.after.mult = 0;
  ASSERT_EQ(vmsrs_time_read(&page, CLOCK_MONOTONIC, &past), 1);
  EXPECT_EQ(past, page.after.ns);
  page.switch_tsc = UINT64_MAX;
  page.before.mult = 0;
  ASSERT_EQ(vmsrs_time_read(&page, CLOCK_MONOTONIC, &future), 1);
  EXPECT_EQ(future, page.before.ns);
  page.realtime_offset = 7;
  page.boottime_offset = 70;
  ASSERT_EQ(vmsrs_time_read(&page, CLOCK_REALTIME_COARSE, &future), 1);
  EXPECT_EQ(future, page.before.ns + 7);
  ASSERT_EQ(vmsrs_time_read(&page, CLOCK_BOOTTIME, &future), 1);
  EXPECT_EQ(future, page.before.ns + 70);
}

TEST(TimeData, GivesUpOnAWriterThatWentAway) {
  vmsrs_time_data page = made_up(2000);
  int64_t ns = 0;
  page.seq = 1;
  EXPECT_EQ(vmsrs_time_read(&page, CLOCK_MONOTONIC, &ns), -1);
  EXPECT_EQ(vmsrs_time_read(&page, CLOCK_MONOTONIC_RAW, &ns), 0);
  page.seq = 2;
  EXPECT_EQ(vmsrs_time_read(&page, CLOCK_MONOTONIC, &ns), 1);
  page.valid = 0;
  EXPECT_EQ(vmsrs_time_read(&page, CLOCK_MONOTONIC, &ns), 0);
}

}  // namespace
