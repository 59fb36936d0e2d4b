#include "runtime/predict/metrics_sampler.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

namespace vmsrs::predict {
namespace {

constexpr std::array<char const*, 3> kFiles{"statm", "net/dev", "io"};
constexpr std::string_view kLeftOut = "replication";
constexpr int kSearchEvery = 60;

double now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// The whole file; an empty one if the process is gone (ESRCH).
Result<std::string> contents(int fd) {
  std::string text(16384, '\0');
  size_t filled = 0;
  for (;;) {
    ssize_t const got = pread(fd, text.data() + filled, text.size() - filled, static_cast<off_t>(filled));
    if (got < 0 && errno == ESRCH) return std::string();
    if (got < 0) return fail_host("/proc");
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (filled == text.size()) text.resize(2 * filled);
  }
  text.resize(filled);
  return text;
}

// The next number of `text`, which is cut behind it; 0 if there is none.
double take_number(std::string_view& text) {
  size_t const digit = text.find_first_of("0123456789");
  if (digit == std::string_view::npos) return text = {}, 0;
  unsigned long long value = 0;
  auto const [end, error] = std::from_chars(text.data() + digit, text.data() + text.size(), value);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return error == std::errc() ? static_cast<double>(value) : 0;
}

double value_of(std::string_view text, std::string_view key) {
  size_t const at = text.find(key);
  if (at == std::string_view::npos) return 0;
  text.remove_prefix(at + key.size());
  return take_number(text);
}

// "  eth0: RX-BYTES packets errs drop fifo frame compressed multicast TX-BYTES …", a line for each interface.
double network_bytes(std::string_view text) {
  double sum = 0;
  for (size_t colon = text.find(':'); colon != std::string_view::npos; colon = text.find(':')) {
    text.remove_prefix(colon + 1);
    std::string_view line = text.substr(0, text.find('\n'));
    sum += take_number(line);
    for (int skipped = 0; skipped < 7; ++skipped) take_number(line);
    sum += take_number(line);
  }
  return sum;
}

}  // namespace

Result<MetricsSampler> MetricsSampler::open(pid_t pid) {
  MetricsSampler sampler;
  sampler.pid_ = pid;
  for (size_t i = 0; i < kFiles.size(); ++i) {
    auto const path = fmt::format("/proc/{}/{}", pid, kFiles[i]);
    sampler.files_[i] = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (sampler.files_[i] < 0)
      return errno == ENOENT ? fail(fmt::format("no process {}", pid), ENOENT) : fail_host(path);
  }
  if (int const error = clock_getcpuclockid(pid, &sampler.clock_); error != 0) {
    return fail_host(fmt::format("the CPU clock of process {}", pid), error);
  }
  auto const counters = sampler.read_counters();
  if (!counters) return tl::unexpected(counters.error());
  if (!*counters) return fail(fmt::format("process {} has ended", pid), ESRCH);
  sampler.last_ = **counters;
  sampler.find_left_out();
  sampler.last_.left_out = sampler.left_out_cpu();
  sampler.until_search_ = 1;  // threads that are only being started get their names by then
  return sampler;
}

MetricsSampler::MetricsSampler(MetricsSampler&& other) noexcept
    : pid_(other.pid_),
      clock_(other.clock_),
      files_(std::exchange(other.files_, {-1, -1, -1})),
      left_out_(std::exchange(other.left_out_, {})),
      until_search_(other.until_search_),
      last_(other.last_) {}

MetricsSampler::~MetricsSampler() {
  for (int const fd : files_) {
    if (fd >= 0) close(fd);
  }
  close_left_out();
}

void MetricsSampler::close_left_out() {
  for (int const fd : left_out_) close(fd);
  left_out_.clear();
}

void MetricsSampler::find_left_out() {
  close_left_out();
  std::error_code error;
  for (auto const& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid_), error)) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name != kLeftOut) continue;
    int const fd = ::open((task.path() / "schedstat").c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) left_out_.push_back(fd);
  }
}

// Seconds; "RUN-NANOSECONDS wait-nanoseconds slices". A thread that has ended counts nothing.
double MetricsSampler::left_out_cpu() {
  double sum = 0;
  for (int const fd : left_out_) {
    auto const text = contents(fd);
    std::string_view rest = text ? std::string_view(*text) : std::string_view();
    sum += take_number(rest) * 1e-9;
  }
  return sum;
}

Result<std::optional<MetricsSampler::Counters>> MetricsSampler::read_counters() {
  static double const page = static_cast<double>(sysconf(_SC_PAGESIZE));
  Counters c;
  c.time = now(CLOCK_REALTIME);
  timespec cpu{};
  if (clock_gettime(clock_, &cpu) != 0) return std::nullopt;  // EINVAL: no such process any more
  c.cpu = static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) * 1e-9;
  std::array<std::string, kFiles.size()> text;
  for (size_t i = 0; i < kFiles.size(); ++i) {
    auto read = contents(files_[i]);
    if (!read)
      return fail(fmt::format("/proc/{}/{}: {}", pid_, kFiles[i], read.error().message), read.error().sys_errno);
    if (read->empty() && i != 1) return std::nullopt;  // net/dev belongs to the namespace, and may outlive the process
    text[i] = std::move(*read);
  }
  std::string_view statm = text[0];
  take_number(statm);
  c.memory = take_number(statm) * page;
  c.shared_memory = take_number(statm) * page;
  if (c.memory == 0) return std::nullopt;  // a process that has ended and was not waited for yet
  c.network = network_bytes(text[1]);
  c.disk = value_of(text[2], "\nread_bytes:") + value_of(text[2], "\nwrite_bytes:");
  return c;
}

Result<std::optional<Sample>> MetricsSampler::sample() {
  auto const read = read_counters();
  if (!read) return tl::unexpected(read.error());
  if (!*read) return std::nullopt;
  Counters const& c = **read;
  double const seconds = std::max(c.time - last_.time, 1e-6);  // the clock may have been set back
  double const left_out = left_out_cpu();
  auto const rate = [seconds](double before, double after) { return std::max(after - before, 0.0) / seconds; };
  Sample sample;
  sample.time = c.time;
  double const of_guest = c.cpu - last_.cpu - std::max(left_out - last_.left_out, 0.0);
  double const memory = left_out_.empty() ? c.memory : c.shared_memory;
  sample.metrics = {rate(0, of_guest), memory, rate(last_.network, c.network), rate(last_.disk, c.disk)};
  last_ = c;
  last_.left_out = left_out;
  if (--until_search_ <= 0) {
    find_left_out();
    last_.left_out = left_out_cpu();
    until_search_ = kSearchEvery;
  }
  return sample;
}

}  // namespace vmsrs::predict
