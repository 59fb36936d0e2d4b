// links: vmsrs_report
// What a reader of the report relies on: keys, escaping, one line each, the last line; and that writing never stops
// anybody: a full disk, a pipe without reader, too many faults.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "runtime/report.hpp"
#include "runtime/report_format.hpp"

namespace vmsrs::runtime {
namespace {

using nlohmann::json;
using namespace std::string_literals;

FaultReport example() {
  FaultReport f;
  f.id = 3;
  f.when_ns = 1'763'687'000'123'456'789;
  f.thread = 1007;
  f.user = UINT64_MAX;
  f.kind = SRS_FAULT_STORE;
  f.signal = SIGSEGV;
  f.address = 0x10;
  f.access = "write";
  f.ip = 0x1040001234;
  f.instruction = "mov [rax+0x10], rdx";
  f.outcome = "landed";
  f.depth = 1;
  f.isolation = "hold";
  f.restore = "demand";
  f.policy = "land";
  f.words_polluted = 5;
  f.by_trap = 2;
  f.by_overwrite = 1;
  f.pages = 2;
  f.locks_released = 1;
  f.abort_us = 12.5;
  f.land_us = 20.25;
  f.exits = 4;
  Frame frame;
  frame.ip = f.ip;
  frame.module = "/srv/bookstore";
  frame.offset = 0x1234;
  frame.function = "shop::buy(unsigned int)";
  frame.function_offset = 0x34;
  f.backtrace = {frame};
  return f;
}

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "vmsrs-report-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(TempDir const&) = delete;
  TempDir& operator=(TempDir const&) = delete;
  [[nodiscard]] std::string file(char const* name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// Stands for stderr.
class Capture {
 public:
  Capture() : fd_(memfd_create("captured", MFD_CLOEXEC)) {}
  ~Capture() { close(fd_); }
  Capture(Capture const&) = delete;
  Capture& operator=(Capture const&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::string text() const {
    std::string out(static_cast<size_t>(lseek(fd_, 0, SEEK_END)), '\0');
    EXPECT_EQ(pread(fd_, out.data(), out.size(), 0), static_cast<ssize_t>(out.size()));
    return out;
  }

 private:
  int fd_;
};

std::vector<std::string> lines_of(std::string const& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> lines_in(std::string const& file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  return lines_of(text.str());
}

size_t count(std::string const& text, std::string const& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

std::unique_ptr<Reporter> open_reporter(std::string file, int error_fd) {
  auto reporter = Reporter::open({.file = std::move(file), .error_fd = error_fd});
  EXPECT_TRUE(reporter.has_value()) << reporter.error().message;
  return reporter ? std::move(*reporter) : nullptr;
}

TEST(ReportLine, HasTheDocumentedKeysWithTheirTypes) {
  std::string const line = json_line(example());
  ASSERT_EQ(line.find('\n'), line.size() - 1);
  json const j = json::parse(line);
  EXPECT_EQ(j.at("type"), "fault");
  EXPECT_EQ(j.at("id"), 3);
  EXPECT_EQ(j.at("when_ns").get<uint64_t>(), 1'763'687'000'123'456'789U);
  EXPECT_EQ(j.at("thread"), 1007);
  EXPECT_EQ(j.at("user").get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(j.at("kind"), "store");
  EXPECT_EQ(j.at("signal_name"), "SIGSEGV");
  EXPECT_EQ(j.at("address"), "0x10");
  EXPECT_EQ(j.at("ip"), "0x1040001234");
  EXPECT_EQ(j.at("words_polluted"), 5);
  EXPECT_EQ(j.at("abort_us"), 12.5);
  EXPECT_EQ(j.at("output_before_abort"), false);
  EXPECT_EQ(j.at("backtrace").at(0).at("function"), "shop::buy(unsigned int)");
  EXPECT_EQ(j.at("backtrace").at(0).at("offset"), "0x1234");
  EXPECT_EQ(line.find("{\"type\":\"fault\",\"id\":3,"), 0U) << "keys keep their order";
}

TEST(ReportLine, EveryKeyIsDescribedInTheDocumentation) {
  auto root = std::filesystem::read_symlink("/proc/self/exe").parent_path();  // the build lies within the project
  while (root.has_relative_path() && !exists(root / "docs/reports.md")) root = root.parent_path();
  std::ifstream stream(root / "docs/reports.md");
  ASSERT_TRUE(stream) << "docs/reports.md";
  std::stringstream text;
  text << stream.rdbuf();
  for (std::string const& line : {json_line(example()), json_line(RunSummary{}, 0)}) {
    json const j = json::parse(line);
    for (auto const& [key, value] : j.items()) {
      EXPECT_NE(text.str().find("`" + key + "`"), std::string::npos) << key;
    }
  }
}

TEST(ReportLine, WordsOfTheGuestCannotBreakIt) {
  FaultReport f = example();
  f.why = "quote \" back \\ newline \n nul \0 esc \x1b[2J bad utf8 \xff\xfe end"s;
  f.backtrace[0].module = "/tmp/odd \"name\"\n\xc3";
  std::string const line = json_line(f);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  json const j = json::parse(line);
  EXPECT_NE(j.at("why").get<std::string>().find("quote \" back \\ newline \n"), std::string::npos);
  EXPECT_NE(j.at("why").get<std::string>().find("\xef\xbf\xbd"), std::string::npos);
  EXPECT_EQ(paragraph(f).find('\x1b'), std::string::npos) << "must not steer the terminal";
  EXPECT_NE(paragraph(f).find("\\x1b"), std::string::npos);
  EXPECT_EQ(count(one_line(f), "\n"), 1U);
}

TEST(ReportLine, EveryKindHasANameOfItsOwn) {
  std::set<std::string> names;
  for (int kind = 0; kind < SRS_FAULT_KINDS; ++kind) names.insert(name_of(static_cast<enum srs_fault_kind>(kind)));
  EXPECT_EQ(names.size(), static_cast<size_t>(SRS_FAULT_KINDS));
  EXPECT_EQ(names.count("unknown"), 0U);
  EXPECT_STREQ(name_of(static_cast<enum srs_fault_kind>(9999)), "unknown");
}

TEST(ReportParagraph, SaysWhoWhatWhereHowItCameBackAndWhatDidNot) {
  FaultReport f = example();
  f.exposed = 1;
  f.output_before_abort = true;
  std::string const text = paragraph(f);
  for (char const* part :
       {"fault 3", "thread 1007", "store", "write of 0x10", "SIGSEGV", "shop::buy(unsigned int)+0x34 (bookstore)",
        "landed", "hold, demand, land", "5 words on 2 pages", "2 by trap", "1 overwritten", "2 not yet",
        "1 lock released", "1 committed scope had built on it", "output had left", "12.5 µs", "4 exits"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(ReportParagraph, RecursionIsOneLine) {
  FaultReport f = example();
  f.backtrace.assign(30, f.backtrace[0]);
  std::string const text = paragraph(f);
  EXPECT_EQ(count(text, "shop::buy"), 1U) << text;
  EXPECT_NE(text.find("×30"), std::string::npos) << text;
}

TEST(Reporter, AppendsOneLineForEachFaultAndTheSummaryLast) {
  TempDir const dir;
  std::string const file = dir.file("report.jsonl");
  std::ofstream(file) << "{\"earlier\":true}\n";
  {
    auto const reporter = open_reporter(file, -1);
    ASSERT_NE(reporter, nullptr);
    FaultReport f = example();
    reporter->report(f);
    f.kind = SRS_FAULT_DIVIDE;
    f.outcome = "not contained: no scope to land in";
    reporter->report(f);
    RunSummary s;
    s.program = "bookstore";
    s.kvm_exits = 77;
    s.totals = reporter->totals();
    reporter->summary(s);
  }
  auto const lines = lines_in(file);
  ASSERT_EQ(lines.size(), 4U);
  json const last = json::parse(lines[3]);
  EXPECT_EQ(json::parse(lines[0]).at("earlier"), true);
  EXPECT_EQ(json::parse(lines[1]).at("type"), "fault");
  EXPECT_EQ(last.at("type"), "summary");
  EXPECT_EQ(last.at("faults"), 2);
  EXPECT_EQ(last.at("faults_by_kind"), (json{{"store", 1}, {"division", 1}}));
  EXPECT_EQ(last.at("uncontained"), 1);
  EXPECT_EQ(last.at("words_polluted"), 10);
  EXPECT_EQ(last.at("by_trap"), 4);
  EXPECT_EQ(last.at("kvm_exits"), 77);
  EXPECT_EQ(last.at("lost_lines"), 0);
}

TEST(Reporter, SaysWhyAFileCannotBeOpened) {
  auto const reporter = Reporter::open({.file = "/nonexistent/folder/report"});
  ASSERT_FALSE(reporter.has_value());
  EXPECT_EQ(reporter.error().sys_errno, ENOENT);
  EXPECT_EQ(reporter.error().message, "--report /nonexistent/folder/report: open: No such file or directory");

  TempDir const dir;
  std::string const fifo = dir.file("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  auto const unread = Reporter::open({.file = fifo});
  ASSERT_FALSE(unread.has_value()) << "must not wait for a reader";
  EXPECT_EQ(unread.error().sys_errno, ENXIO);
}

TEST(Reporter, AFullDiskIsSaidOnceAndStopsNobody) {
  Capture const err;
  auto const reporter = open_reporter("/dev/full", err.fd());
  ASSERT_NE(reporter, nullptr);
  for (int i = 0; i < 3; ++i) reporter->report(example());
  reporter->summary({});
  EXPECT_EQ(reporter->lost_lines(), 4U);
  EXPECT_EQ(count(err.text(), "No space left on device"), 1U) << err.text();
  EXPECT_EQ(count(err.text(), "  outcome:"), 3U) << "the paragraphs still come";
}

TEST(Reporter, ALimitOnFileSizesKillsNobody) {
  TempDir const dir;
  Capture const err;
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  auto const reporter = open_reporter(dir.file("small"), -1);
  ASSERT_NE(reporter, nullptr);
  rlimit const small{.rlim_cur = 100, .rlim_max = old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  reporter->report(example());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  reporter->report(example());
  EXPECT_EQ(reporter->lost_lines(), 1U);
  auto const lines = lines_in(dir.file("small"));
  ASSERT_EQ(lines.size(), 2U) << "the line that was cut off does not damage the next";
  EXPECT_EQ(lines[0].size(), 100U);
  EXPECT_EQ(json::parse(lines[1]).at("id"), 3);
}

TEST(Reporter, APipeWhoseReaderIsGoneKillsNobody) {
  TempDir const dir;
  std::string const fifo = dir.file("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  int const reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  Capture const err;
  auto const reporter = open_reporter(fifo, err.fd());
  ASSERT_NE(reporter, nullptr);
  reporter->report(example());
  EXPECT_EQ(reporter->lost_lines(), 0U);
  close(reader);
  reporter->report(example());
  reporter->report(example());
  EXPECT_EQ(reporter->lost_lines(), 2U);
  EXPECT_EQ(count(err.text(), "Broken pipe"), 1U);
}

TEST(Reporter, ManyFaultsAreSaidInFullThenShortThenCounted) {
  TempDir const dir;
  Capture const err;
  auto opened =
      Reporter::open({.file = dir.file("all"), .error_fd = err.fd(), .paragraphs = 2, .lines = 3, .count_every = 5});
  ASSERT_TRUE(opened.has_value());
  FaultReport f = example();
  for (f.id = 1; f.id <= 16; ++f.id) (*opened)->report(f);
  std::string const text = err.text();
  EXPECT_EQ(count(text, "  outcome:"), 2U) << text;
  EXPECT_EQ(count(text, "vmsrs: fault "), 5U) << text;
  EXPECT_EQ(count(text, "10 faults so far"), 1U) << text;
  EXPECT_EQ(count(text, "15 faults so far"), 1U) << text;
  EXPECT_EQ(count(text, "so far"), 2U) << text;
  EXPECT_EQ(lines_in(dir.file("all")).size(), 16U) << "the file gets all of them";
}

TEST(Reporter, ThreadsDoNotMixWithinALine) {
  TempDir const dir;
  {
    auto const reporter = open_reporter(dir.file("all"), -1);
    ASSERT_NE(reporter, nullptr);
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        FaultReport f = example();
        f.thread = t;
        f.why = std::string(2000, static_cast<char>('a' + t));
        for (int i = 0; i < 50; ++i) reporter->report(f);
      });
    }
    threads.clear();
    EXPECT_EQ(reporter->totals().faults, 200U);
  }
  auto const lines = lines_in(dir.file("all"));
  ASSERT_EQ(lines.size(), 200U);
  for (auto const& line : lines) {
    json const j = json::parse(line);
    EXPECT_EQ(j.at("why").get<std::string>(), std::string(2000, static_cast<char>('a' + j.at("thread").get<int>())));
  }
}

}  // namespace
}  // namespace vmsrs::runtime
