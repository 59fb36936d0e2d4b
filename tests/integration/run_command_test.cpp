// links: vmm
// `vmsrs run` as its user meets it: the real program, its exit status and what it says. Guests: run_guest.c.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#ifndef RUN_VMSRS  // a sanitizer's build: its shadow memory lies where the guest's is
#define RUN_VMSRS ""
#define RUN_GUESTS ""
#endif

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr int kLineMs = 60'000;
constexpr unsigned kForeign = 65534;  // a user who owns nothing

std::string guest(std::string const& name) {
  return std::string(RUN_GUESTS) + "/" + name;
}

// A directory of the test's own, gone at its end.
class Scratch {
 public:
  Scratch() {
    char name[] = "/tmp/vmsrs-run-XXXXXX";
    if (mkdtemp(name) != nullptr) path_ = fs::canonical(name).string();
    EXPECT_FALSE(path_.empty());
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(Scratch const&) = delete;
  Scratch& operator=(Scratch const&) = delete;
  [[nodiscard]] std::string path() const { return path_; }
  // An executable file with these contents.
  [[nodiscard]] std::string file(std::string const& name, std::string const& bytes, mode_t mode = 0755) const {
    std::string at = path_ + "/" + name;
    std::ofstream(at, std::ios::binary) << bytes;
    EXPECT_EQ(chmod(at.c_str(), mode), 0);
    return at;
  }

 private:
  std::string path_;
};

std::string contents(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// vmsrs in a child, its standard streams in our hands.
class Vmsrs {
 public:
  // `before` runs in the child, before vmsrs does; false: the child gives up with status 99.
  explicit Vmsrs(
      Words const& words, std::function<bool()> const& before = [] { return true; }) {
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) abort();
    std::vector<char*> argv{const_cast<char*>(RUN_VMSRS)};
    for (auto const& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(err[1], 2);
      if (before()) execv(RUN_VMSRS, argv.data());
      _exit(99);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    in_ = in[1], out_ = out[0], err_ = err[0];
  }
  ~Vmsrs() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    for (int fd : {in_, out_, err_}) {
      if (fd >= 0) close(fd);
    }
  }
  Vmsrs(Vmsrs const&) = delete;
  Vmsrs& operator=(Vmsrs const&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void say(std::string const& text) const {
    EXPECT_EQ(write(in_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // One line of its output; empty: it has ended, or a minute passed.
  std::string line() const {
    std::string text;
    pollfd p{out_, POLLIN, 0};
    char c = 0;
    while (poll(&p, 1, kLineMs) == 1 && read(out_, &c, 1) == 1 && c != '\n') text += c;
    return text;
  }
  // Everything left of its streams, then its status as a shell shows it.
  int finish() {
    close(in_);
    in_ = -1;
    pollfd p[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    std::string* to[2] = {&out, &err};
    while (p[0].fd >= 0 || p[1].fd >= 0) {
      if (poll(p, 2, kLineMs) <= 0) break;
      for (int i = 0; i < 2; ++i) {
        char buffer[4096];
        if (p[i].fd < 0 || p[i].revents == 0) continue;
        ssize_t const n = read(p[i].fd, buffer, sizeof buffer);
        if (n > 0) to[i]->append(buffer, static_cast<size_t>(n));
        if (n <= 0) p[i].fd = -1;
      }
    }
    int s = 0;
    waitpid(pid_, &s, 0);
    pid_ = -1;
    return WIFEXITED(s) ? WEXITSTATUS(s) : 1000 + WTERMSIG(s);
  }
  std::string out, err;

 private:
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
};

struct Ran {
  int status = 0;
  std::string out, err;
};

Ran run(
    Words const& words, std::function<bool()> const& before = [] { return true; }) {
  Vmsrs vmsrs(words, before);
  int const status = vmsrs.finish();
  return {status, vmsrs.out, vmsrs.err};
}

Ran run_program(Words program) {
  program.insert(program.begin(), {"run", "--"});
  return run(program);
}

// The status, and every one of the words in what is said on stderr.
void expect_error(Ran const& ran, int status, Words const& words) {
  EXPECT_EQ(ran.status, status) << ran.err;
  EXPECT_LT(ran.err.size(), 1000u);
  for (auto const& word : words) EXPECT_NE(ran.err.find(word), std::string::npos) << word << " is not in: " << ran.err;
}

// A line of /proc/PID/status, as a number.
long status_line(pid_t pid, std::string const& key) {
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::stol(line.substr(key.size() + 1));
  }
  return -1;
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  for (auto const& entry : fs::directory_iterator("/proc")) {
    std::string const name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    auto const pid = static_cast<pid_t>(std::stol(name));
    if (status_line(pid, "PPid") == parent) children.push_back(pid);
  }
  return children;
}

bool ended(pid_t pid) {
  for (int i = 0; i < 500; ++i) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string const line{std::istreambuf_iterator<char>(file), {}};
    size_t const name_end = line.rfind(')');
    if (name_end == std::string::npos || line[name_end + 2] == 'Z') return true;
    usleep(10'000);
  }
  return false;
}

class RunCommand : public testing::Test {
 protected:
  void SetUp() override {
    if (*RUN_VMSRS == 0) GTEST_SKIP() << "not in a sanitizer's build";
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/kvm";
  }
  Scratch scratch;
};

TEST_F(RunCommand, EveryWayOfLinkingRuns) {
  for (char const* name : {"pie", "nopie", "static", "static_pie"}) {
    EXPECT_EQ(run_program({guest(name), "exit", "37"}).status, 37) << name;
  }
}

TEST_F(RunCommand, StatusIsTheProgramsOwn) {
  for (int status : {0, 1, 255}) {
    EXPECT_EQ(run_program({guest("pie"), "exit", std::to_string(status)}).status, status);
  }
  for (int sig : {SIGTERM, SIGKILL, SIGABRT, SIGSEGV}) {
    EXPECT_EQ(run_program({guest("pie"), "signal", std::to_string(sig)}).status, 128 + sig);
  }
}

TEST_F(RunCommand, ArgumentsEnvironmentDirectoryAndStreamsPass) {
  Vmsrs vmsrs({"run", "--", guest("pie"), "--report", "", "two words", "--"},
              [&] { return chdir(scratch.path().c_str()) == 0 && setenv("RUN_GUEST", "a b", 1) == 0; });
  vmsrs.say("from stdin");
  EXPECT_EQ(vmsrs.finish(), 0);
  EXPECT_EQ(vmsrs.out, "[0][--report][][two words][--] env a b cwd " + scratch.path() + " stdin from stdin\n");
  EXPECT_EQ(vmsrs.err, "to stderr\n");
}

TEST_F(RunCommand, TheProgramGetsVariablesThatTheMonitorHasNot) {
  Vmsrs vmsrs({"run", "--env", "RUN_GUEST=c=d", "--env", "OTHER=", "--", guest("pie")},
              [] { return setenv("RUN_GUEST", "a b", 1) == 0; });
  vmsrs.say("");
  EXPECT_EQ(vmsrs.finish(), 0);
  EXPECT_NE(vmsrs.out.find(" env c=d "), std::string::npos) << vmsrs.out;
  for (char const* entry : {"NAME", "=value"})
    expect_error(run({"run", "--env", entry, "--", guest("pie")}), 2, {"--env", entry, "NAME=VALUE"});
}

TEST_F(RunCommand, ScriptsRunThroughTheirInterpreter) {
  std::string const script = scratch.file("script", "#!" + guest("pie") + "  one argument\n");
  Ran const ran = run_program({script, "more"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_TRUE(ran.out.starts_with("[0][one argument][" + script + "][more]")) << ran.out;
}

TEST_F(RunCommand, WrongCommandLinesSayWhatIsWanted) {
  std::string const program = guest("pie");
  expect_error(run({}), 2, {"vmsrs: ", "--help"});
  expect_error(run({"run"}), 2, {"no program", "PROGRAM"});
  expect_error(run({"run", "--"}), 2, {"no program", "PROGRAM"});
  expect_error(run({"run", "--bogus", "--", program}), 2, {"--bogus", "unknown option"});
  expect_error(run({"run", "--bogus", program}), 2, {"--bogus"});
  expect_error(run({"run", "--store", "x", "--", program}), 2, {"--store", "x", "log, strict"});
  expect_error(run({"run", "--restore", "x", "--", program}), 2, {"--restore", "auto, demand, eager"});
  expect_error(run({"run", "--policy", "x", "--", program}), 2, {"--policy", "land", "unwind"});
  expect_error(run({"run", "--isolation", "x", "--", program}), 2, {"--isolation", "hold", "release", "track"});
  expect_error(run({"run", "--memory", "--", program}), 2, {"--memory"});
  expect_error(run({"run", "--strikes", "1", "--", program}), 2, {"--strikes", "--rescue=guarded"});
  expect_error(run({"run", "--rescue-adapter", "x.so", "--", program}), 2, {"--rescue-adapter", "--rescue=guarded"});
  for (char const* const option :
       {"--sweep-after", "--run-budget", "--run-faults", "--rescue-loop", "--rescue-probe"}) {
    expect_error(run({"run", option, "-1", "--", program}), 2, {option, "-1", "not in range"});
    expect_error(run({"run", option, "x", "--", program}), 2, {option});
  }
  for (char const* size : {"1M", "3G", "128G", "17179869185G", "99999999999999999999999G", "-2G", "many", "2", "G"}) {
    expect_error(run({"run", std::string("--memory=") + size, "--", program}), 2, {"--memory", "G"});
  }
  for (char const* option : {"--report", "--stats-json"}) {
    expect_error(run({"run", option, scratch.path() + "/none/file", "--", program}), 2,
                 {option, "/none/file", "No such file"});
  }
}

TEST_F(RunCommand, ProgramsThatCannotRunAreNamedWithTheCause) {
  expect_error(run_program({"/nonexistent/program"}), 127, {"/nonexistent/program", "No such file"});
  expect_error(run_program({"no-such-program"}), 127, {"no-such-program", "PATH"});
  expect_error(run_program({scratch.path()}), 126, {scratch.path(), "not a regular file"});
  expect_error(run_program({scratch.file("plain", contents(guest("pie")), 0644)}), 126, {"plain", "not executable"});
  expect_error(run_program({scratch.file("text", "hello\n")}), 126, {"text", "neither an ELF program nor a script"});
  expect_error(run_program({scratch.file("empty", "")}), 126, {"empty", "neither an ELF program nor a script"});
  expect_error(run_program({scratch.file("blank", "#!\n")}), 126, {"blank", "names no interpreter"});
  expect_error(run_program({scratch.file("lost", "#!/nonexistent/shell -x\n")}), 126,
               {"lost", "interpreter", "/nonexistent/shell", "No such file"});
  expect_error(run_program({guest("no_loader"), "exit", "0"}), 126,
               {"no_loader", "interpreter", "/nonexistent/loader", "No such file"});
}

TEST_F(RunCommand, DamagedAndForeignElfFilesAreNamedWithTheCause) {
  std::string const good = contents(guest("pie"));
  struct Patch {
    char const* name;
    size_t at;
    std::string bytes;
    char const* say;
  };
  // Offsets of Elf64_Ehdr.
  for (Patch const& patch : {Patch{"32-bit", 4, "\x01", "not a 64-bit x86 program"},
                             {"big-endian", 5, "\x02", "not a 64-bit x86 program"},
                             {"arm", 18, std::string("\xb7\0", 2), "not a 64-bit x86 program"},
                             {"object", 16, std::string("\x01\0", 2), "not a program"},
                             {"far-headers", 32, "\xff\xff\xff\xff", "damaged ELF file"},
                             {"odd-headers", 54, "\x07", "damaged ELF file"},
                             {"no-headers", 56, std::string("\0\0", 2), "damaged ELF file"}}) {
    std::string bytes = good;
    bytes.replace(patch.at, patch.bytes.size(), patch.bytes);
    expect_error(run_program({scratch.file(patch.name, bytes)}), 126, {patch.name, patch.say});
  }
  expect_error(run_program({scratch.file("cut", good.substr(0, 1000))}), 126, {"cut", "damaged ELF file"});
  expect_error(run_program({scratch.file("cut-head", good.substr(0, 20))}), 126, {"cut-head", "damaged ELF file"});
}

TEST_F(RunCommand, AMissingLibraryIsNamed) {
  std::string bytes = contents(guest("pie"));
  size_t const at = bytes.find("libc.so.6");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 9, "libq.so.6");
  expect_error(run_program({scratch.file("program", bytes), "exit", "0"}), 127,
               {"libq.so.6", "cannot open shared object"});
}

TEST_F(RunCommand, NoKvmIsSaid) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root for a mount namespace";
  auto const with_device = [](char const* instead) {
    return [instead] {
      return unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
             mount(instead, "/dev/kvm", nullptr, MS_BIND, nullptr) == 0;
    };
  };
  Words const words{"run", "--", guest("pie"), "exit", "0"};
  Ran const other = run(words, with_device("/dev/null"));
  if (other.status == 99) GTEST_SKIP() << "mounting is not allowed here";
  expect_error(other, 125, {"/dev/kvm", "not KVM", "KVM_GET_API_VERSION"});
  Ran const none = run(words, [] {
    return unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           mount("none", "/dev", "tmpfs", 0, nullptr) == 0;
  });
  expect_error(none, 125, {"/dev/kvm", "kvm"});
}

TEST_F(RunCommand, NoPermissionOnKvmIsSaid) {
  struct stat st {};
  ASSERT_EQ(stat("/dev/kvm", &st), 0);
  if (geteuid() != 0 || (st.st_mode & S_IWOTH) != 0) GTEST_SKIP() << "needs root, and a /dev/kvm not open to everybody";
  Ran const ran = run({"run", "--", "/bin/true"}, [] { return setgid(kForeign) == 0 && setuid(kForeign) == 0; });
  if (ran.status == 99) GTEST_SKIP() << "another user may not run vmsrs from here";
  expect_error(ran, 125, {"no permission", "/dev/kvm", "group"});
}

TEST_F(RunCommand, ClosedStreamsStayClosed) {
  for (int open_ones = 0; open_ones < 8; ++open_ones) {
    Ran const ran = run({"run", "--", guest("pie"), "streams"}, [open_ones] {
      for (int fd = 0; fd < 3; ++fd) {
        if ((open_ones & 1 << fd) == 0) close(fd);
      }
      return true;
    });
    EXPECT_EQ(ran.status, open_ones);
    EXPECT_EQ(ran.out + ran.err, "");
  }
}

TEST_F(RunCommand, ExhaustedMemoryIsTheGuestsToHandle) {
  for (char const* name : {"pie", "nopie"}) {
    Ran const ran = run({"run", "--memory", "2G", "--", guest(name), "memory"});
    EXPECT_EQ(ran.status, 0) << ran.err;
    EXPECT_EQ(ran.out, "ENOMEM\ngoes on\n");
    expect_error(ran, 0, {"vmsrs: ", "2048 MiB", "--memory"});
  }
}

TEST_F(RunCommand, TooManyThreadsAreTheGuestsToHandle) {
  Ran const ran = run({"run", "--", guest("pie"), "threads"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, "EAGAIN after at least 200\nagain\n");
  expect_error(ran, 0, {"vmsrs: ", "thread"});
}

TEST_F(RunCommand, ControlCEndsTheGuestAndLeavesNoProcess) {
  Vmsrs vmsrs({"run", "--", guest("pie"), "wait"});
  ASSERT_EQ(vmsrs.line(), "ready");
  auto const children = children_of(vmsrs.pid());
  ASSERT_FALSE(children.empty()) << "the store is a process of its own";
  kill(vmsrs.pid(), SIGINT);
  EXPECT_EQ(vmsrs.finish(), 128 + SIGINT);
  for (pid_t child : children) EXPECT_TRUE(ended(child)) << child;
}

TEST_F(RunCommand, AKilledMonitorLeavesNoProcess) {
  Vmsrs vmsrs({"run", "--", guest("pie"), "wait"});
  ASSERT_EQ(vmsrs.line(), "ready");
  auto const children = children_of(vmsrs.pid());
  ASSERT_FALSE(children.empty()) << "the store is a process of its own";
  kill(vmsrs.pid(), SIGKILL);
  EXPECT_EQ(vmsrs.finish(), 1000 + SIGKILL);
  for (pid_t child : children) EXPECT_TRUE(ended(child)) << child;
}

// The monitor after 10,000 threads is as large as after 1,000.
TEST_F(RunCommand, ThreadsThatCameAndWentLeaveNothing) {
  constexpr long kSlackKiB = 1024;
  Vmsrs vmsrs({"run", "--", guest("pie"), "cycles"});
  struct State {
    long kib = 0, threads = 0, fds = 0;
  };
  auto const state = [&] {
    auto const fds = std::distance(fs::directory_iterator(fmt::format("/proc/{}/fd", vmsrs.pid())), {});
    return State{status_line(vmsrs.pid(), "RssAnon"), status_line(vmsrs.pid(), "Threads"), fds};
  };
  ASSERT_EQ(vmsrs.line(), "1000");
  State const early = state();
  long const early_shared = status_line(vmsrs.pid(), "RssShmem");
  vmsrs.say("\n");
  ASSERT_EQ(vmsrs.line(), "10000");
  State const late = state();
  long const late_shared = status_line(vmsrs.pid(), "RssShmem");
  vmsrs.say("\n");
  EXPECT_EQ(vmsrs.finish(), 0);
  RecordProperty("rss_anon_kib", fmt::format("{} to {}", early.kib, late.kib));
  RecordProperty("rss_shmem_kib", fmt::format("{} to {}", early_shared, late_shared));
  EXPECT_GT(early.kib, 0);
  EXPECT_LE(late.kib, early.kib + kSlackKiB);
  EXPECT_LE(late_shared, early_shared + kSlackKiB);
  EXPECT_LE(late.fds, early.fds + 2);
  EXPECT_LE(late.threads, early.threads + 1);
}

// Threads of a monitor whose guest has made `more` threads, each by the one before: without a seccomp filter of the
// monitor's, and with one. Whoever runs the test may have a filter of his own.
std::pair<long, long> unfiltered_and_filtered(int more) {
  long const own = status_line(getpid(), "Seccomp_filters");
  Vmsrs vmsrs({"run", "--", guest("pie"), "chain", std::to_string(more)});
  EXPECT_EQ(vmsrs.line(), "ready");
  std::pair<long, long> counts;
  for (auto const& task : fs::directory_iterator(fmt::format("/proc/{}/task", vmsrs.pid()))) {
    auto const id = static_cast<pid_t>(std::stol(task.path().filename().string()));
    long const n = status_line(id, "Seccomp_filters") - own;
    EXPECT_LE(n, 1) << "a second one costs time in every call";
    EXPECT_TRUE(n == 0 || status_line(id, "Seccomp") == 2);
    ++(n == 0 ? counts.first : counts.second);
  }
  return counts;
}

TEST_F(RunCommand, ThreadsWithAVcpuHaveASeccompFilter) {
  auto const [few_without, few_with] = unfiltered_and_filtered(0);
  auto const [many_without, many_with] = unfiltered_and_filtered(9);
  EXPECT_GE(few_with, 1);
  EXPECT_GE(many_with, few_with + 9);
  EXPECT_EQ(many_without, few_without);
}

}  // namespace
