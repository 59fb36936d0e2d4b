// Scopes that store to monitored memory and crash, and how long it takes until they are undone and landed.
//
// usage: fault WORDS PAGES COUNT CRASH HEALTHY
// Each of COUNT scopes stores WORDS words, spread evenly over PAGES pages; with CRASH 1 it then crashes. HEALTHY
// threads count meanwhile, touching none of it. Prints JSON; the last figure is how many words were not what they were
// before.
#include <srs/srs.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

struct Work {
  uint64_t* memory;
  unsigned words, pages;
  bool crash;
  uint64_t value;
};

uint64_t* word(Work const& w, unsigned i) {
  unsigned const per_page = (w.words + w.pages - 1) / w.pages;
  return w.memory + i / per_page * 512 + i % per_page;
}

std::chrono::steady_clock::time_point struck;

void scope(void* raw) {
  auto const& w = *static_cast<Work const*>(raw);
  for (unsigned i = 0; i < w.words; ++i) srs_store64(word(w, i), w.value);
  struck = std::chrono::steady_clock::now();
  if (w.crash) *static_cast<int volatile*>(nullptr) = 0;
}

double middle(std::vector<double>& v, double q) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v[std::min(v.size() - 1, static_cast<size_t>(q * static_cast<double>(v.size())))];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  Work w{nullptr, static_cast<unsigned>(std::atoi(argv[1])), static_cast<unsigned>(std::atoi(argv[2])),
         std::atoi(argv[4]) != 0, 0};
  int const count = std::atoi(argv[3]);
  w.memory = static_cast<uint64_t*>(srs_aligned_alloc(4096, w.pages * 4096UL));
  for (unsigned i = 0; i < w.words; ++i) srs_store64(word(w, i), 7);
  std::atomic<bool> over{false};
  std::atomic<uint64_t> counted{0};
  std::vector<std::thread> healthy;
  for (int t = 0; t < std::atoi(argv[5]); ++t) {
    healthy.emplace_back([&] {
      uint64_t n = 0;
      while (!over.load(std::memory_order_relaxed)) ++n;
      counted += n;
    });
  }
  std::vector<double> wall, abort, land;
  unsigned long wrong = 0;
  for (int n = 0; n < count; ++n) {
    w.value = 1000u + static_cast<unsigned>(n);
    srs_status const status = srs_request(scope, &w, nullptr);
    auto const back = std::chrono::steady_clock::now();
    if ((status == SRS_FAULTED) != w.crash) return 3;
    wall.push_back(std::chrono::duration<double, std::micro>(back - struck).count());
    if (!w.crash) continue;
    srs_fault_info info;
    srs_last_fault(&info);
    abort.push_back(static_cast<double>(info.abort_ns) / 1e3);
    land.push_back(static_cast<double>(info.land_ns) / 1e3);
    for (unsigned i = 0; i < w.words; ++i) wrong += srs_load64(word(w, i)) != 7;
  }
  over = true;
  for (auto& t : healthy) t.join();
  std::printf(
      "{\"wall_us\":{\"p50\":%.1f,\"p99\":%.1f},\"abort_us\":{\"p50\":%.1f,\"p99\":%.1f},"
      "\"land_us\":{\"p50\":%.1f,\"p99\":%.1f},\"counted\":%lu,\"wrong_words\":%lu}\n",
      middle(wall, 0.5), middle(wall, 0.99), middle(abort, 0.5), middle(abort, 0.99), middle(land, 0.5),
      middle(land, 0.99), counted.load(), wrong);
}
