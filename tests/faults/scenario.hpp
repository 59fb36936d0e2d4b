// Runs a guest program of tests/faults/guests under `vmsrs run`, and reads what the monitor says of it.
#ifndef VMSRS_TESTS_FAULTS_SCENARIO_HPP
#define VMSRS_TESTS_FAULTS_SCENARIO_HPP

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/time_scale.hpp"

namespace vmsrs_test {

using Json = nlohmann::json;

struct Outcome {
  int status = -1;           // as a shell says it
  std::string out, err;      // the guest's, and the monitor's
  std::vector<Json> faults;  // lines of the report
  Json summary, stats;
};

class Scenario : public testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/kvm";
    char name[] = "/tmp/vmsrs-scenario-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override {
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  // `options` and `guest` are words for a shell.
  Outcome run(std::string const& options, std::string const& guest) {
    Outcome outcome;
    auto const build = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path();
    std::string const report = dir_ / "report", stats = dir_ / "stats", out = dir_ / "out", err = dir_ / "err";
    for (auto const& old : {report, stats}) std::filesystem::remove(old);
    std::string const command = "timeout " + limit(100) + " '" + (build / program_).string() + "' run " + options +
                                " --report " + report + " --stats-json " + stats + " -- '" +
                                (build / "guests").string() + "'/" + guest + " > " + out + " 2> " + err +
                                " < /dev/null";
    int const status = std::system(command.c_str());
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome.out = contents(out);
    outcome.err = contents(err);
    outcome.stats = Json::parse(contents(stats), nullptr, false);
    std::ifstream lines(report);
    for (std::string line; std::getline(lines, line);) {
      Json json = Json::parse(line, nullptr, false);
      EXPECT_FALSE(json.is_discarded()) << line;
      if (json.is_discarded()) continue;
      if (json["type"] == "fault") outcome.faults.push_back(json);
      if (json["type"] == "summary") outcome.summary = json;
    }
    return outcome;
  }
  // The guest found everything as it should be.
  Outcome run_well(std::string const& options, std::string const& guest) {
    Outcome outcome = run(options, guest);
    EXPECT_EQ(outcome.status, 0) << guest << "\n" << outcome.err;
    EXPECT_TRUE(outcome.out.ends_with("well\n")) << outcome.out << outcome.err;
    EXPECT_FALSE(outcome.summary.is_null()) << "no summary in the report";
    return outcome;
  }
  static uint64_t sum(std::vector<Json> const& faults, char const* field) {
    uint64_t n = 0;
    for (auto const& fault : faults) n += fault[field].get<uint64_t>();
    return n;
  }

  char const* program_ = "bin/vmsrs";
  std::filesystem::path const& dir() const { return dir_; }

 private:
  static std::string contents(std::string const& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::filesystem::path dir_;
};

}  // namespace vmsrs_test

#endif
