// pages ROUNDS: scopes that store to 48 pages each and fault; their words are read in one loop, while the monitor's own
// sweep puts pages back as well.
#include "tests/faults/guests/guest.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  constexpr unsigned kPages = 48;
  uint64_t* const data = guest::words(512 * kPages);
  for (unsigned i = 0; i < kPages; ++i) srs_store64(&data[i * 512UL], 100 + i);
  for (int round = std::stoi(argv[1]); round > 0; --round) {
    auto const status = srs::request([&] {
      for (unsigned i = 0; i < kPages; ++i) srs_store64(&data[i * 512UL], 1);
      guest::bad_store();
    });
    CHECK_EQ(status, SRS_FAULTED);
    uint64_t wrong = 0;
    for (unsigned i = 0; i < kPages; ++i) wrong += srs_load64(&data[i * 512UL]) != 100 + i;
    CHECK_EQ(wrong, 0);
  }
  return guest::end();
}
