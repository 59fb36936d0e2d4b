// isolation ring|slot|tags|calls|half|undrained|undrained-report|undrained-hang: the paper's isolation experiment
// (5.1.2). Before its fault a scope overwrites what it can reach: what the host has taken by then is restored exactly,
// what it had not is reported as damaged (half); and where even the scope's beginning is lost, no thread goes on.
#include <fcntl.h>

#include <cerrno>
#include <csignal>

#include "tests/faults/guests/guest.hpp"

namespace {

constexpr unsigned kDrained = 1000;

void overwrite(std::string const& what, uint64_t const* data) {
  srs_slot* const slot = srs_thread_.slot;
  auto* const ring = reinterpret_cast<volatile unsigned char*>(slot->ring);
  size_t const size = slot->ring_records * sizeof(srs_record);
  if (what == "half") {
    for (uint64_t n = 1; n <= kDrained / 2; ++n) {
      memset(reinterpret_cast<srs_record*>(slot->ring) + ((slot->head - n) & (slot->ring_records - 1)), 0xa5,
             sizeof(srs_record));
    }
  }
  if (what == "ring" || what.starts_with("undrained")) {
    for (size_t i = 0; i < size; ++i) ring[i] = static_cast<unsigned char>(0xa5 + i);
  }
  if (what == "slot") memset(slot->guest_private, 0xff, 64);
  if (what == "tags") {
    for (unsigned i = 0; i < kDrained; ++i) {
      *reinterpret_cast<uint64_t volatile*>(
          srs_process_.tag_base + (reinterpret_cast<uint64_t>(&data[i]) & srs_process_.tag_mask)) = i * 0x1234567;
    }
  }
  if (what == "calls") {
    int const zero = open("/dev/zero", O_RDONLY);
    for (unsigned bit = 12; bit < 64; ++bit) {
      // Where the host's own memory could be; never an address of the guest's.
      uint64_t const at = (uint64_t{1} << bit) | 0x7000;
      CHECK(read(zero, reinterpret_cast<void*>(at), 4096) <= 0);
    }
    uint64_t const host[] = {0x7fff00000000, 0x7f0000000000, 0x555555554000, ~uint64_t{4095}, 0xffff800000000000};
    for (uint64_t at : host) CHECK(read(zero, reinterpret_cast<void*>(at), 1 << 20) <= 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const what = argv[1];
  bool const taken = what != "half" && !what.starts_with("undrained");
  // A guest that would go on by itself.
  if (!taken) signal(SIGSEGV, [](int) { _exit(0); });
  srs::options options;
  if (what == "undrained-hang") options.deadline_ms = 300;
  uint64_t* const data = guest::words(kDrained);
  for (unsigned i = 0; i < kDrained; ++i) srs_store64(&data[i], 500 + i);
  uint64_t* const neighbour = guest::words(1);
  std::atomic<bool> over{false};
  std::thread other([&] {
    for (uint64_t n = 1; !over; ++n) {
      CHECK_EQ(srs::request([&] { srs_store64(neighbour, n); }), SRS_OK);
      CHECK_EQ(*neighbour, n);
    }
  });
  CHECK_EQ(srs::request(
               [&] {
                 for (unsigned i = 0; i < kDrained; ++i) srs_store64(&data[i], 1);
                 if (taken) syscall(SRS_HC_DRAIN);  // as a full ring does
                 overwrite(what, data);
                 if (what == "undrained-report") srs_crash_suppression_os(SRS_FAULT_REPORTED);
                 while (what == "undrained-hang") usleep(1000);
                 guest::bad_store();
               },
               options),
           SRS_FAULTED);
  unsigned right = 0;
  for (unsigned i = 0; i < kDrained; ++i) {
    CHECK(data[i] == 500 + i || data[i] == 1);
    right += data[i] == 500 + i ? 1 : 0;
  }
  CHECK_EQ(right, what == "half" ? kDrained / 2 : kDrained);
  over = true;
  other.join();
  return guest::end();
}
