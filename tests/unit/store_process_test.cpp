// links: srs_store_process
// The store as a process of its own: the same answers through the channel, and its end is noticed and named.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "runtime/store_client.hpp"
#include "tests/unit/store_guest.hpp"

namespace vmsrs::store::test {
namespace {

class StoreProcess : public testing::Test {
 protected:
  void SetUp() override {
    ProcessConfig c;
    c.parts.push_back({guest.fd(), guest.base(), Guest::size(), 0});
    c.tag_base = guest.config().tag_base;
    c.address_mask = guest.config().address_mask;
    auto started = StoreClient::start(c);
    ASSERT_TRUE(started) << started.error().message;
    client = std::move(*started);
    for (uint64_t i = 1; i < Guest::kSlots; ++i) ASSERT_TRUE(client->attach_slot(guest.slot_config(i)));
  }
  uint64_t* word(size_t i) { return guest.words() + i; }

  Guest guest;
  std::unique_ptr<StoreClient> client;
};

TEST_F(StoreProcess, AbortsAcrossTheChannelWithAnswersOfAnyLength) {
  guest.begin(1);
  guest.note(1, SRS_REC_LOCK, 0x100, SRS_LOCK_MUTEX);
  for (unsigned i = 0; i < 2000; ++i) guest.note(1, SRS_REC_ALLOC, 0x1000 + 64 * i, 64);  // 6,000 words of answer
  for (size_t page = 0; page < 100; ++page) guest.store(1, word(512 * page), 1);
  auto const pages = client->pages_of(guest.slot(1).owner);
  ASSERT_TRUE(pages);
  EXPECT_EQ(pages->size(), 100u);
  auto const r = client->abort(guest.slot(1).owner, Restore::demand);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->outer, srs_owner(1, 0));
  EXPECT_EQ(r->pages, *pages);
  ASSERT_EQ(r->actions.size(), 2001u);
  EXPECT_EQ(r->actions[0].arg, 0x1000u + 64 * 1999);
  EXPECT_EQ(r->actions.back().kind, SRS_ACT_UNLOCK);
  auto const back = client->restore_page(pages->front(), Reason::trap);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->restored, 1u);
  EXPECT_EQ(*word(0), 0u);
  EXPECT_EQ(*word(512), 1u);
  auto const swept = client->sweep();
  ASSERT_TRUE(swept);
  EXPECT_EQ(swept->size(), 99u);
  EXPECT_EQ(*word(512), 0u);
  auto const stats = client->stats();
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->aborts, 1u);
  EXPECT_EQ(stats->by_sweep, 99u);
  EXPECT_EQ(stats->by_trap, 1u);
}

// Once a thread had to ask for a drain, rings that fill again are emptied before it must ask anew.
TEST_F(StoreProcess, ARingThatFillsIsDrainedUnasked) {
  auto const fill = [&] {
    uint64_t const outer = guest.begin(1);
    for (uint64_t i = 0; i < guest.slot(1).ring_records / 2; ++i) guest.store(1, word(i), i);
    guest.commit(1, outer);
  };
  auto const waiting = [&] { return guest.slot(1).head - __atomic_load_n(&guest.slot(1).tail, __ATOMIC_ACQUIRE); };
  fill();
  usleep(20000);
  EXPECT_GT(waiting(), 0u) << "nobody asked yet: the process sleeps";
  ASSERT_TRUE(client->drain(1));
  // A look in the middle of a fill leaves what came after it, as long as that is little.
  uint64_t const quarter = guest.slot(1).ring_records / 4;
  int asleep = 0;
  for (int round = 0; round < 20; ++round) {
    fill();
    for (int ms = 0; ms < 500 && waiting() >= quarter; ++ms) usleep(1000);
    if (waiting() < quarter) continue;
    ++asleep;  // this process was kept from running for so long that nothing filled
    ASSERT_TRUE(client->drain(1));
  }
  EXPECT_LT(asleep, 5);
  usleep(100000);  // nothing fills any more: it sleeps again, also beside a ring that is not quite empty
  fill();
  usleep(20000);
  EXPECT_GT(waiting(), 0u);
}

TEST_F(StoreProcess, StrictModeStoresForTheGuest) {
  ASSERT_TRUE(client->note(1, {srs_what(SRS_REC_BEGIN, 0, 0), 0, 0, 0}));
  ASSERT_TRUE(client->store_word(1, address(word(3)), 0xff, 42));
  EXPECT_EQ(client->fetch_op(1, address(word(3)), SRS_OP_ADD, 1, 8, 0).value(), 42u);
  EXPECT_EQ(*word(3), 43u);
  EXPECT_EQ(client->live_scopes().value(), std::vector<Owner>{srs_owner(1, 1)});
  ASSERT_TRUE(client->range_begin(1, address(word(8)), 64));
  std::memset(word(8), 1, 64);
  ASSERT_TRUE(client->range_done(1, 64));
  ASSERT_TRUE(client->abort(srs_owner(1, 1), Restore::eager));
  EXPECT_EQ(*word(3), 0u);
  EXPECT_EQ(*word(8), 0u);
  ASSERT_TRUE(client->note(2, {srs_what(SRS_REC_FREE, 0, 0x40), 8, 0, 0}));
  auto const freed = client->take_freed();
  ASSERT_TRUE(freed);
  ASSERT_EQ(freed->size(), 1u);
  EXPECT_EQ(freed->front().address, 0x40u);
}

TEST_F(StoreProcess, ErrorsKeepTheirCodeAndTheirWords) {
  auto const r = client->abort(srs_owner(5, 99), Restore::eager);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::no_such_scope);
  EXPECT_NE(r.error().message.find("is not live"), std::string::npos);
  EXPECT_EQ(client->store_word(1, 0x1000, 0xff, 1).error().code, Code::bad_address);
  EXPECT_TRUE(client->alive());
}

TEST_F(StoreProcess, GuestsWordAboutItsRingIsNotAskedAgain) {
  guest.slot(1).ring_records = 1 << 20;
  guest.slot(1).key = 1;
  uint64_t const ring = guest.slot(1).ring;
  guest.slot(1).ring = 0x1000;
  ASSERT_TRUE(client->drain_all());
  guest.slot(1).ring_records = Guest::kRing;
  guest.slot(1).ring = ring;
  guest.slot(1).key = 0x1234567;
  guest.begin(1);
  guest.store(1, word(0), 1);
  guest.slot(1).ring = 0x1000;
  ASSERT_TRUE(client->abort(srs_owner(1, 1), Restore::eager));
  EXPECT_EQ(*word(0), 0u);
}

TEST_F(StoreProcess, ThreadsOfTheMonitorShareIt) {
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 50; ++i) {
        if (!client->note(t, {srs_what(SRS_REC_BEGIN, 0, 0), 0, 0, 0})) return;
        EXPECT_TRUE(client->store_word(t, address(word(t)), 0xff, i + 1));
        if (i % 2 == 0) {
          EXPECT_TRUE(client->note(t, {srs_what(SRS_REC_COMMIT, 0, 0), 0, 0, 0}));
        } else {
          EXPECT_TRUE(client->abort(guest.slot(t).owner, Restore::eager));
          guest.slot(t).owner = srs_owner(t, 0);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (uint64_t t = 1; t <= 4; ++t) EXPECT_EQ(*word(t), 49u);
}

TEST_F(StoreProcess, ItsDeathIsNoticedAndNamed) {
  kill(client->pid(), SIGKILL);
  auto const r = client->ping();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::gone);
  EXPECT_NE(r.error().message.find("signal 9"), std::string::npos) << r.error().message;
  EXPECT_FALSE(client->alive());
  EXPECT_EQ(client->drain_all().error().code, Code::gone);
}

TEST_F(StoreProcess, ItHoldsNoDescriptorButItsSocket) {
  // Not dumpable: only root may look, and what root sees is four descriptors: three streams and the channel.
  std::string const path = "/proc/" + std::to_string(client->pid()) + "/fd";
  unsigned seen = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    char target[256];
    if (readlink((path + "/" + std::to_string(fd)).c_str(), target, sizeof target) >= 0) ++seen;
  }
  EXPECT_LE(seen, 4u);
  if (geteuid() == 0) {
    EXPECT_EQ(seen, 4u);
  }
}

TEST_F(StoreProcess, EndsWithItsClient) {
  pid_t const pid = client->pid();
  client.reset();
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), -1) << "waited for already";
  EXPECT_NE(kill(pid, 0), 0);
}

TEST(StoreProcessStart, SaysWhichPartItCannotMap) {
  ProcessConfig c;
  int const fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  c.parts.push_back({fd, 0x10000, 4096, 0});
  auto const started = StoreClient::start(c);
  close(fd);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Code::bad_address);
  EXPECT_NE(started.error().message.find("mmap"), std::string::npos) << started.error().message;
}

TEST(StoreProcessStart, DiesWithTheMonitor) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  pid_t const monitor = fork();
  if (monitor == 0) {
    Guest guest;
    ProcessConfig c;
    c.parts.push_back({guest.fd(), guest.base(), Guest::size(), 0});
    auto started = StoreClient::start(c);
    pid_t const pid = started ? (*started)->pid() : -1;
    (void)!write(ends[1], &pid, sizeof pid);
    raise(SIGKILL);
  }
  pid_t store = -1;
  ASSERT_EQ(read(ends[0], &store, sizeof store), static_cast<ssize_t>(sizeof store));
  ASSERT_GT(store, 0);
  waitpid(monitor, nullptr, 0);
  bool gone = false;
  for (int i = 0; i < 500 && !gone; ++i) {
    // A zombie that nobody has reaped yet has ended, too.
    char state = 'Z';
    if (FILE* f = std::fopen(("/proc/" + std::to_string(store) + "/stat").c_str(), "r")) {
      if (std::fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
      std::fclose(f);
    }
    gone = state == 'Z' || kill(store, 0) != 0;
    if (!gone) usleep(10000);
  }
  EXPECT_TRUE(gone);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace vmsrs::store::test
