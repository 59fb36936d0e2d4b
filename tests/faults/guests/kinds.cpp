// kinds KIND: a request stores, then fails in that way; its thread is told, its words are back, and it serves on.
#undef NDEBUG
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cassert>
#include <stdexcept>

#include "tests/faults/guests/guest.hpp"

namespace {

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
volatile long sink;
int pipe_ends[2];

__attribute__((noinline)) long recurse(long n) {
  volatile char frame[1000];
  frame[0] = static_cast<char>(n);
  return n == -1 ? 0 : recurse(n + 1) + frame[0];
}

void fail_by(std::string const& kind) {
  auto* const hole =
      static_cast<long volatile*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0));
  if (kind == "load") {
    long* volatile nowhere = reinterpret_cast<long*>(uint64_t{0x18});
    sink = *nowhere;
  }
  if (kind == "store") guest::bad_store();
  if (kind == "hole") {
    *hole = 1;
    munmap(const_cast<long*>(hole), 4096);
    *hole = 2;
  }
  if (kind == "read-only") {
    mprotect(const_cast<long*>(hole), 4096, PROT_READ);
    *hole = 2;
  }
  if (kind == "call") {
    void (*volatile nowhere)() = reinterpret_cast<void (*)()>(uint64_t{0x1234});
    nowhere();
  }
  if (kind == "call-data") {
    *hole = 0xc30b0f;  // ud2, ret: execute permission is not enforced (docs/syscalls.md), so data is what it says
    void (*volatile data)() = reinterpret_cast<void (*)()>(reinterpret_cast<uint64_t>(hole));
    data();
  }
  if (kind == "non-canonical") sink = *reinterpret_cast<long volatile*>(uint64_t{0x8000000000001000});
  if (kind == "kernel") sink = *reinterpret_cast<long volatile*>(uint64_t{0xffff800000001000});
  if (kind == "divide") {
    long volatile zero = 0;
    sink = 7 / zero;
  }
  if (kind == "illegal") __asm__ volatile("ud2");
  if (kind == "privileged") __asm__ volatile("hlt");
  if (kind == "stack") sink = recurse(0);
  if (kind == "abort") abort();
  if (kind == "abort-handled") {
    signal(SIGABRT, [](int) { _exit(99); });  // a server's own, which prints a trace and ends the process
    abort();
  }
  if (kind == "assert") assert(sink == 12345);
  if (kind == "exception") throw std::runtime_error("no such book");
  if (kind == "reported") srs_crash_suppression_os(SRS_FAULT_REPORTED);
  if (kind == "pointer") {
    void* const block = srs_malloc(64);
    srs_ptr_check(block, 4096);
  }
  if (kind == "pointer-add") {
    void* const block = srs_malloc(64);
    sink = *static_cast<char*>(srs_ptr_add(block, 1000000));
  }
  if (kind == "double-free") {
    void* const block = srs_malloc(64);
    srs_free(block);
    srs_free(block);
  }
  if (kind == "deadline-loop") {
    for (;;) sink = sink + 1;
  }
  if (kind == "deadline-read") {
    char byte;
    for (;;) sink = read(pipe_ends[0], &byte, 1);
  }
  if (kind == "deadline-lock") pthread_mutex_lock(&lock);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const kind = argv[1];
  uint64_t* const data = guest::words(60);
  for (unsigned i = 0; i < 60; ++i) srs_store64(&data[i], 1000 + i);
  CHECK(srs_active() == 1);
  CHECK_EQ(pipe(pipe_ends), 0);
  guest::Turns turns;
  std::thread holder;
  if (kind == "deadline-lock") {
    holder = std::thread([&] {
      pthread_mutex_lock(&lock);
      turns.done(0);
      turns.wait(2);
      pthread_mutex_unlock(&lock);
    });
    turns.wait(1);
  }
  uint64_t deadline = kind.starts_with("deadline") ? 300 : 0;
  bool volatile stored = false;
  auto const serve = [&] {
    return srs::request(
        [&] {
          for (unsigned i = 0; i < 60; ++i) srs_store64(&data[i], 1);
          srs_store8(&data[3], 9);
          srs_fetch_add64(&data[5], 5);
          stored = true;
          fail_by(kind);
          fprintf(stderr, "still here\n");
        },
        {.deadline_ms = deadline, .user = 77});
  };
  auto status = serve();
  // On a loaded machine the deadline may strike before the scope has come to what the test is about.
  for (; !stored && deadline != 0 && deadline < 30'000; status = serve()) {
    CHECK_EQ(status, SRS_FAULTED);
    deadline *= 2;
  }
  CHECK_EQ(status, SRS_FAULTED);
  for (unsigned i = 0; i < 60; ++i) CHECK_EQ(data[i], 1000 + i);
  srs_fault_info const info = guest::last_fault();
  CHECK_EQ(info.user, 77);
  CHECK(info.words_polluted == 60);
  turns.done(1);
  if (holder.joinable()) holder.join();
  // The same thread serves another request, and a third one that faults again.
  CHECK_EQ(srs::request([&] { srs_store64(&data[0], 2); }), SRS_OK);
  CHECK_EQ(data[0], 2);
  CHECK_EQ(srs::request([&] {
             srs_store64(&data[0], 3);
             guest::bad_store();
           }),
           SRS_FAULTED);
  CHECK_EQ(data[0], 2);
  printf("%u ", info.kind);
  return guest::end();
}
