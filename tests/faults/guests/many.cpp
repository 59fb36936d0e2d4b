// many land|unwind: 200 threads at once, 20 of which fault in each of their requests.
#include "tests/faults/guests/guest.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  int const policy = std::string(argv[1]) == "unwind" ? SRS_UNWIND : SRS_LAND;
  constexpr unsigned kThreads = 200, kRounds = 5;
  uint64_t* const total = guest::words(1);
  uint64_t* const own = guest::words(kThreads * 8);
  std::atomic<unsigned> faulted{0}, destroyed{0}, arrived{0};
  void (*volatile fault)() = guest::bad_store;  // by a pointer: else the compiler sees that it cannot throw
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < kThreads; ++id) {
    threads.emplace_back([&, id] {
      arrived += 1;
      while (arrived < kThreads) usleep(1000);
      bool const faulty = id % 10 == 3;
      for (unsigned round = 0; round < kRounds; ++round) {
        auto const status = srs::request(
            [&] {
              struct Count {
                std::atomic<unsigned>& n;
                ~Count() { n += 1; }
              } const count{destroyed};
              srs_fetch_add64(total, 1);
              for (unsigned i = 0; i < 8; ++i) srs_store64(&own[id * 8 + i], round + 1);
              if (faulty) fault();
            },
            {.policy = policy, .user = id});
        CHECK_EQ(status, faulty ? SRS_FAULTED : SRS_OK);
        faulted += status == SRS_FAULTED ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_EQ(faulted, 20 * kRounds);
  CHECK_EQ(*total, 180 * kRounds);
  CHECK_EQ(destroyed, policy == SRS_UNWIND ? 200 * kRounds : 180 * kRounds);
  for (unsigned i = 0; i < kThreads * 8; ++i) CHECK_EQ(own[i], i / 8 % 10 == 3 ? 0 : kRounds);
  return guest::end();
}
