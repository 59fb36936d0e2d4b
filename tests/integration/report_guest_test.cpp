// links: vmsrs_report vmm
// A real guest faults; its call chain is taken from outside, from its own memory, and named. The guest is this program
// again, started with --guest; it is linked against the C library as any program, and no frame pointers are kept.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <thread>

#include "runtime/backtrace.hpp"
#include "runtime/report_format.hpp"
#include "runtime/symbols.hpp"
#include "vmm/monitor.hpp"
#include "vmm/process.hpp"

#define OPTIMISED __attribute__((noinline, noclone, optimize("O2,omit-frame-pointer"), no_sanitize("all")))

namespace vmsrs::runtime {

volatile long sink;
long* volatile bad = reinterpret_cast<long*>(0x10);
void (*volatile nowhere)() = reinterpret_cast<void (*)()>(0x1234);

OPTIMISED void store_to_bad() {
  *bad = 7;
}
OPTIMISED void call_nowhere() {
  nowhere();
  sink = 1;
}
OPTIMISED void divide() {
  volatile long zero = 0;
  sink = sink / zero;
}
OPTIMISED void recurse() {
  volatile char buffer[4000];
  buffer[0] = 1;
  if (nowhere != nullptr) recurse();  // always
  sink = buffer[0];
}
OPTIMISED void work(char const* what) {
  volatile char buffer[300] = {};
  if (std::strcmp(what, "store") == 0) store_to_bad();
  if (std::strcmp(what, "call") == 0) call_nowhere();
  if (std::strcmp(what, "divide") == 0) divide();
  if (std::strcmp(what, "recurse") == 0) recurse();
  if (std::strcmp(what, "abort") == 0) std::abort();
  sink = buffer[1];
}

// Takes the first fault's report and lets the guest die of it.
class Taking final : public vmm::Hooks {
 public:
  vmm::FaultVerdict on_fault(vmm::Thread& thread, vmm::Fault const& fault) override {
    if (report.id != 0) return vmm::FaultVerdict::kPassOn;
    vmm::Registers const regs = thread.regs();
    auto const start = std::chrono::steady_clock::now();
    AddressSpaceView const view(thread.memory());
    StackCopy const stack(view, regs.rsp);
    auto const copied = std::chrono::steady_clock::now();
    report.id = 1;
    report.thread = thread.tid();
    report.kind = fault.kind == vmm::FaultKind::kDivide        ? SRS_FAULT_DIVIDE
                  : fault.kind == vmm::FaultKind::kFatalSignal ? SRS_FAULT_ABORT
                  : fault.access == vmm::FaultAccess::kExecute ? SRS_FAULT_FETCH
                                                               : SRS_FAULT_STORE;
    report.signal = fault.signal;
    report.address = fault.address.value;
    report.access = fault.access == vmm::FaultAccess::kWrite ? "write" : "";
    report.ip = regs.rip;
    report.outcome = "passed on";
    report.backtrace = backtrace(stack, regs);
    auto const taken = std::chrono::steady_clock::now();
    symbols.name(report.backtrace);
    auto const named = std::chrono::steady_clock::now();
    auto const us = [](auto d) { return std::chrono::duration<double, std::micro>(d).count(); };
    copy_us = us(copied - start);
    unwind_us = us(taken - copied);
    name_us = us(named - taken);
    return vmm::FaultVerdict::kPassOn;
  }

  FaultReport report;
  Symbols symbols;
  double copy_us = 0, unwind_us = 0, name_us = 0;
};

class ReportOfAGuest : public testing::Test {
 protected:
  void run(char const* what, int signal,
           std::string const& program = std::filesystem::read_symlink("/proc/self/exe").string()) {
    vmm::RunConfig config;
    config.program.argv = {program, "--guest", what};
    config.program.envp = {"PATH=/usr/bin"};
    auto memory = vmm::make_memory(config);
    ASSERT_TRUE(memory.has_value()) << memory.error().message;
    auto const status = vmm::run_guest(config, std::move(*memory), &taking);
    ASSERT_TRUE(status.has_value()) << status.error().message;
    EXPECT_EQ(status->signal, signal);
    ASSERT_EQ(taking.report.id, 1U) << "the fault was seen";
    std::cout << paragraph(taking.report) << "copy " << taking.copy_us << " µs, unwind " << taking.unwind_us
              << " µs, names " << taking.name_us << " µs\n";
  }
  void expect_chain(std::vector<std::string> const& wanted) {
    size_t next = 0;
    for (auto const& frame : taking.report.backtrace) {
      if (next < wanted.size() && frame.function.find(wanted[next]) != std::string::npos) ++next;
    }
    EXPECT_EQ(next, wanted.size()) << "missing: " << (next < wanted.size() ? wanted[next] : "");
  }
  Taking taking;
};

TEST_F(ReportOfAGuest, BadStore) {
  run("store", SIGSEGV);
  EXPECT_NE(taking.report.backtrace[0].function.find("store_to_bad"), std::string::npos);
  expect_chain({"store_to_bad", "work", "main"});
}

// As a user starts it: the path is relative, and a link. Its code must be found all the same.
TEST_F(ReportOfAGuest, ProgramNamedByARelativeLink) {
  namespace fs = std::filesystem;
  fs::path const before = fs::current_path(), program = fs::read_symlink("/proc/self/exe");
  std::string dir = (fs::temp_directory_path() / "vmsrs-report-XXXXXX").string();
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  fs::create_symlink(program, fs::path(dir) / "link");
  fs::current_path(dir);
  run("store", SIGSEGV, "./link");
  fs::current_path(before);
  fs::remove_all(dir);
  ASSERT_FALSE(taking.report.backtrace.empty());
  EXPECT_EQ(taking.report.backtrace[0].module, program.string());
  EXPECT_NE(taking.report.backtrace[0].build_id, "");
  expect_chain({"store_to_bad", "work", "main"});
}

TEST_F(ReportOfAGuest, CallToNowhere) {
  run("call", SIGSEGV);
  EXPECT_EQ(taking.report.backtrace[0].ip, 0x1234U);
  EXPECT_NE(taking.report.backtrace[1].function.find("call_nowhere"), std::string::npos);
  expect_chain({"call_nowhere", "work", "main"});
}

TEST_F(ReportOfAGuest, Division) {
  run("divide", SIGFPE);
  expect_chain({"divide", "work", "main"});
}

TEST_F(ReportOfAGuest, StackOverflow) {
  run("recurse", SIGSEGV);
  EXPECT_EQ(taking.report.backtrace.size(), kMaxFrames);
  expect_chain({"recurse", "recurse", "recurse"});
}

TEST_F(ReportOfAGuest, AbortThroughTheCLibrary) {
  run("abort", SIGABRT);
  expect_chain({"abort", "work", "main"});
}

}  // namespace vmsrs::runtime

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--guest") == 0) {
    vmsrs::runtime::work(argv[2]);
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
