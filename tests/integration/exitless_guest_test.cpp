// links: vmm
// Exitless calls and patched call sites with real guests (exitless_guest.c): the results are right whatever strikes,
// and the exits are gone.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#ifndef EXITLESS_VMSRS  // a sanitizer's build: its shadow memory lies where the guest's is
#define EXITLESS_VMSRS ""
#define EXITLESS_GUEST ""
#endif

namespace {

struct Outcome {
  int status = -1;
  std::string out;
  nlohmann::json stats;
};

class Exitless : public testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/kvm";
    if (std::string(EXITLESS_VMSRS).empty()) GTEST_SKIP() << "not in this build";
  }
  static Outcome run(std::string const& what, std::string const& pollers) {
    Outcome o;
    std::string const file = testing::TempDir() + "/exitless-" + std::to_string(getpid()) + ".json";
    std::string const command = std::string("timeout 60 ") + EXITLESS_VMSRS + " run --recovery off --pollers " +
                                pollers + " --stats-json " + file + " -- " + EXITLESS_GUEST + " " + what + " 2>&1";
    FILE* const pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return o;
    std::array<char, 4096> buffer{};
    for (size_t n = 0; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) o.out.append(buffer.data(), n);
    int const status = pclose(pipe);
    o.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    std::ifstream(file) >> o.stats;
    std::filesystem::remove(file);
    return o;
  }
  static uint64_t count(Outcome const& o, char const* name) { return o.stats.value(name, uint64_t{0}); }
};

TEST_F(Exitless, TheExitsAreGone) {
  Outcome const exits = run("calls", "0"), exitless = run("calls", "1");
  EXPECT_EQ(exits.status, 0) << exits.out;
  EXPECT_EQ(exitless.status, 0) << exitless.out;
  EXPECT_EQ(exits.out, "right\n");
  EXPECT_EQ(exitless.out, "right\n");
  EXPECT_GT(count(exits, "kvm_exits"), 2400U);
  EXPECT_EQ(count(exits, "exitless_calls"), 0U);
  // On a machine with no processor to spare the calls are made by exit; what is exitless is made once.
  EXPECT_GT(count(exitless, "exitless_calls"), 0U);
  EXPECT_EQ(exitless.stats["syscalls"]["write"], exits.stats["syscalls"]["write"]);
  EXPECT_EQ(exitless.stats["syscalls"]["getppid"], exits.stats["syscalls"]["getppid"]);
  EXPECT_LT(count(exitless, "kvm_exits") + count(exitless, "exitless_calls"), count(exits, "kvm_exits") + 1200U);
}

TEST_F(Exitless, CallSitesAreDirect) {
  Outcome const o = run("calls", "0");
  EXPECT_EQ(o.status, 0) << o.out;
  EXPECT_GE(count(o, "sites_patched"), 4U);  // read, write, getppid, lseek
}

TEST_F(Exitless, Threads) {
  for (char const* pollers : {"auto", "2"}) EXPECT_EQ(run("threads", pollers).out, "right\n") << pollers;
}

TEST_F(Exitless, SignalsAtEveryPlace) {
  for (char const* pollers : {"0", "1"}) EXPECT_EQ(run("signals", pollers).out, "right\n") << pollers;
}

TEST_F(Exitless, SigpipeComesBeforeTheWriteReturns) {
  for (char const* pollers : {"0", "1"}) EXPECT_EQ(run("sigpipe", pollers).out, "right\n") << pollers;
}

TEST_F(Exitless, ABlockingWriteTakesEveryByte) {
  for (char const* pollers : {"0", "1"}) EXPECT_EQ(run("large", pollers).out, "right\n") << pollers;
}

TEST_F(Exitless, AGsBaseOfTheGuestsOwn) {
  for (char const* pollers : {"0", "1"}) EXPECT_EQ(run("own_gs", pollers).out, "right\n") << pollers;
}

TEST_F(Exitless, ADamagedMailboxIsNoticed) {
  Outcome const o = run("damage", "1");
  EXPECT_TRUE(o.out.ends_with("right\n") || o.status == 139) << o.out;  // or the fault that it was told of
  EXPECT_GT(count(o, "mailbox_damaged"), 0U) << o.stats.dump();
}

}  // namespace
