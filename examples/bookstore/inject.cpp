// Built without optimisation (see CMakeLists.txt), every address through a volatile: the compiler
// can neither see that an access is undefined nor move or drop it.
#undef NDEBUG
#include "examples/bookstore/inject.hpp"

#include <srs/srs.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace bookstore {
namespace {

#define BOOKSTORE_FAULT __attribute__((noinline))

std::uintptr_t volatile g_unmapped = 0x5bad0;
std::uintptr_t volatile g_noncanonical = 0x9a5a000000000010;
int volatile g_zero = 0;
int volatile g_seven = 7;  // a constant 1 / x needs no division, and GCC knows that
int volatile g_sink = 0;

BOOKSTORE_FAULT void bad_load() {
  g_sink = *reinterpret_cast<int volatile*>(g_unmapped);
}
BOOKSTORE_FAULT void bad_store() {
  *reinterpret_cast<int volatile*>(g_unmapped) = 1;
}
BOOKSTORE_FAULT void bad_call() {
  reinterpret_cast<void (*)()>(g_unmapped)();
}
BOOKSTORE_FAULT void noncanonical() {
  g_sink = *reinterpret_cast<int volatile*>(g_noncanonical);
}
BOOKSTORE_FAULT void divide() {
  g_sink = g_seven / g_zero;
}
BOOKSTORE_FAULT void illegal() {
  __asm__ volatile("ud2");
}

BOOKSTORE_FAULT void hole() {
  // A use after unmap, in the middle of a hole: what other threads map meanwhile (a failed assert maps a page for its
  // message) goes to an end of it.
  constexpr std::size_t kPages = 65;
  auto const page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* const block = mmap(nullptr, kPages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) std::abort();
  auto* const middle = static_cast<char volatile*>(block) + kPages / 2 * page;
  *middle = 1;
  munmap(static_cast<char*>(block) + page, (kPages - 2) * page);
  *middle = 2;
}

BOOKSTORE_FAULT int recurse(int depth) {
  char volatile frame[4096];
  frame[0] = static_cast<char>(depth);
  frame[sizeof frame - 1] = frame[0];
  return recurse(depth + 1) + frame[sizeof frame - 1];
}

BOOKSTORE_FAULT void throw_something() {
  throw std::runtime_error("injected");
}
// noexcept: nobody up the stack, the HTTP library neither, gets to catch it.
BOOKSTORE_FAULT void uncaught() noexcept {
  throw_something();
}
BOOKSTORE_FAULT void failed_assert() {
  assert(g_zero == 1 && "injected");
}

BOOKSTORE_FAULT void bad_pointer() {
  g_sink = *static_cast<int volatile*>(srs_ptr_check(reinterpret_cast<void*>(g_unmapped), 8));
}

BOOKSTORE_FAULT void spin() {
  while (g_zero == 0) {
  }
}

BOOKSTORE_FAULT void sleep_long() {
  std::this_thread::sleep_for(std::chrono::hours(1));
}

BOOKSTORE_FAULT void deadlock() {
  // A mutex of this call alone: nobody else waits for it.
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_lock(&mutex);
}

BOOKSTORE_FAULT void cause(Kind kind) {
  switch (kind) {
    case Kind::none:
      return;
    case Kind::load:
      return bad_load();
    case Kind::store:
      return bad_store();
    case Kind::hole:
      return hole();
    case Kind::call:
      return bad_call();
    case Kind::noncanonical:
      return noncanonical();
    case Kind::divide:
      return divide();
    case Kind::illegal:
      return illegal();
    case Kind::stack:
      g_sink = recurse(0);
      return;
    case Kind::abort:
      std::abort();
    case Kind::assertion:
      return failed_assert();
    case Kind::exception:
      return uncaught();
    case Kind::reported:
      return srs_crash_suppression_os(SRS_FAULT_REPORTED);
    case Kind::pointer:
      return bad_pointer();
    case Kind::deadline:
      return spin();
    case Kind::sleep:
      return sleep_long();
    case Kind::deadlock:
      return deadlock();
  }
}

}  // namespace

BOOKSTORE_FAULT void Fault::hit() const {
  if (wait_ms != 0 && pauses != nullptr) pauses->wait(book, wait_ms);
  cause(kind);
}

void Pauses::wait(std::uint64_t book, unsigned ms) {
  using clock = std::chrono::steady_clock;
  auto const start = clock::now();
  auto const begun = begun_[book].load();
  auto const done = done_[book].load();
  ++waiting_[book];
  while (done_[book] == done && clock::now() - start < std::chrono::milliseconds(ms))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  --waiting_[book];
  std::size_t const i = next_++;
  if (i >= kOutcomes) return;
  auto const waited = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - start).count();
  outcomes_[i] = {book, begun_[book] - begun, done_[book] - done, static_cast<std::uint64_t>(waited)};
  written_[i] = true;
}

std::vector<std::uint64_t> Pauses::waiting() const {
  std::vector<std::uint64_t> books;
  for (std::uint64_t book = 0; book < waiting_.size(); ++book)
    if (waiting_[book] != 0) books.push_back(book);
  return books;
}

std::vector<Pauses::Outcome> Pauses::outcomes() const {
  std::vector<Outcome> ended;
  for (std::size_t i = 0; i < kOutcomes; ++i)
    if (written_[i]) ended.push_back(outcomes_[i]);
  return ended;
}

}  // namespace bookstore
