// links: vmm
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <map>
#include <set>
#include <string>

#include "vmm/syscall.hpp"

namespace {

using vmm::Arg;
using vmm::SyscallRow;

std::vector<std::span<SyscallRow const>> families() {
  return {vmm::memory_rows(), vmm::thread_rows(), vmm::signal_rows(), vmm::time_rows(),   vmm::file_rows(),
          vmm::fd_rows(),     vmm::socket_rows(), vmm::poll_rows(),   vmm::process_rows()};
}

TEST(SyscallTable, EachCallHasOneRow) {
  std::map<int, std::string> by_number;
  std::set<std::string> names;
  for (auto const family : families()) {
    for (SyscallRow const& row : family) {
      EXPECT_TRUE(by_number.emplace(row.nr, row.name).second)
          << row.nr << ": " << row.name << " and " << by_number[row.nr];
      EXPECT_TRUE(names.insert(row.name).second) << row.name;
      EXPECT_NE(row.handler, nullptr) << row.name;
      EXPECT_EQ(vmm::SyscallTable::instance().find(row.nr), &row) << row.name;
    }
  }
  EXPECT_EQ(by_number.size(), vmm::SyscallTable::instance().rows().size());
  EXPECT_GE(by_number.size(), 300U);
}

TEST(SyscallTable, SizesNameAPlainNumberAndDenialsSayWhy) {
  for (SyscallRow const* row : vmm::SyscallTable::instance().rows()) {
    for (auto const& spec : row->args) {
      bool const buffer = spec.kind == Arg::kIn || spec.kind == Arg::kOut || spec.kind == Arg::kInOut;
      EXPECT_TRUE(!buffer || spec.size != 0) << row->name;
      if (spec.size >= 0) continue;
      auto const index = static_cast<size_t>(-spec.size - 1);
      ASSERT_LT(index, row->args.size()) << row->name;
      EXPECT_EQ(row->args[index].kind, Arg::kInt) << row->name;
    }
    EXPECT_TRUE(row->support == vmm::Support::kFull || *row->note != '\0') << row->name;
    if (row->handler != vmm::pass_through) continue;
    for (auto const& spec : row->args) {
      EXPECT_FALSE(spec.kind == Arg::kPath || spec.kind == Arg::kMsghdr || spec.kind == Arg::kAddr) << row->name;
    }
  }
}

TEST(SyscallTable, UnknownNumbersHaveNone) {
  EXPECT_EQ(vmm::SyscallTable::instance().find(335), nullptr);
  EXPECT_EQ(vmm::SyscallTable::instance().find(511), nullptr);
  EXPECT_EQ(vmm::SyscallTable::instance().find(~UINT64_C(0)), nullptr);
}

TEST(SyscallTable, WhatWouldReachTheMonitorIsNotPassed) {
  for (long const nr : {SYS_execve,
                        SYS_fork,
                        SYS_ptrace,
                        SYS_process_vm_readv,
                        SYS_process_vm_writev,
                        SYS_pidfd_getfd,
                        SYS_io_setup,
                        SYS_io_uring_setup,
                        SYS_bpf,
                        SYS_userfaultfd,
                        SYS_perf_event_open,
                        SYS_shmat,
                        SYS_setns,
                        SYS_unshare,
                        SYS_mount,
                        SYS_open_by_handle_at,
                        SYS_modify_ldt,
                        SYS_kexec_load,
                        SYS_init_module,
                        SYS_reboot,
                        SYS_swapon,
                        SYS_remap_file_pages,
                        SYS_rseq,
                        SYS_process_madvise}) {
    SyscallRow const* const row = vmm::SyscallTable::instance().find(static_cast<uint64_t>(nr));
    ASSERT_NE(row, nullptr) << nr;
    EXPECT_EQ(row->support, vmm::Support::kDenied) << row->name;
    EXPECT_NE(row->handler, vmm::pass_through) << row->name;
  }
}

}  // namespace
