// journal nested|heap|locks|fds|read|unwind: what else a scope did is undone too.
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <set>

#include "tests/faults/guests/guest.hpp"

namespace {

void nested() {
  uint64_t* const data = guest::words(8);
  // The inner one aborts alone; the outer one commits.
  CHECK_EQ(srs::request([&] {
             srs_store64(&data[0], 1);
             CHECK_EQ(srs::request([&] {
                        srs_store64(&data[0], 2);
                        srs_store64(&data[1], 2);
                        guest::bad_store();
                      }),
                      SRS_FAULTED);
             CHECK_EQ(data[0], 1);
             CHECK_EQ(data[1], 0);
             srs_store64(&data[2], 3);
           }),
           SRS_OK);
  CHECK_EQ(data[0], 1);
  CHECK_EQ(data[2], 3);
  // The inner one commits, the outer one aborts: both are undone.
  CHECK_EQ(srs::request([&] {
             srs_store64(&data[0], 4);
             CHECK_EQ(srs::request([&] {
                        srs_store64(&data[0], 5);
                        srs_store64(&data[1], 5);
                      }),
                      SRS_OK);
             srs_store64(&data[1], 6);
             guest::bad_store();
           }),
           SRS_FAULTED);
  CHECK_EQ(data[0], 1);
  CHECK_EQ(data[1], 0);
  CHECK_EQ(data[2], 3);
  // To the deepest level.
  std::vector<int> levels(SRS_MAX_DEPTH + 1, -1);
  auto const descend = [&](auto const& self, unsigned depth) -> void {
    if (depth == SRS_MAX_DEPTH) {
      levels[depth] = srs::request([] {});
      guest::bad_store();
    }
    srs_store64(&data[3], depth + 1);
    levels[depth] = srs::request([&] { self(self, depth + 1); });
    CHECK_EQ(data[3], SRS_MAX_DEPTH);  // the inner ones committed, all but the deepest
  };
  descend(descend, 0);
  CHECK_EQ(levels[SRS_MAX_DEPTH], SRS_REFUSED);
  CHECK_EQ(levels[SRS_MAX_DEPTH - 1], SRS_FAULTED);
  CHECK_EQ(levels[0], SRS_OK);
}

void heap() {
  uint64_t* const kept = static_cast<uint64_t*>(srs_malloc(256));
  for (unsigned i = 0; i < 32; ++i) srs_store64(&kept[i], 50 + i);
  std::set<uint64_t> places;  // pages; few, if aborted scopes give their blocks back
  for (unsigned round = 0; round < 40; ++round) {
    void* fresh = nullptr;
    CHECK_EQ(srs::request([&] {
               auto* const grown = static_cast<uint64_t*>(srs_realloc(kept, 4096));
               CHECK(grown != kept && grown[31] == 81);
               srs_store64(&grown[0], 1);
               fresh = srs_malloc(1 << 20);
               CHECK(fresh != nullptr);
               srs_store64(fresh, 1);
               guest::bad_store();
             }),
             SRS_FAULTED);
    places.insert(reinterpret_cast<uint64_t>(fresh) / 4096);
    CHECK_EQ(kept[0], 50);  // the free within srs_realloc never took effect
    CHECK_EQ(kept[31], 81);
  }
  CHECK(places.size() <= 5);
  // A block that a live scope could still write to by its undo is not given out again.
  guest::Turns turns;
  auto* const shared = static_cast<uint64_t*>(srs_calloc(1, 64));
  std::thread writer([&] {
    CHECK_EQ(srs::request([&] {
               srs_store64(shared, 5);
               turns.done(0);
               turns.wait(2);
               guest::bad_store();
             }),
             SRS_FAULTED);
  });
  turns.wait(1);
  srs::request([&] { srs_free(shared); });
  std::vector<uint64_t*> others;
  for (unsigned i = 0; i < 500; ++i) {
    others.push_back(static_cast<uint64_t*>(srs_malloc(64)));
    CHECK(others.back() != shared);
    srs_store64(others.back(), 9000 + i);
  }
  turns.done(1);
  writer.join();
  for (unsigned i = 0; i < 500; ++i) CHECK_EQ(*others[i], 9000 + i);
  for (uint64_t* other : others) srs_free(other);
  srs_free(kept);
}

void locks() {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, put_off = PTHREAD_MUTEX_INITIALIZER;
  static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
  uint64_t* const data = guest::words(2);
  guest::Turns turns;
  std::thread other([&] {
    turns.wait(1);
    CHECK_EQ(pthread_mutex_trylock(&mutex), EBUSY);
    CHECK_EQ(pthread_mutex_trylock(&put_off), EBUSY);  // `hold`: unlocked by the scope, but written under it
    turns.done(1);
    CHECK_EQ(pthread_mutex_lock(&mutex), 0);  // comes back by the abort
    CHECK_EQ(pthread_rwlock_wrlock(&rw), 0);
    CHECK_EQ(pthread_mutex_lock(&put_off), 0);
    CHECK_EQ(data[0], 0);
    CHECK_EQ(data[1], 0);
    pthread_mutex_unlock(&put_off);
    pthread_rwlock_unlock(&rw);
    pthread_mutex_unlock(&mutex);
  });
  CHECK_EQ(srs::request(
               [&] {
                 pthread_mutex_lock(&put_off);
                 srs_store64(&data[1], 1);
                 pthread_mutex_unlock(&put_off);
                 pthread_mutex_lock(&mutex);
                 pthread_rwlock_rdlock(&rw);
                 srs_store64(&data[0], 1);
                 turns.done(0);
                 turns.wait(2);
                 guest::bad_store();
               },
               {.isolation = SRS_HOLD}),
           SRS_FAULTED);
  other.join();
}

void fds() {
  int const before = dup(0);
  close(before);
  for (unsigned round = 0; round < 50; ++round) {
    CHECK_EQ(srs::request([&] {
               int ends[2];
               CHECK_EQ(pipe(ends), 0);
               CHECK(open("/dev/null", O_RDONLY) >= 0);
               CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
               int const closed = open("/dev/null", O_RDONLY);
               close(closed);
               guest::bad_store();
             }),
             SRS_FAULTED);
  }
  int const after = dup(0);
  CHECK_EQ(after, before);  // the lowest free one is what it was
  close(after);
  int kept = -1;
  CHECK_EQ(srs::request([&] { kept = open("/dev/null", O_RDONLY); }), SRS_OK);
  CHECK_EQ(srs::request([] { guest::bad_store(); }), SRS_FAULTED);
  CHECK(fcntl(kept, F_GETFD) >= 0);  // a committed scope's fd is the program's
}

void reads() {
  uint64_t* const data = guest::words(512);  // srs_malloc'ed
  static uint64_t profiled[512] __attribute__((aligned(4096)));
  CHECK_EQ(srs_profile(profiled, sizeof profiled, "profiled"), 0);
  for (uint64_t* to : {data, &profiled[0]}) {
    for (unsigned i = 0; i < 512; ++i) srs_store64(&to[i], i);
    for (int const way : {0, 1, 2}) {
      int ends[2];
      CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
      std::string const text(1003, 'x');
      CHECK_EQ(write(ends[1], text.data(), text.size()), text.size());
      auto const status = srs::request([&] {
        auto* const at = reinterpret_cast<char*>(to) + 5;
        iovec const parts[2] = {{at, 100}, {at + 200, 3000}};
        ssize_t const n = way == 0   ? read(ends[0], at, 4000)
                          : way == 1 ? recv(ends[0], at, 4000, 0)
                                     : readv(ends[0], parts, 2);
        CHECK_EQ(n, 1003);
        CHECK(memchr(at, 'x', 10) == at);
        guest::bad_store();
      });
      CHECK_EQ(status, SRS_FAULTED);
      for (unsigned i = 0; i < 512; ++i) CHECK_EQ(to[i], i);
      close(ends[0]);
      close(ends[1]);
    }
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], "abcdefgh", 8), 8);
    CHECK_EQ(srs::request([&] { CHECK_EQ(read(ends[0], &to[1], 4000), 8); }), SRS_OK);
    CHECK(memcmp(&to[1], "abcdefgh", 8) == 0 && to[2] == 2);  // committed: it stays
    close(ends[0]);
    close(ends[1]);
  }
}

struct Witness {
  explicit Witness(std::vector<int>& to, int name) : to_(to), name_(name) {}
  ~Witness() { to_.push_back(name_); }
  std::vector<int>& to_;
  int name_;
};

// Called by pointers: for an access of its own, or a call that cannot throw, the compiler notes no destructors.
__attribute__((noinline)) void deeper(std::vector<int>& seen, int how) {
  void (*const ways[])() = {guest::bad_store, abort, [] { srs_crash_suppression_os(SRS_FAULT_REPORTED); }};
  void (*volatile way)() = ways[how];
  Witness const two(seen, 2);
  way();
}

void unwind() {
  uint64_t* const data = guest::words(1);
  for (int how = 0; how < 3; ++how) {
    std::vector<int> seen;
    CHECK_EQ(srs::request(
                 [&] {
                   Witness const one(seen, 1);
                   srs_store64(data, 4);
                   deeper(seen, how);
                 },
                 {.policy = SRS_UNWIND}),
             SRS_FAULTED);
    CHECK_EQ(data[0], 0);
    CHECK(seen == (std::vector<int>{2, 1}));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const what = argv[1];
  if (what == "nested") nested();
  if (what == "heap") heap();
  if (what == "locks") locks();
  if (what == "fds") fds();
  if (what == "read") reads();
  if (what == "unwind") unwind();
  return guest::end();
}
