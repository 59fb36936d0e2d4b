// The others: threads that are served all the while, and whose data must be right whatever happens to one user.
#ifndef VMSRS_TESTS_FAULTS_NEIGHBOURS_HPP
#define VMSRS_TESTS_FAULTS_NEIGHBOURS_HPP

#include <pthread.h>

#include "tests/faults/guests/guest.hpp"

namespace guest {

class Neighbours {
 public:
  static constexpr unsigned kThreads = 2;
  Neighbours() : data_(words(512)) {
    pthread_mutex_init(&lock_, nullptr);
    srs_store64(&data_[0], 1'000'000);
    for (unsigned i = 0; i < kThreads; ++i) threads_.emplace_back([this, i] { serve(i); });
    for (std::atomic<uint64_t> const& n : made_) {
      while (n == 0) usleep(100);
    }
  }
  // Everybody has been served since this was called, and every purchase was booked once.
  ~Neighbours() {
    for (std::atomic<uint64_t> const& n : made_) {
      uint64_t const before = n;
      for (int i = 0; i < 50'000 && n == before; ++i) usleep(200);
      CHECK(n > before);
    }
    over_ = true;
    for (std::thread& thread : threads_) thread.join();
    uint64_t sum = 0;
    for (std::atomic<uint64_t> const& n : made_) sum += n;
    CHECK_EQ(data_[0], 1'000'000 - sum);
    CHECK_EQ(data_[1], sum);
    CHECK_EQ(refused_.load(), 0);
  }
  Neighbours(Neighbours const&) = delete;
  Neighbours& operator=(Neighbours const&) = delete;

  uint64_t* data() { return data_; }  // from word 8 on nobody's
  pthread_mutex_t& lock() { return lock_; }

 private:
  void serve(unsigned i) {
    while (!over_) {
      auto const status = srs::request([this] {
        pthread_mutex_lock(&lock_);
        srs_store64(&data_[0], srs_load64(&data_[0]) - 1);
        srs_store64(&data_[1], srs_load64(&data_[1]) + 1);
        pthread_mutex_unlock(&lock_);
      });
      (status == SRS_OK ? made_[i] : refused_) += 1;
      usleep(100);
    }
  }

  uint64_t* data_;
  pthread_mutex_t lock_;
  std::atomic<bool> over_{false};
  std::atomic<uint64_t> made_[kThreads] = {}, refused_{0};
  std::vector<std::thread> threads_;
};

}  // namespace guest

#endif
