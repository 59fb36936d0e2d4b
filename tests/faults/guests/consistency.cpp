// consistency 1|1-locked|2|3|figures: the paper's consistency scenarios (5.1.3) and the sequence of its figures 4
// and 5.
#include <mutex>
#include <shared_mutex>

#include "tests/faults/guests/guest.hpp"

namespace {

using guest::Turns;

// Others read while the suppression begins: a reader that has seen one word of before sees no aborted value after it.
void scenario_1(bool locked) {
  constexpr unsigned kWords = 2048, kRounds = 10;
  uint64_t* const data = guest::words(kWords);
  for (unsigned i = 0; i < kWords; ++i) srs_store64(&data[i], 7500 + i);
  std::shared_mutex lock;
  for (unsigned round = 0; round < kRounds; ++round) {
    std::atomic<bool> over{false};
    std::vector<std::thread> readers;
    for (unsigned reader = 0; reader < 2; ++reader) {
      readers.emplace_back([&] {
        for (bool last = false; !last;) {
          last = over;  // one whole reading after the faulted user was told
          srs::request([&] {
            std::shared_lock const guard = locked ? std::shared_lock(lock) : std::shared_lock<std::shared_mutex>();
            // The faulty user writes upwards, so a reading downwards sees old words, then new ones; once a new one was
            // seen, an old one means that the abort has come, and from there on all are old.
            unsigned aborted = 0, changes = 0;
            bool was_old = true;
            for (unsigned i = kWords; i-- > 0;) {
              uint64_t const seen = srs_load64(&data[i]);
              bool const is_old = seen == 7500 + i;
              if (!is_old) CHECK_EQ(seen, 20000);
              aborted += is_old ? 0 : 1;
              changes += is_old != was_old ? 1 : 0;
              was_old = is_old;
            }
            CHECK(changes <= 2);
            if (last || locked) CHECK_EQ(aborted, 0);
          });
        }
      });
    }
    CHECK_EQ(srs::request([&] {
               std::unique_lock const guard(lock);
               for (unsigned i = 0; i < kWords; ++i) srs_store64(&data[i], 20000);
               guest::bad_store();
             }),
             SRS_FAULTED);
    over = true;
    for (auto& reader : readers) reader.join();
  }
}

// User 4 writes after user 0's fault; user 3, who comes after him, reads what he wrote, and old values elsewhere.
void scenario_2() {
  uint64_t* const salary = guest::words(5);
  uint64_t* const service = guest::words(5);
  uint64_t const first[5] = {7500, 9000, 12500, 11700, 10800};
  for (unsigned i = 0; i < 5; ++i) {
    srs_store64(&salary[i], first[i]);
    srs_store64(&service[i], 2 + i);
  }
  Turns turns;
  std::thread user_4([&] {
    turns.wait(1);
    srs::request([&] {
      srs_store64(&salary[0], 50000);
      srs_store64(&service[1], 9);
      srs_store64(&salary[2], 60000);
    });
    turns.done(1);
  });
  std::thread user_3([&] {
    turns.wait(2);
    srs::request([&] {
      uint64_t const salaries[5] = {50000, 9000, 60000, 11700, 10800};
      uint64_t const services[5] = {2, 9, 4, 5, 6};
      for (unsigned i = 0; i < 5; ++i) {
        CHECK_EQ(srs_load64(&salary[i]), salaries[i]);
        CHECK_EQ(srs_load64(&service[i]), services[i]);
      }
    });
  });
  CHECK_EQ(srs::request([&] {
             for (unsigned i = 0; i < 5; ++i) {
               srs_store64(&salary[i], 1);
               srs_store64(&service[i], 1);
             }
             guest::bad_store();
           }),
           SRS_FAULTED);
  turns.done(0);
  user_4.join();
  user_3.join();
}

// User 4 changes what user 0 had written, about when user 0 faults; user 3 looks at once. The new value stays.
void scenario_3() {
  uint64_t* const data = guest::words(64);
  for (unsigned round = 1; round <= 60; ++round) {
    for (unsigned i = 0; i < 64; ++i) srs_store64(&data[i], 100 * round);
    Turns turns;
    std::thread user_4([&] {
      turns.wait(1);
      usleep(round * 17 % 500);
      srs::request([&] { srs_store64(&data[5], 100 * round + 1); });
      turns.done(1);
    });
    std::thread user_3([&] {
      turns.wait(2);
      srs::request([&] { CHECK_EQ(srs_load64(&data[5]), 100 * round + 1); });
    });
    CHECK_EQ(srs::request([&] {
               for (unsigned i = 0; i < 64; ++i) srs_store64(&data[i], 3);
               turns.done(0);
               guest::bad_store();
             }),
             SRS_FAULTED);
    user_4.join();
    user_3.join();
    for (unsigned i = 0; i < 64; ++i) CHECK_EQ(data[i], i == 5 ? 100 * round + 1 : 100 * round);
  }
}

// Before the fault: P0's 10; P1 loads, P2 stores and loads, P1 stores, P3 stores. After it: P1 loads the value below
// P3's, P2 stores, and both load what P2 stored.
void figures() {
  uint64_t* const word = guest::words(1);
  srs_store64(word, 10);  // P0
  Turns turns;
  std::thread p1([&] {
    srs::request([&] { CHECK_EQ(srs_load64(word), 10); });
    turns.done(0);
    turns.wait(2);
    srs::request([&] {
      CHECK_EQ(srs_load64(word), 20);
      srs_store64(word, 11);
    });
    turns.done(2);
    turns.wait(5);
    srs::request([&] { CHECK_EQ(srs_load64(word), 11); });  // P3's 33 is gone
    turns.done(5);
    turns.wait(7);
    srs::request([&] { CHECK_EQ(srs_load64(word), 22); });
    turns.done(7);
  });
  std::thread p2([&] {
    turns.wait(1);
    srs::request([&] {
      srs_store64(word, 20);
      CHECK_EQ(srs_load64(word), 20);
    });
    turns.done(1);
    turns.wait(6);
    srs::request([&] { srs_store64(word, 22); });
    turns.done(6);
    turns.wait(8);
    srs::request([&] { CHECK_EQ(srs_load64(word), 22); });
    turns.done(8);
  });
  std::thread p3([&] {
    turns.wait(3);
    CHECK_EQ(srs::request([&] {
               CHECK_EQ(srs_load64(word), 11);
               srs_store64(word, 33);
               CHECK_EQ(srs_load64(word), 33);
               turns.done(3);
               guest::bad_store();
             }),
             SRS_FAULTED);
    turns.done(4);
  });
  p1.join();
  p2.join();
  p3.join();
  CHECK_EQ(*word, 22);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const which = argv[1];
  if (which == "1" || which == "1-locked") scenario_1(which == "1-locked");
  if (which == "2") scenario_2();
  if (which == "3") scenario_3();
  if (which == "figures") figures();
  return guest::end();
}
