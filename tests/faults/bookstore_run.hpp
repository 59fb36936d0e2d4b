// One run of the bookstore's users against the real server, under the real monitor or natively: what the judge found
// (from the clients' side), what the monitor reported, and its counters. Linked: bookstore_programs vmsrs_program.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/time_scale.hpp"

namespace bookstore_run {

using nlohmann::json;
using Words = std::vector<std::string>;

struct Outcome {
  int status = -1;           // exit status of bookstore-load; -1: a signal ended it
  json load;                 // its --json
  std::vector<json> faults;  // of the monitor's report
  json summary;              // the report's last line
  json stats;                // --stats-json
  std::string output;        // of all programs, for messages

  std::uint64_t sum(char const* key) const {
    std::uint64_t n = 0;
    for (auto const& f : faults) n += f.at(key).get<std::uint64_t>();
    return n;
  }
  // The report's line for this user's fault; null if there is not exactly one.
  json fault_of(std::uint64_t user) const {
    json found;
    for (auto const& f : faults) {
      if (f.at("user") != user) continue;
      if (!found.is_null()) return nullptr;
      found = f;
    }
    return found;
  }
};

struct Setup {
  Words users{};    // options of bookstore-load
  Words monitor{};  // of vmsrs run
  Words server{};   // of bookstore
  bool native = false;
};

inline std::string text_of(std::filesystem::path const& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline Outcome play(Setup const& setup) {
  rlimit const none{0, 0};
  setrlimit(RLIMIT_CORE, &none);  // inherited by the servers that are going to die
  std::string name = (std::filesystem::temp_directory_path() / "vmsrs-bookstore-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
  std::filesystem::path const directory = name;
  auto const file = [&](char const* what) { return (directory / what).string(); };
  Words command{"timeout", "-k", "5", vmsrs_test::limit(60), BOOKSTORE_LOAD};
  command.insert(command.end(), setup.users.begin(), setup.users.end());
  for (auto const& w :
       {std::string("--seconds"), vmsrs_test::limit(30), std::string("--timeout"), vmsrs_test::limit(5000),
        std::string("--json"), file("load"), std::string("--spawn"), std::string("--")})
    command.push_back(w);
#ifdef VMSRS_PROGRAM
  if (!setup.native) {
    for (auto const& w : {std::string(VMSRS_PROGRAM), std::string("run"), std::string("--report"), file("report"),
                          std::string("--stats-json"), file("stats")})
      command.push_back(w);
    command.insert(command.end(), setup.monitor.begin(), setup.monitor.end());
    command.push_back("--");
  }
#endif
  for (auto const* w : {BOOKSTORE_SERVER, "--inject", "--port", "0", "--threads", "28"}) command.push_back(w);
  command.insert(command.end(), setup.server.begin(), setup.server.end());
  std::string line;
  for (auto const& word : command) line += "'" + word + "' ";

  Outcome outcome;
  int const status = std::system((line + ">'" + file("output") + "' 2>&1").c_str());
  if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
  outcome.output = line + "\n" + text_of(file("output"));
  outcome.load = json::parse(text_of(file("load")), nullptr, false);
  outcome.stats = json::parse(text_of(file("stats")), nullptr, false);
  std::istringstream report(text_of(file("report")));
  for (std::string entry; std::getline(report, entry);) {
    json const parsed = json::parse(entry);
    if (parsed.at("type") == "fault") outcome.faults.push_back(parsed);
    if (parsed.at("type") == "summary") outcome.summary = parsed;
  }
  std::filesystem::remove_all(directory);
  return outcome;
}

// Whether a monitor and a /dev/kvm are there.
inline bool can_host() {
#ifdef VMSRS_PROGRAM
  return access("/dev/kvm", R_OK | W_OK) == 0;
#else
  return false;
#endif
}

// The same server from the first request to the last, in a VM.
inline void expect_served(Outcome const& o, std::uint64_t crashed) {
  ASSERT_TRUE(o.load.is_object()) << o.output;
  EXPECT_FALSE(o.load["server_died"].get<bool>()) << o.output;
  EXPECT_EQ(o.load["server_restarts"], 0) << o.output;
  EXPECT_EQ(o.load["connections_lost_without_fault"], 0) << o.output;
  EXPECT_TRUE(o.load["judged_to_the_end"].get<bool>()) << o.output;
  EXPECT_EQ(o.load["crashed"], crashed) << o.output;
  ASSERT_TRUE(o.stats.is_object()) << o.output;
  EXPECT_GT(o.stats["kvm_exits"].get<std::uint64_t>(), 0U);
}

// And nobody noticed: the judge is content with every answer, and everybody but the faulted was served.
inline void expect_exact(Outcome const& o, std::uint64_t crashed) {
  expect_served(o, crashed);
  if (testing::Test::HasFatalFailure()) return;
  EXPECT_EQ(o.load["wrong_answers"], 0) << o.output;
  EXPECT_EQ(o.load["lost_updates"], 0) << o.output;
  EXPECT_EQ(o.load["disturbed"], 0) << o.output;
  EXPECT_TRUE(o.load["passed"].get<bool>()) << o.output;
  EXPECT_EQ(o.status, 0) << o.output;
  EXPECT_EQ(o.sum("exposed"), 0U) << o.output;
  EXPECT_EQ(o.sum("dependents"), 0U) << o.output;
}

class Bookstore : public testing::Test {
 protected:
  void SetUp() override {
    if (!can_host()) GTEST_SKIP() << "needs /dev/kvm";
  }
};

}  // namespace bookstore_run
