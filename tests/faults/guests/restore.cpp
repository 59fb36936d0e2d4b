// restore trap|overwrite|sweep|several: how the words of an aborted scope come back.
#include "tests/faults/guests/guest.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const how = argv[1];
  uint64_t* const data = guest::words(512 * 3);
  for (unsigned i = 0; i < 512 * 3; ++i) srs_store64(&data[i], 100 + i);
  guest::Turns turns;
  std::thread healthy([&] {
    turns.wait(1);
    auto const status = srs::request([&] {
      if (how == "trap") {
        CHECK_EQ(srs_load64(&data[0]), 100);  // the trap is here
        CHECK_EQ(srs_load64(&data[1]), 101);
      }
      if (how == "overwrite") {
        srs_store64(&data[0], 7);
        CHECK_EQ(data[0], 7);
      }
      if (how == "several") {
        srs_store64(&data[0], 8);                     // by overwriting, and its page with it
        CHECK_EQ(srs_load64(&data[512]), 100 + 512);  // by trap
      }                                               // the third page: by sweep
    });
    CHECK_EQ(status, SRS_OK);
    turns.done(1);
  });
  auto const status = srs::request([&] {
    srs_store64(&data[0], 1);
    srs_store64(&data[1], 1);
    if (how == "several") {
      srs_store64(&data[512], 1);
      srs_store64(&data[1024], 1);
    }
    guest::bad_store();
  });
  CHECK_EQ(status, SRS_FAULTED);
  if (how == "sweep") usleep(300000);  // several times --sweep-after of the test: nobody touches the page
  turns.done(0);
  turns.wait(2);
  healthy.join();
  if (how == "several") usleep(300000);
  CHECK_EQ(data[0], how == "overwrite" ? 7 : how == "several" ? 8 : 100);
  CHECK_EQ(data[1], 101);
  CHECK_EQ(data[512], 100 + 512);
  CHECK_EQ(data[1024], 100 + 1024);
  return guest::end();
}
