// links: nlohmann_json::nlohmann_json
// A monitor whose check of the guest's pointers is switched off can be overwritten by the guest; its recovery data,
// which another process holds, cannot.
#include <chrono>
#include <sstream>
#include <thread>

#include "tests/faults/scenario.hpp"

namespace {

namespace fs = std::filesystem;

std::string contents_of(fs::path const& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Mapping {
  uint64_t from, to;
  bool readable, shared;
};

std::vector<Mapping> maps_of(int pid) {
  std::vector<Mapping> maps;
  std::ifstream in(fs::path("/proc") / std::to_string(pid) / "maps");
  for (std::string line; std::getline(in, line);) {
    Mapping m{};
    char protection[5] = "";
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &m.from, &m.to, protection) != 3) continue;
    if (line.find("[v") != std::string::npos) continue;  // vsyscall, vvar: not memory
    m.readable = protection[0] == 'r';
    m.shared = protection[3] == 's';
    maps.push_back(m);
  }
  return maps;
}

// Field n (proc(5) counts from 1) of a process's stat.
uint64_t stat_field(int pid, int n) {
  std::string const text = contents_of(fs::path("/proc") / std::to_string(pid) / "stat");
  std::istringstream rest(text.substr(text.rfind(')') + 1));
  std::string word;
  for (int i = 3; i <= n; ++i) rest >> word;
  return n == 3 || word.empty() ? 0 : std::stoull(word);
}

struct Pids {
  int monitor = 0, store = 0;
};

// The monitor that was started with this word on its command line, and its child.
Pids find_monitor(std::string const& word) {
  std::vector<int> found;
  for (auto const& entry : fs::directory_iterator("/proc")) {
    int const pid = std::atoi(entry.path().filename().c_str());
    std::string const line = pid != 0 ? contents_of(entry.path() / "cmdline") : "";
    if (line.find("vmsrs_unchecked") != std::string::npos && line.find(word) != std::string::npos &&
        !line.starts_with("timeout") && !line.starts_with("sh")) {
      found.push_back(pid);
    }
  }
  Pids pids;
  for (int const a : found) {
    for (int const b : found) {
      if (stat_field(b, 4) == static_cast<uint64_t>(a)) pids = {a, b};
    }
  }
  return pids;
}

class Unchecked : public vmsrs_test::Scenario {};

TEST_F(Unchecked, AMonitorWithoutPointerChecksStillKeepsItsRecoveryData) {
  program_ = "tests/vmsrs_unchecked";
  std::string const ready = dir() / "ready", places = dir() / "places";
  Pids pids;
  uint64_t harmless = 0;
  std::string line_before, line_after;
  std::atomic<bool> over{false};
  size_t own = 0;  // ranges where only the store has memory
  std::thread helper([&] {
    while (!fs::exists(ready)) {
      if (over) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    pids = find_monitor(dir());
    harmless = stat_field(pids.monitor, 48);  // where its command line lies: the kernel shows it from there
    line_before = contents_of(fs::path("/proc") / std::to_string(pids.monitor) / "cmdline");
    auto const monitor = maps_of(pids.monitor), store = maps_of(pids.store);
    std::ofstream out(places + ".new");
    out << std::hex << "what " << harmless << "\n";
    for (Mapping const& m : monitor) {
      if (m.readable && !m.shared) out << "look " << m.from << " " << m.to << "\n";
    }
    auto const add = [&](uint64_t from, uint64_t to) {
      out << "store " << from << " " << to << "\n";
      ++own;
    };
    for (Mapping const& s : store) {
      uint64_t from = s.from;
      for (Mapping const& m : monitor) {  // in the order of their addresses
        if (s.shared || m.to <= from || from >= s.to) continue;
        if (m.from > from) add(from, std::min(m.from, s.to));
        from = m.to;
      }
      if (!s.shared && from < s.to) add(from, s.to);
    }
    out.close();
    fs::rename(places + ".new", places);
    while (!over) {
      std::string const now = contents_of(fs::path("/proc") / std::to_string(pids.monitor) / "cmdline");
      if (!now.empty()) line_after = now;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  auto const o = run_well("", "unchecked " + dir().string());
  over = true;
  helper.join();
  ASSERT_NE(pids.store, 0) << "the monitor and its store process were not found";
  // The check is off: the guest wrote where the monitor's own command line was.
  ASSERT_NE(harmless, 0U);
  EXPECT_NE(line_before, line_after);
  EXPECT_TRUE(line_after.starts_with("ffffffff")) << line_after;
  unsigned pages = 0, found = 0, went_through = 1;
  size_t ranges = 0;
  ASSERT_EQ(std::sscanf(o.out.c_str(), "%u pages, %u places, %zu ranges, %u", &pages, &found, &ranges, &went_through),
            4)
      << o.out;
  EXPECT_GT(pages, 1000U) << "it could read the monitor";
  if (geteuid() == 0) {  // who may see where the store's memory is
    EXPECT_GT(own, 0U);
  }
  EXPECT_EQ(ranges, own);
  EXPECT_EQ(went_through, 0U) << "nothing of the store's is in the monitor";
  // And all that was recorded is restored.
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["words_polluted"], 20000);
  EXPECT_EQ(o.faults[0]["damaged_records"], 0);
}

}  // namespace
