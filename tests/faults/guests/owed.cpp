// owed WHAT: what an aborted scope owed others is paid: semaphores, wake-ups, events, its client's answer.
#include <poll.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>

#include "tests/faults/guests/neighbours.hpp"

namespace {

constexpr unsigned kRounds = 20;

int value_of(sem_t& s) {
  int value = -1;
  sem_getvalue(&s, &value);
  return value;
}

void semaphores() {
  guest::Neighbours neighbours;
  uint64_t* const mine = neighbours.data() + 100;
  sem_t lock, pool;
  sem_init(&lock, 0, 1);
  sem_init(&pool, 0, 3);
  for (unsigned round = 0; round < kRounds; ++round) {
    // Taken, and held at the fault.
    CHECK_EQ(srs::request([&] {
               CHECK_EQ(sem_wait(&lock), 0);
               CHECK_EQ(sem_trywait(&pool), 0);
               CHECK_EQ(sem_trywait(&lock), -1);
               CHECK_EQ(errno, EAGAIN);
               srs_store64(mine, 5);
               guest::bad_store();
             }),
             SRS_FAULTED);
    CHECK_EQ(value_of(lock), 1);
    CHECK_EQ(value_of(pool), 3);
    // Given up after a store under it: nobody gets it before the commit, and an abort leaves it as it was.
    CHECK_EQ(srs::request([&] {
               sem_wait(&lock);
               srs_store64(mine, 5);
               sem_post(&lock);
               CHECK_EQ(value_of(lock), 0);
               sem_wait(&lock);  // its own still
               sem_post(&lock);
               guest::bad_store();
             }),
             SRS_FAULTED);
    CHECK_EQ(value_of(lock), 1);
    CHECK_EQ(mine[0], 0);
    CHECK_EQ(srs::request([&] {
               sem_wait(&lock);
               srs_store64(mine, 7);
               sem_post(&lock);
             }),
             SRS_OK);
    CHECK_EQ(value_of(lock), 1);
    CHECK_EQ(srs::request([&] { srs_store64(mine, 0); }), SRS_OK);
    // A post that others should never have seen is taken back.
    CHECK_EQ(srs::request(
                 [&] {
                   sem_post(&pool);
                   CHECK_EQ(value_of(pool), 4);
                   guest::bad_store();
                 },
                 {.isolation = SRS_TRACK}),
             SRS_FAULTED);
    CHECK_EQ(value_of(pool), 3);
  }
}

// Somebody has taken the post: it cannot be taken back, and the report says so.
void post_taken() {
  sem_t s;
  sem_init(&s, 0, 0);
  std::thread taker([&] { CHECK_EQ(sem_wait(&s), 0); });
  CHECK_EQ(srs::request(
               [&] {
                 sem_post(&s);
                 while (value_of(s) != 0) usleep(100);
                 usleep(10'000);
                 guest::bad_store();
               },
               {.isolation = SRS_TRACK}),
           SRS_FAULTED);
  taker.join();
}

// A scope waits for a post by one who needs the semaphore (and the lock) that the scope would hold on to.
void handed_over() {
  guest::Neighbours neighbours;
  uint64_t* const mine = neighbours.data() + 100;
  for (unsigned round = 0; round < kRounds; ++round) {
    sem_t go, done;
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    std::thread helper([&] {
      sem_wait(&go);
      pthread_mutex_lock(&lock);
      pthread_mutex_unlock(&lock);
      sem_post(&done);
    });
    CHECK_EQ(srs::request(
                 [&] {
                   pthread_mutex_lock(&lock);
                   srs_store64(mine, round);
                   pthread_mutex_unlock(&lock);
                   sem_post(&go);
                   CHECK_EQ(sem_wait(&done), 0);
                 },
                 {.deadline_ms = 20'000}),
             SRS_OK);
    CHECK_EQ(mine[0], round);
    helper.join();
  }
}

// A deadline strikes a wait.
void semaphore_deadline() {
  sem_t never;
  sem_init(&never, 0, 0);
  CHECK_EQ(srs::request([&] { sem_wait(&never); }, {.deadline_ms = 200}), SRS_FAULTED);
  CHECK_EQ(guest::last_fault().kind, SRS_FAULT_DEADLINE);
  timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  at.tv_nsec += 120'000'000;
  if (at.tv_nsec >= 1'000'000'000) {
    at.tv_nsec -= 1'000'000'000;
    at.tv_sec++;
  }
  CHECK_EQ(srs::request([&] {
             CHECK_EQ(sem_timedwait(&never, &at), -1);
             CHECK_EQ(errno, ETIMEDOUT);
           }),
           SRS_OK);
}

// One wake-up, two waiters: the scope that got it faults, and the other one gets it.
void wakeup() {
  guest::Neighbours neighbours;
  for (unsigned round = 0; round < kRounds; ++round) {
    std::mutex lock;
    std::condition_variable cond;
    bool ready = false;
    std::atomic<unsigned> waiting{0};
    bool served = false;
    std::thread victim([&] {
      CHECK_EQ(srs::request([&] {
                 std::unique_lock hold(lock);
                 waiting += 1;
                 while (!ready) cond.wait(hold);
                 guest::bad_store();
               }),
               SRS_FAULTED);
    });
    while (waiting < 1) usleep(100);
    { std::lock_guard const hold(lock); }
    std::thread other([&] {
      std::unique_lock hold(lock);
      waiting += 1;
      while (!ready) cond.wait(hold);
      served = true;
    });
    while (waiting < 2) usleep(100);
    {
      std::lock_guard const hold(lock);
      ready = true;
    }
    cond.notify_one();
    victim.join();
    cond.notify_one();  // in case the first one went to `other`
    other.join();
    CHECK(served);
  }
}

// The lock classes of C++ are given back, and their waiters go on.
void cpp_locks() {
  guest::Neighbours neighbours;
  uint64_t* const mine = neighbours.data() + 100;
  std::mutex plain;
  std::recursive_mutex recursive;
  std::timed_mutex timed;
  std::shared_mutex shared;
  for (unsigned round = 0; round < kRounds; ++round) {
    std::atomic<bool> held{false};
    std::thread waits([&] {
      while (!held) usleep(100);
      std::lock_guard const a(plain);
      std::lock_guard const b(recursive);
      CHECK(timed.try_lock_for(std::chrono::seconds(20)));
      timed.unlock();
      std::unique_lock const d(shared);
      CHECK_EQ(mine[0], 0);
    });
    CHECK_EQ(srs::request([&] {
               plain.lock();
               recursive.lock();
               recursive.lock();
               timed.lock();
               shared.lock_shared();
               srs_store64(mine, 5);
               held = true;
               usleep(2000);
               guest::bad_store();
             }),
             SRS_FAULTED);
    waits.join();
  }
}

void events() {
  guest::Neighbours neighbours;
  int const event = eventfd(0, EFD_NONBLOCK);
  for (unsigned round = 0; round < kRounds; ++round) {
    uint64_t value = 3;
    CHECK_EQ(write(event, &value, 8), 8);
    CHECK_EQ(srs::request([&] {
               uint64_t got = 0;
               CHECK_EQ(read(event, &got, 8), 8);
               CHECK_EQ(got, 3);
               guest::bad_store();
             }),
             SRS_FAULTED);
    value = 0;
    CHECK_EQ(read(event, &value, 8), 8);  // nobody's event is lost
    CHECK_EQ(value, 3);
    // What the program says that it owes.
    CHECK_EQ(srs::request([&] {
               srs_owe_event(event, 4);
               guest::bad_store();
             }),
             SRS_FAULTED);
    CHECK_EQ(read(event, &value, 8), 8);
    CHECK_EQ(value, 4);
    CHECK_EQ(srs::request([&] { srs_owe_event(event, 4); }), SRS_OK);
    CHECK_EQ(read(event, &value, 8), -1);
  }
  std::mutex lock;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  bool over = false;
  std::atomic<bool> waits{false};
  std::thread waiter([&] {
    std::unique_lock hold(lock);
    waits = true;
    pthread_cond_wait(&cond, lock.native_handle());
    over = true;
  });
  while (!waits) usleep(100);
  lock.lock();
  lock.unlock();
  CHECK_EQ(srs::request([&] {
             srs_owe_wakeup(&cond);
             guest::bad_store();
           }),
           SRS_FAULTED);
  waiter.join();
  CHECK(over);
}

std::string received(int fd) {
  char text[100];
  ssize_t const n = recv(fd, text, sizeof text, MSG_DONTWAIT);
  return n < 0 ? "nothing" : std::string(text, static_cast<size_t>(n));
}

void client() {
  guest::Neighbours neighbours;
  for (unsigned round = 0; round < kRounds; ++round) {
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    std::string_view const sorry = "500 sorry\n";
    srs::options answer{.on_fault = SRS_CLIENT_ANSWER, .client_fd = ends[0], .answer = sorry};
    auto const half_an_answer = [&] {
      CHECK_EQ(send(ends[0], "200 he", 6, 0), 6);
      guest::bad_store();
    };
    CHECK_EQ(srs::request(half_an_answer, answer), SRS_FAULTED);
    CHECK(received(ends[1]) == sorry);
    CHECK_EQ(srs::request([&] { send(ends[0], "200 ok", 6, 0); }, answer), SRS_OK);
    CHECK(received(ends[1]) == "200 ok");
    CHECK_EQ(srs::request(half_an_answer, {.client_fd = ends[0]}), SRS_FAULTED);
    CHECK(received(ends[1]) == "nothing");
    // Half an answer has left: another one behind it would be a wrong answer.
    answer.commit_on_send = true;
    CHECK_EQ(srs::request(half_an_answer, answer), SRS_FAULTED);
    std::string const got = received(ends[1]);
    CHECK(got == "200 he");
    CHECK(received(ends[1]).empty());
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK_EQ(srs::request([&] { guest::bad_store(); }, {.on_fault = SRS_CLIENT_CLOSE, .client_fd = ends[0]}),
             SRS_FAULTED);
    CHECK(received(ends[1]).empty());  // the end
    CHECK_EQ(close(ends[0]), 0);
    close(ends[1]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const what = argv[1];
  if (what == "semaphores") semaphores();
  if (what == "post-taken") post_taken();
  if (what == "handed-over") handed_over();
  if (what == "deadline") semaphore_deadline();
  if (what == "wakeup") wakeup();
  if (what == "cpp-locks") cpp_locks();
  if (what == "events") events();
  if (what == "client") client();
  return guest::end();
}
