// whole WHAT: a scope does something outside memory, or fails in a place that is hard to leave; while others are
// served.
#undef NDEBUG
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <exception>
#include <stdexcept>

#include "tests/faults/guests/neighbours.hpp"

namespace {

std::string contents(char const* path) {
  std::string text(100, '\0');
  int const fd = open(path, O_RDONLY);
  ssize_t const n = read(fd, text.data(), text.size());
  close(fd);
  text.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return text;
}

template <class F>
void faults(F&& f, srs::options const& options = {}) {
  CHECK_EQ(srs::request(
               [&] {
                 f();
                 guest::bad_store();
               },
               options),
           SRS_FAULTED);
}

// ---- files ----

void files() {
  char path[] = "/tmp/vmsrs-whole-XXXXXX";
  int const fd = mkstemp(path);
  CHECK(fd >= 0);
  CHECK_EQ(write(fd, "0123456789", 10), 10);
  CHECK_EQ(srs_file(fd, SRS_FILE_UNDO), 0);
  CHECK_EQ(srs_file(999, SRS_FILE_UNDO), -1);
  CHECK_EQ(errno, EBADF);
  // Written, appended to, cut: back as it was, and so is the position.
  faults([&] {
    CHECK_EQ(pwrite(fd, "abc", 3, 2), 3);
    CHECK_EQ(pwrite(fd, "XYZ", 3, 3), 3);
    CHECK_EQ(write(fd, "more", 4), 4);
    CHECK_EQ(write(fd, "still", 5), 5);
    CHECK_EQ(ftruncate(fd, 5), 0);
    CHECK(contents(path) == "01aXY");
    CHECK_EQ(ftruncate(fd, 30), 0);
  });
  CHECK(contents(path) == "0123456789");
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10);
  // Committed: it stays.
  CHECK_EQ(srs::request([&] { CHECK_EQ(write(fd, "AB", 2), 2); }), SRS_OK);
  faults([&] { CHECK_EQ(pwrite(fd, "zzz", 3, 9), 3); });
  CHECK(contents(path) == "0123456789AB");
  // A nested scope that committed belongs to the outer one.
  faults([&] { CHECK_EQ(srs::request([&] { CHECK_EQ(pwrite(fd, "nest", 4, 0), 4); }), SRS_OK); });
  CHECK(contents(path) == "0123456789AB");
  CHECK_EQ(srs::request([&] { faults([&] { CHECK_EQ(pwrite(fd, "nest", 4, 0), 4); }); }), SRS_OK);
  CHECK(contents(path) == "0123456789AB");
  close(fd);
  // Write-only and at the end.
  int const end = open(path, O_WRONLY | O_APPEND);
  CHECK_EQ(srs_file(end, SRS_FILE_UNDO), 0);
  faults([&] {
    CHECK_EQ(write(end, "log 1", 5), 5);
    CHECK_EQ(write(end, "log 2", 5), 5);
  });
  CHECK(contents(path) == "0123456789AB");
  close(end);
  unlink(path);
}

// What another thread has written in the same place since stays, and the report says so.
void files_shared() {
  char path[] = "/tmp/vmsrs-whole-XXXXXX";
  int const fd = mkstemp(path);
  CHECK_EQ(write(fd, "0123456789", 10), 10);
  CHECK_EQ(srs_file(fd, SRS_FILE_UNDO), 0);
  guest::Turns turns;
  std::thread other([&] {
    turns.wait(1);
    CHECK_EQ(pwrite(fd, "theirs", 6, 2), 6);
    turns.done(1);
  });
  faults([&] {
    CHECK_EQ(pwrite(fd, "mine", 4, 2), 4);
    CHECK_EQ(pwrite(fd, "M", 1, 9), 1);
    turns.done(0);
    turns.wait(2);
  });
  other.join();
  CHECK(contents(path) == "01theirs89");
  close(fd);
  unlink(path);
}

// Nothing is taken back, and everything is named.
void effects() {
  char path[] = "/tmp/vmsrs-whole-XXXXXX";
  std::string const moved = std::string(path) + ".moved", made = std::string(path) + ".made";
  int const fd = mkstemp(path);
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  faults([&] {
    CHECK_EQ(pwrite(fd, "plain", 5, 100), 5);
    CHECK_EQ(pwrite(fd, "more", 4, 105), 4);
    CHECK_EQ(write(ends[1], "in the pipe", 11), 11);
    CHECK_EQ(rename(path, moved.c_str()), 0);
    int const fresh = open(made.c_str(), O_CREAT | O_RDWR, 0600);
    CHECK(fresh >= 0);
    CHECK_EQ(kill(getpid(), 0), 0);
  });
  unlink(moved.c_str());
  unlink(made.c_str());
}

// ---- descriptors that the scope closed ----

void closed() {
  int ends[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  faults([&] {
    CHECK_EQ(close(ends[0]), 0);
    CHECK_EQ(fcntl(ends[0], F_GETFD), -1);
    int const again = open("/dev/null", O_RDONLY);
    CHECK_EQ(again, ends[0]);  // the lowest number: the scope's own now
  });
  CHECK_EQ(write(ends[0], "x", 1), 1);
  char byte = 0;
  CHECK_EQ(read(ends[1], &byte, 1), 1);
  faults([&] { CHECK_EQ(dup2(ends[1], ends[0]), ends[0]); });
  CHECK_EQ(write(ends[0], "y", 1), 1);
  CHECK_EQ(read(ends[1], &byte, 1), 1);
  // A commit closes it at once, without a further call of this thread.
  std::thread reader([&] { CHECK_EQ(read(ends[1], &byte, 1), 0); });
  CHECK_EQ(srs::request([&] { CHECK_EQ(close(ends[0]), 0); }), SRS_OK);
  while (reader.native_handle() == 0) {
  }
  reader.join();
  CHECK_EQ(fcntl(ends[0], F_GETFD), -1);
  close(ends[1]);
}

// ---- signal handlers ----

volatile sig_atomic_t handled = 0;
bool volatile handler_fails = true;

void on_signal(int) {
  handled = handled + 1;
  sigset_t more;
  sigemptyset(&more);
  sigaddset(&more, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &more, nullptr);
  if (handler_fails) guest::bad_store();
}

uint64_t mask_now() {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  uint64_t bits = 0;
  memcpy(&bits, &now, sizeof bits);
  return bits;
}

void handler(bool own_stack) {
  guest::Neighbours neighbours;
  uint64_t* const mine = neighbours.data() + 100;
  static char stack[64 << 10];
  if (own_stack) {
    stack_t ss{};
    ss.ss_sp = stack;
    ss.ss_size = sizeof stack;
    CHECK_EQ(sigaltstack(&ss, nullptr), 0);
  }
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = own_stack ? SA_ONSTACK : 0;
  sigaction(SIGUSR1, &action, nullptr);
  uint64_t const before = mask_now();
  for (int round = 0; round < 20; ++round) {
    CHECK_EQ(srs::request([&] {
               srs_store64(mine, 5);
               raise(SIGUSR1);
               srs_store64(mine, 6);
             }),
             SRS_FAULTED);
    CHECK_EQ(mine[0], 0);
    CHECK_EQ(mask_now(), before);  // SIGUSR1 can come again
  }
  CHECK_EQ(handled, 20);
  handler_fails = false;
  CHECK_EQ(srs::request([&] {
             raise(SIGUSR1);
             srs_store64(mine, 7);
           }),
           SRS_OK);
  CHECK_EQ(handled, 21);
  CHECK_EQ(mine[0], 7);
  CHECK_EQ(mask_now(), before);
  // A mask that the scope itself changed.
  faults([] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
  });
  CHECK_EQ(mask_now(), before);
}

// ---- a second fault on the way of the landing ----

void landing(srs_policy policy) {
  guest::Neighbours neighbours;
  uint64_t* const mine = neighbours.data() + 100;
  for (int round = 0; round < 10; ++round) {
    auto* const page = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0));
    auto* const lost = reinterpret_cast<pthread_mutex_t*>(page);
    auto* const lost_too = reinterpret_cast<pthread_rwlock_t*>(page + 1024);
    pthread_mutex_init(lost, nullptr);
    pthread_rwlock_init(lost_too, nullptr);
    pthread_mutex_t kept = PTHREAD_MUTEX_INITIALIZER;
    void* block = nullptr;
    faults(
        [&] {
          block = srs_malloc(4096);
          pthread_mutex_lock(&kept);
          pthread_mutex_lock(lost);
          pthread_rwlock_wrlock(lost_too);
          srs_store64(mine, 5);
          munmap(page, 4096);
        },
        {.policy = policy});
    CHECK_EQ(mine[0], 0);
    CHECK_EQ(pthread_mutex_trylock(&kept), 0);  // the others' locks and blocks were given back all the same
    pthread_mutex_unlock(&kept);
    CHECK(srs_heap_contains(block) == 1);
  }
}

// ---- while unwinding ----

struct Fails {
  ~Fails() { guest::bad_store(); }
};

void unwinding() {
  guest::Neighbours neighbours;
  uint64_t* const mine = neighbours.data() + 100;
  for (int round = 0; round < 10; ++round) {
    CHECK_EQ(srs::request([&] {
               srs_store64(mine, 5);
               try {
                 Fails const fails;
                 throw std::runtime_error("no such book");
               } catch (std::exception const&) {
               }
             }),
             SRS_FAULTED);
    CHECK_EQ(std::uncaught_exceptions(), 0);
    CHECK_EQ(mine[0], 0);
    CHECK_EQ(srs::request([&] {
               try {
                 throw 1;
               } catch (int) {
                 srs_store64(mine, 6);
                 guest::bad_store();  // the exception is caught, and not over
               }
             }),
             SRS_FAULTED);
    CHECK(std::current_exception() == nullptr);
    CHECK_EQ(mine[0], 0);
  }
  // Exceptions work as ever, and a destructor that an exception runs is no fault.
  int caught = 0;
  try {
    throw 7;
  } catch (int value) {
    caught = value;
  }
  CHECK_EQ(caught, 7);
}

// ---- several at once ----

void together(unsigned rounds) {
  guest::Neighbours neighbours;
  constexpr unsigned kThreads = 8, kWords = 4 * 512;
  uint64_t* const shared = guest::words(kWords);
  for (unsigned i = 0; i < kWords; ++i) srs_store64(&shared[i], 7000 + i);
  std::atomic<unsigned> ready{0};
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < kThreads; ++n) {
    threads.emplace_back([&, n] {
      for (unsigned round = 0; round < rounds; ++round) {
        faults([&] {
          for (unsigned i = n; i < kWords; i += kThreads) srs_store64(&shared[i], 1);  // words of its own on all pages
          ready += 1;
          while (ready < (round + 1) * kThreads) sched_yield();
        });
        // The pages come back now, to threads that fault on them again.
        for (unsigned i = n; i < kWords; i += kThreads) CHECK_EQ(shared[i], 7000 + i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const what = argv[1];
  if (what == "files") files();
  if (what == "files-shared") files_shared();
  if (what == "effects") effects();
  if (what == "closed") closed();
  if (what == "handler") handler(false);
  if (what == "handler-stack") handler(true);
  if (what == "landing") landing(SRS_LAND);
  if (what == "landing-unwind") landing(SRS_UNWIND);
  if (what == "unwinding") unwinding();
  if (what == "together") together(20);
  return guest::end();
}
