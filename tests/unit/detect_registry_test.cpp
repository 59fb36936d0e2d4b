// links: vmsrs_detect
// The shared memory in which monitors and detectors meet: registration, deregistration, what is left by the dead.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/detect/proc.hpp"
#include "runtime/detect/registry.hpp"
#include "runtime/detect/verdict.hpp"

namespace {

using namespace vmsrs::runtime::detect;

class DetectRegistry : public testing::Test {
 protected:
  DetectRegistry() : name(fmt::format("vmsrs-test-{}", getpid())) {}
  ~DetectRegistry() override { Registry::remove(name); }
  std::unique_ptr<Registry> open() {
    auto registry = Registry::open(name);
    EXPECT_TRUE(registry) << registry.error().message;
    return std::move(*registry);
  }
  // Registers in a process that ends without a word.
  void register_and_die(std::string const& vm) {
    pid_t const child = fork();
    if (child == 0) {
      auto registry = Registry::open(name);
      bool const ok = registry && (*registry)->register_vm(vm, "/bin/x") != nullptr;
      _exit(ok ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
  }
  std::string name;
};

TEST_F(DetectRegistry, WhatOneRegistersAnotherFinds) {
  auto ours = open(), theirs = open();
  VmRecord* const vm = ours->register_vm("shop", "/usr/bin/shop");
  ASSERT_NE(vm, nullptr);
  ASSERT_TRUE(Registry::register_app(*vm, {.name = "web", .probe = "tcp://127.0.0.1:80"}));
  VmRecord* const seen = theirs->find("shop");
  ASSERT_NE(seen, nullptr);
  EXPECT_EQ(seen->program.get(), "/usr/bin/shop");
  EXPECT_EQ(seen->apps[0].name.get(), "web");
  EXPECT_EQ(pid_of(seen->owner.load()), getpid());
  EXPECT_TRUE(Registry::deregister_app(*vm, "web"));
  EXPECT_FALSE(Registry::deregister_app(*vm, "web"));
  Registry::deregister_vm(*vm);
  EXPECT_EQ(theirs->find("shop"), nullptr);
}

TEST_F(DetectRegistry, ANameThatALivingVmHasGetsASuffix) {
  auto registry = open();
  VmRecord* const first = registry->register_vm("shop", "");
  VmRecord* const second = registry->register_vm("shop", "");
  ASSERT_TRUE(first != nullptr && second != nullptr && first != second);
  EXPECT_EQ(second->name.get(), fmt::format("shop#{}", getpid()));
}

TEST_F(DetectRegistry, WhatADeadOneLeftIsSeenUntilItsNameComesAgain) {
  auto registry = open();
  register_and_die("shop");
  VmRecord* const dead = registry->find("shop");
  ASSERT_NE(dead, nullptr);
  EXPECT_FALSE(is_alive(dead->owner.load()));
  EXPECT_EQ(registry->register_vm("other", "") == dead, false);
  EXPECT_EQ(registry->register_vm("shop", ""), dead);
  EXPECT_EQ(dead->name.get(), "shop");
}

TEST_F(DetectRegistry, AFullTableTakesThePlacesOfTheDeadOnly) {
  auto registry = open();
  register_and_die("dead");
  for (unsigned i = 1; i < kMaxVms; ++i) ASSERT_NE(registry->register_vm(fmt::format("vm{}", i), ""), nullptr);
  EXPECT_NE(registry->register_vm("in-its-place", ""), nullptr);
  EXPECT_EQ(registry->find("dead"), nullptr);
  EXPECT_EQ(registry->register_vm("one-too-many", ""), nullptr);
}

TEST_F(DetectRegistry, BadNamesProbesAndStrangersMemoryAreRefused) {
  EXPECT_FALSE(Registry::open("a/b"));
  EXPECT_FALSE(Registry::open(""));
  EXPECT_FALSE(Registry::open(name + "-none", true));
  auto registry = open();
  VmRecord* const vm = registry->register_vm("shop", "");
  EXPECT_FALSE(Registry::register_app(*vm, {.name = "a b", .probe = ""}));
  EXPECT_FALSE(Registry::register_app(*vm, {.name = "a", .probe = "ftp://x"}));
  for (unsigned i = 0; i < kMaxApps; ++i) {
    ASSERT_TRUE(Registry::register_app(*vm, {.name = fmt::format("a{}", i), .probe = ""}));
  }
  EXPECT_FALSE(Registry::register_app(*vm, {.name = "one-too-many", .probe = ""}));
  Registry::deregister_app(*vm, "a1");
  EXPECT_FALSE(Registry::register_app(*vm, {.name = "a2", .probe = ""})) << "that name is there";
  EXPECT_TRUE(Registry::register_app(*vm, {.name = "a1", .probe = ""}));
  std::string const stranger = name + "-other";
  std::ofstream("/dev/shm/" + stranger) << "something else";
  auto const opened = Registry::open(stranger);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("another version"), std::string::npos);
  std::filesystem::remove("/dev/shm/" + stranger);
}

TEST_F(DetectRegistry, OnlyItsOwnerMayReadIt) {
  auto registry = open();
  struct stat st {};
  ASSERT_EQ(stat(("/dev/shm/" + name).c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(DetectRegistry, TheDoorbellWakesAnotherMapping) {
  auto ours = open(), theirs = open();
  ours->layout().listening = 1;
  uint32_t const seen = ours->layout().doorbell.load();
  EXPECT_EQ(ours->wait(seen, 1), seen) << "nobody rang";
  std::thread ringer([&] { theirs->ring(); });
  EXPECT_NE(ours->wait(seen, 20'000), seen);
  ringer.join();
  EXPECT_NE(ours->wait(seen, 20'000), seen) << "rung before the wait";
}

TEST_F(DetectRegistry, TextIsNeverHalfOfOneAndHalfOfAnother) {
  auto text = std::make_unique<SharedText<64>>();
  std::string const a(60, 'a'), b(60, 'b');
  text->set(a);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop.load()) text->set(a), text->set(b);
  });
  for (int i = 0; i < 20'000; ++i) {
    std::string const seen = text->get();
    ASSERT_TRUE(seen == a || seen == b) << seen;
  }
  stop = true;
  writer.join();
  text->set(std::string(1000, 'c'));
  EXPECT_EQ(text->get(), std::string(63, 'c'));
}

}  // namespace
