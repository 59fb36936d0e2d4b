// Exceptions in many threads at once, through futures, out of a thread's destructors' way, and thread_local objects.
#include <atomic>
#include <cstdio>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 32, kThrows = 50;
std::atomic<int> alive{0}, made{0}, local_ends{0};

struct Counted {
  Counted() { alive++, made++; }
  Counted(Counted const&) = delete;
  Counted& operator=(Counted const&) = delete;
  ~Counted() { alive--; }
};

struct Local {
  int value = 0;
  ~Local() { local_ends += value; }
};
thread_local Local local;

int dive(int depth) {
  Counted const counted;
  if (depth == 0) throw std::runtime_error("bottom");
  return dive(depth - 1) + 1;
}

}  // namespace

int main() {
  std::atomic<int> caught{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; i++) {
    threads.emplace_back([&] {
      local.value = 1;
      for (int k = 0; k < kThrows; k++) {
        try {
          dive(k % 10);
        } catch (std::runtime_error const& e) {
          caught += std::string(e.what()) == "bottom";
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::printf("caught %d, made %d, alive %d, locals ended %d\n", caught.load(), made.load(), alive.load(),
              local_ends.load());

  std::vector<std::future<int>> futures;
  for (int i = 0; i < kThreads; i++) {
    futures.push_back(std::async(std::launch::async, [i]() -> int {
      if (i % 3 == 0) throw std::out_of_range(std::to_string(i));
      return i;
    }));
  }
  int sum = 0, failed = 0;
  for (auto& future : futures) {
    try {
      sum += future.get();
    } catch (std::out_of_range const& e) {
      failed += std::stoi(e.what());
    }
  }
  std::printf("futures: sum %d, failed %d\n", sum, failed);

  std::exception_ptr carried;
  std::thread([&] {
    try {
      dive(3);
    } catch (...) {
      carried = std::current_exception();
    }
  }).join();
  try {
    std::rethrow_exception(carried);
  } catch (std::exception const& e) {
    std::printf("carried: %s\n", e.what());
  }
  return 0;
}
