// links: vmsrs_runtime
// The system calls of a thread that runs restricted: what its table of rules says, and that docs/restricted-run.md says
// the same.
#include "runtime/call_filter.hpp"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "vmm/syscall.hpp"

namespace {

using vmsrs::runtime::call_rules;
using vmsrs::runtime::CallAnswer;
using vmsrs::runtime::CallRule;

TEST(CallFilter, HasOneRuleForACallInOrder) {
  auto const rules = call_rules();
  ASSERT_FALSE(rules.empty());
  for (size_t i = 1; i < rules.size(); ++i) EXPECT_LT(rules[i - 1].nr, rules[i].nr);
}

// The handlers know the main memory only.
TEST(CallFilter, LetsNoCallWithAnArgumentReachItsHandler) {
  for (CallRule const& rule : call_rules()) {
    if (rule.answer != CallAnswer::kTrue) continue;
    vmm::SyscallRow const* row = vmm::SyscallTable::instance().find(rule.nr);
    ASSERT_NE(row, nullptr) << rule.nr;
    for (vmm::ArgSpec const& arg : row->args) EXPECT_EQ(arg.kind, vmm::Arg::kNone) << row->name;
  }
}

TEST(CallFilter, OfTheCallsThatChangeSomethingNoneIsMade) {
  for (uint16_t nr :
       {SYS_open,         SYS_openat,       SYS_unlink, SYS_rename,   SYS_mkdir, SYS_socket,    SYS_connect,
        SYS_accept,       SYS_accept4,      SYS_dup,    SYS_dup2,     SYS_fcntl, SYS_ftruncate, SYS_kill,
        SYS_rt_sigaction, SYS_timer_create, SYS_pipe2,  SYS_eventfd2, SYS_prctl, SYS_arch_prctl}) {
    EXPECT_EQ(std::ranges::count(call_rules(), nr, &CallRule::nr), 0) << nr << ": refused, as all that have no rule";
  }
  for (CallRule const& rule : call_rules()) {
    if (rule.answer != CallAnswer::kValue) continue;
    EXPECT_LE(rule.value, 0) << rule.nr;
    EXPECT_GT(rule.value, -4096) << rule.nr;
  }
}

TEST(CallFilter, IsWhatThePageSays) {
  auto root = std::filesystem::read_symlink("/proc/self/exe").parent_path();  // the build lies within the project
  while (root.has_relative_path() && !exists(root / "docs/restricted-run.md")) root = root.parent_path();
  std::ifstream file(root / "docs/restricted-run.md");
  std::string const page{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(page.empty());
  for (CallRule const& rule : call_rules()) {
    vmm::SyscallRow const* row = vmm::SyscallTable::instance().find(rule.nr);
    if (row == nullptr) continue;  // ENOSYS before it comes to the filter
    EXPECT_NE(page.find("`" + std::string(row->name) + "`"), std::string::npos) << row->name;
  }
}

}  // namespace
