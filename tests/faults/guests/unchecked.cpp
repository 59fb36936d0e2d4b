// unchecked DIRECTORY: a scope that writes to the monitor's memory and looks through it for the scope's recovery data,
// under a monitor that believes every pointer; then its fault. The test leaves the addresses in DIRECTORY/places, one
// line each, once DIRECTORY/ready is there: what A (a harmless writable place of the monitor's), look A B (memory of
// the monitor's), store A B (the store process's, not the monitor's).
#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <ctime>
#include <fstream>
#include <random>

#include "tests/faults/guests/guest.hpp"

namespace {

constexpr unsigned kWords = 20000;  // the store's heap outgrows what it inherited
constexpr uint64_t kPage = 4096;
// Inverted, so that the value itself lies nowhere but in the words and in their log.
uint64_t const volatile not_secret = ~UINT64_C(0x5ec2e7da7a150000);

struct Range {
  uint64_t from, to;
};

struct Places {
  uint64_t harmless = 0;
  std::vector<Range> look, store;
};

Places ask_test(std::string const& directory) {
  std::ofstream(directory + "/ready") << "ready\n";
  while (access((directory + "/places").c_str(), R_OK) != 0) usleep(1000);
  Places places;
  std::ifstream in(directory + "/places");
  std::string what;
  while (in >> what) {
    Range r{};
    in >> std::hex >> r.from;
    if (what == "what") {
      places.harmless = r.from;
      continue;
    }
    in >> r.to;
    (what == "look" ? places.look : places.store).push_back(r);
  }
  return places;
}

struct Attack {
  int pipe[2], pair[2], zero;
  unsigned pages = 0, found = 0, went_through = 0;

  Attack() : zero(open("/dev/zero", O_RDONLY)) {
    if (::pipe(pipe) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) abort();
  }

  // Eight bytes there by one of several calls; whether it says that they are.
  bool write_to(uint64_t where, unsigned how) {
    static char const garbage[8] = {'\x66', '\x66', '\x66', '\x66', '\x66', '\x66', '\x66', '\x66'};
    auto* const at = reinterpret_cast<void*>(where);
    switch (how % 5) {
      case 0:
        return ::write(pipe[1], garbage, 8) == 8 && (::read(pipe[0], at, 8) == 8 || drain(pipe[0]));
      case 1: {
        iovec const part{at, 8};
        return preadv(zero, &part, 1, 0) == 8;
      }
      case 2:
        return send(pair[0], garbage, 8, 0) == 8 && (recv(pair[1], at, 8, 0) == 8 || drain(pair[1]));
      case 3:
        return getrandom(at, 8, 0) == 8;
      default:
        // The store, asked to do it, goes by its own table of the guest's memory.
        return syscall(SRS_HC_STORE, where & ~UINT64_C(7), 0x6666666666666666, 0xff) == 0;
    }
  }
  static bool drain(int fd) {
    char rest[8];
    (void)!::read(fd, rest, sizeof rest);
    return false;
  }

  void look_at(uint64_t page, uint64_t* copy) {
    if (::write(pipe[1], reinterpret_cast<void*>(page), kPage) != static_cast<ssize_t>(kPage)) return;
    ssize_t got = 0;
    while (got < static_cast<ssize_t>(kPage)) {
      ssize_t const n = ::read(pipe[0], reinterpret_cast<char*>(copy) + got, kPage - static_cast<size_t>(got));
      if (n <= 0) return;
      got += n;
    }
    ++pages;
    for (unsigned i = 0; i < kPage / 8; ++i) {
      if ((~copy[i] ^ not_secret) >> 16 != 0) continue;
      ++found;
      for (unsigned how = 0; how < 4; ++how) write_to(page + i * 8, how);
    }
    memset(copy, 0, kPage);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  uint64_t* const data = guest::words(kWords);
  for (unsigned i = 0; i < kWords; ++i) srs_store64(&data[i], ~not_secret + i);
  static uint64_t copy[kPage / 8];
  Attack attack;
  CHECK_EQ(srs::request([&] {
             for (unsigned i = 0; i < kWords; ++i) srs_store64(&data[i], 1);
             syscall(SRS_HC_DRAIN);
             Places const places = ask_test(argv[1]);
             CHECK(attack.write_to(places.harmless, 0));  // the check is off
             for (Range const& r : places.look) {
               for (uint64_t page = r.from; page < r.to; page += kPage) attack.look_at(page, copy);
             }
             std::mt19937_64 random(1);
             for (Range const& r : places.store) {
               for (unsigned n = 0; n < 200; ++n) {
                 attack.went_through += attack.write_to(r.from + random() % (r.to - r.from - 8), n) ? 1 : 0;
               }
             }
             for (unsigned n = 0; n < 2000; ++n)
               attack.write_to((random() | UINT64_C(1) << 46) % (UINT64_C(1) << 47), 4);
             dprintf(1, "%u pages, %u places, %zu ranges, %u went through\n", attack.pages, attack.found,
                     places.store.size(), attack.went_through);
             guest::bad_store();
           }),
           SRS_FAULTED);
  for (unsigned i = 0; i < kWords; ++i) CHECK_EQ(data[i], ~not_secret + i);
  return guest::end();
}
