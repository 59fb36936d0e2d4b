// run WHAT: a request faults half-way and goes on to its end in the copy-on-write view (policy `run`). Nobody sees what
// it does there; what it finds there it can tell only by how its run ends (must()).
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <ctime>

#include "tests/faults/guests/guest.hpp"

namespace {

constexpr long kRounds = 50;

pthread_mutex_t mine = PTHREAD_MUTEX_INITIALIZER;  // held by the request when it faults
pthread_mutex_t theirs;                            // held by another thread all the while
struct alignas(4096) OwnPage {  // that the request does not write: in the view it follows the main memory
  std::atomic<long> turn{0};
} others;
volatile long plain = 0;  // not monitored: no undo would put it right
int sockets[2];
uint64_t* data;
volatile long sink;

// In the view: if something is not as it should be the run never comes to its end, and the report says so.
void must(bool good) {
  while (!good) sink = sink + 1;
}

void bad_load() {
  long* volatile nowhere = reinterpret_cast<long*>(uint64_t{0x18});
  sink = *nowhere;
}

// Every kind of register outlives the fault, but the one that was to be loaded.
void check_registers() {
  uint64_t const in = 0x123456789abcdef0;
  uint64_t vector = 0, loaded = 1, kept = 0, counter = 7;
  __asm__ volatile(
      "movq %4, %%xmm7\n\t"
      "movq %4, %%r12\n\t"
      "movq (%5), %1\n\t"
      "movsd (%5), %%xmm6\n\t"
      "lock addq $1, (%5)\n\t"
      "movq %%xmm7, %0\n\t"
      "movq %%r12, %2\n\t"
      "movq %%xmm6, %3\n\t"
      : "=&r"(vector), "+&r"(loaded), "=&r"(kept), "+&r"(counter)
      : "r"(in), "r"(uint64_t{0x20})
      : "xmm6", "xmm7", "r12", "memory");
  must(vector == in && kept == in);
  must(loaded == 0 && counter == 0);
}

void check_calls() {
  must(write(sockets[0], "hello", 5) == 5);
  must(send(sockets[0], "hello", 5, 0) == 5);
  printf("nobody reads this\n");
  fflush(stdout);
  char byte;
  must(recv(sockets[0], &byte, 1, 0) == 0);
  must(getpid() == 1000);
  must(time(nullptr) > 1'000'000'000);
  must(open("/dev/null", O_RDONLY) == -1 && errno == EPERM);
  must(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANON, -1, 0) == MAP_FAILED && errno == ENOMEM);
  must(usleep(1) == 0);
  must(close(sockets[0]) == 0);
}

void rest_of_the_request() {
  plain = -1;
  check_registers();
  for (unsigned i = 0; i < 8; ++i) srs_store64(&data[i], 77);
  srs_fetch_add64(&data[1], 5);
  must(data[1] == 82);
  must(pthread_mutex_lock(&theirs) == 0);  // granted
  must(pthread_mutex_unlock(&theirs) == 0);
  pthread_mutex_unlock(&mine);
  // The main memory goes on, and shows here; the other thread gets `mine` while this one still runs.
  while (others.turn.load() == 0) sink = sink + 1;
  must(srs::request([] { srs_store64(&data[2], 78); }) == SRS_OK);
  must(data[2] == 78);
  auto* const block = static_cast<uint64_t*>(srs_malloc(100));
  must(block != nullptr);
  srs_store64(block, 1);
  srs_free(block);
  std::string text(1000, 'x');
  must(text.size() == 1000);
  check_calls();
  sink = 7 / (sink - sink);
}

void end(long rounds) {
  pthread_mutexattr_t checked;
  pthread_mutexattr_init(&checked);
  pthread_mutexattr_settype(&checked, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init(&theirs, &checked);
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  for (long round = 1; round <= rounds; ++round) {
    others.turn = 0;
    plain = round;
    guest::Turns turns;
    std::thread other([&] {
      CHECK_EQ(pthread_mutex_lock(&theirs), 0);
      turns.done(0);
      turns.wait(2);
      CHECK_EQ(pthread_mutex_lock(&mine), 0);
      CHECK_EQ(data[0], 1000 * static_cast<uint64_t>(round));
      others.turn = 1;
      CHECK_EQ(pthread_mutex_unlock(&mine), 0);
      turns.wait(3);
      CHECK_EQ(pthread_mutex_unlock(&theirs), 0);  // its own still
    });
    for (unsigned i = 0; i < 8; ++i) srs_store64(&data[i], 1000 * static_cast<uint64_t>(round) + i);
    turns.wait(1);
    auto const status = srs::request(
        [&] {
          pthread_mutex_lock(&mine);
          for (unsigned i = 0; i < 8; ++i) srs_store64(&data[i], 5);
          turns.done(1);
          bad_load();
          rest_of_the_request();
        },
        {.user = 7});
    CHECK_EQ(status, SRS_FAULTED);
    CHECK_EQ(plain, round);
    for (unsigned i = 0; i < 8; ++i) CHECK_EQ(data[i], 1000 * static_cast<uint64_t>(round) + i);
    CHECK_EQ(pthread_mutex_trylock(&theirs), EBUSY);
    turns.done(2);
    other.join();
    CHECK_EQ(pthread_mutex_trylock(&mine), 0);
    CHECK_EQ(pthread_mutex_unlock(&mine), 0);
    char byte;
    CHECK_EQ(recv(sockets[1], &byte, 1, MSG_DONTWAIT), -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(write(sockets[0], "x", 1), 1);  // it is open still
    CHECK_EQ(recv(sockets[1], &byte, 1, 0), 1);
  }
}

// Requests of others all the while: their sum is exact.
void among_others() {
  std::atomic<bool> over{false};
  std::atomic<uint64_t> made{0};
  std::vector<std::thread> healthy;
  for (int i = 0; i < 2; ++i) {
    healthy.emplace_back([&] {
      while (!over) {
        uint64_t const before = made;
        if (srs::request([] {
              pthread_mutex_lock(&mine);
              srs_store64(&data[0], srs_load64(&data[0]) + 1);
              pthread_mutex_unlock(&mine);
            }) == SRS_OK)
          made += 1;
        CHECK(made > before);
      }
    });
  }
  for (long round = 0; round < kRounds; ++round) {
    CHECK_EQ(srs::request([] {
               pthread_mutex_lock(&mine);
               srs_store64(&data[0], srs_load64(&data[0]) + 1000);
               bad_load();
               srs_store64(&data[0], srs_load64(&data[0]) + 1000000);
               pthread_mutex_unlock(&mine);
               pthread_mutex_lock(&mine);
               srs_store64(&data[0], 0);
               pthread_mutex_unlock(&mine);
             }),
             SRS_FAULTED);
  }
  over = true;
  for (std::thread& other : healthy) other.join();
  CHECK_EQ(data[0], made.load());
}

void then(void (*what)()) {
  CHECK_EQ(srs::request([what] {
             srs_store64(&data[0], 5);
             bad_load();
             plain = -1;
             what();
           }),
           SRS_FAULTED);
  CHECK_EQ(data[0], 0);
  CHECK_EQ(plain, 0);
}

// The inner request faults and runs to its own end; the outer one, which did not ask for that, goes on as ever.
void nested() {
  srs_status inner = SRS_OK;
  CHECK_EQ(srs::request([&] {
             srs_store64(&data[3], 1);
             inner = srs::request(
                 [] {
                   srs_store64(&data[3], 2);
                   srs_store64(&data[4], 2);
                   bad_load();
                   srs_store64(&data[5], 2);
                   plain = -1;
                 },
                 {.policy = SRS_RUN});
             CHECK_EQ(data[3], 1);
             srs_store64(&data[5], 1);
           }),
           SRS_OK);
  CHECK_EQ(inner, SRS_FAULTED);
  CHECK_EQ(data[3], 1);
  CHECK_EQ(data[4], 0);
  CHECK_EQ(data[5], 1);
  CHECK_EQ(plain, 0);
}

// The second thread faults while the first one is in the view.
void two() {
  guest::Turns turns;
  std::thread first([&] {
    CHECK_EQ(srs::request([&] {
               pthread_mutex_lock(&mine);
               srs_store64(&data[0], 5);
               turns.done(0);
               bad_load();
               must(false);
             }),
             SRS_FAULTED);
    CHECK_EQ(data[0], 0);
  });
  turns.wait(1);
  pthread_mutex_lock(&mine);  // given back just before the view
  pthread_mutex_unlock(&mine);
  usleep(100000);
  CHECK_EQ(srs::request(
               [] {
                 srs_store64(&data[8], 5);
                 bad_load();
               },
               {.user = 2}),
           SRS_FAULTED);
  CHECK_EQ(data[8], 0);
  first.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const what = argv[1];
  data = guest::words(16);
  if (what == "end") end(1);
  if (what == "fifty") end(kRounds);
  if (what == "among") among_others();
  if (what == "loop") then([] { must(false); });
  if (what == "faults") {
    then([] {
      for (;;) bad_load();
    });
  }
  if (what == "abort") then([] { abort(); });
  if (what == "exit") then([] { exit(3); });
  if (what == "throw") then([] { throw 1; });
  if (what == "return") {  // no address to go on at
    then([] { __asm__ volatile("xorl %%esp, %%esp\n\tret" ::: "memory"); });
  }
  if (what == "two") two();
  if (what == "nested") nested();
  // The thread serves on.
  CHECK_EQ(srs::request([] { srs_store64(&data[9], 2); }), SRS_OK);
  CHECK_EQ(data[9], 2);
  return guest::end();
}
