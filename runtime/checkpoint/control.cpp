#include "runtime/checkpoint/control.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

namespace vmsrs::checkpoint {
namespace {

constexpr unsigned long long kMostEpochs = 1'000'000, kMostMs = 3'600'000;
constexpr size_t kMostLine = 64 << 10;
constexpr int kPatienceMs = 120'000;

// An address; a process id stands for the default name.
vmm::Result<socklen_t> address_of(std::string const& target, sockaddr_un& at) {
  at = {};
  at.sun_family = AF_UNIX;
  int pid = 0;
  auto const [end, error] = std::from_chars(target.data(), target.data() + target.size(), pid);
  std::string name = target;
  bool const number = error == std::errc() && end == target.data() + target.size() && pid > 0;
  if (number) name = '\0' + fmt::format("vmsrs-{}", pid);
  if (name.empty() || name.size() >= sizeof at.sun_path) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("{}: too long for a socket's path", target));
  }
  std::memcpy(at.sun_path, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (number ? 0 : 1));
}

bool send_all(int fd, void const* from, size_t size) {
  auto const* at = static_cast<char const*>(from);
  while (size != 0) {
    ssize_t const n = send(fd, at, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

// Up to and with the newline; false: too long, torn or too slow.
bool receive_line(int fd, std::string& line) {
  line.clear();
  while (line.size() < kMostLine) {
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, kPatienceMs) <= 0) return false;
    char c = 0;
    if (recv(fd, &c, 1, 0) != 1) return false;
    line += c;
    if (c == '\n') return true;
  }
  return false;
}

std::string failure(std::string const& why) {
  return nlohmann::json{{"ok", false}, {"error", why}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

}  // namespace

vmm::Result<std::unique_ptr<ControlSocket>> ControlSocket::open(std::string const& path,
                                                                std::function<vmm::Result<Epoch>(bool)> take) {
  std::unique_ptr<ControlSocket> control(new ControlSocket);
  control->path_ = path;
  control->take_ = std::move(take);
  sockaddr_un at{};
  auto size = address_of(path.empty() ? std::to_string(getpid()) : path, at);
  if (!size) return tl::unexpected(size.error());
  struct stat st {};
  if (!path.empty() && lstat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode)) {
    // Nobody listens there any more: left over by one that was killed.
    vmm::ScopedFd const probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(probe.get(), reinterpret_cast<sockaddr*>(&at), *size) != 0 && errno == ECONNREFUSED)
      unlink(path.c_str());
  }
  control->listener_ = vmm::ScopedFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (control->listener_.get() < 0) return vmm::fail_host("socket");
  mode_t const before = umask(0077);
  int const bound = bind(control->listener_.get(), reinterpret_cast<sockaddr*>(&at), *size);
  int const error = errno;
  umask(before);
  if (bound != 0) return vmm::fail_host(fmt::format("--control {}: bind", path), error);
  if (listen(control->listener_.get(), 8) != 0) return vmm::fail_host("listen");
  control->stop_ = vmm::ScopedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (control->stop_.get() < 0) return vmm::fail_host("eventfd");
  sigset_t all, mask;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &mask);
  control->thread_ = std::thread([c = control.get()] { c->serve(); });
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  return control;
}

ControlSocket::~ControlSocket() {
  if (thread_.joinable()) {
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }
  if (!path_.empty()) unlink(path_.c_str());
}

void ControlSocket::serve() {
  pthread_setname_np(pthread_self(), "control");
  for (;;) {
    pollfd wait[] = {{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (poll(wait, 2, -1) < 0 && errno != EINTR) return;
    if (wait[1].revents != 0) return;
    if (wait[0].revents == 0) continue;
    vmm::ScopedFd const connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection.get() >= 0) answer(connection.get());
  }
}

void ControlSocket::answer(int connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || (peer.uid != geteuid() && peer.uid != 0)) {
    std::string const no = failure("this guest belongs to another user");
    send_all(connection, no.data(), no.size());
    return;
  }
  timeval const slow{10, 0};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &slow, sizeof slow);
  std::string line;
  unsigned long long epochs = 0, every_ms = 0;
  if (!receive_line(connection, line) ||
      sscanf(line.c_str(), "vmsrs 1 checkpoint %llu %llu", &epochs, &every_ms) != 2 || epochs == 0 ||
      epochs > kMostEpochs || every_ms > kMostMs) {
    std::string const no = failure("no request that this vmsrs knows");
    send_all(connection, no.data(), no.size());
    return;
  }
  for (unsigned long long n = 0; n < epochs; ++n) {
    // Between two epochs: until the time has come, the asker has gone, or the guest ends.
    pollfd wait[] = {{stop_.get(), POLLIN, 0}, {connection, POLLRDHUP, 0}};
    if (n != 0 && poll(wait, 2, static_cast<int>(every_ms)) != 0) return;
    if (!send_epoch(connection, n == 0)) return;
  }
}

bool ControlSocket::send_epoch(int connection, bool full) {
  auto epoch = take_(full);
  if (!epoch) {
    std::string const no = failure(epoch.error().message);
    send_all(connection, no.data(), no.size());
    return false;
  }
  Cost const& cost = epoch->cost;
  std::string const yes = nlohmann::json{{"ok", true},
                                         {"bytes", epoch->bytes.size()},
                                         {"epoch", epoch->number},
                                         {"pause_ns", cost.pause_ns},
                                         {"stop_ns", cost.stop_ns},
                                         {"state_ns", cost.state_ns},
                                         {"memory_ns", cost.memory_ns},
                                         {"encode_ns", cost.encode_ns},
                                         {"pages_copied", cost.pages_copied},
                                         {"pages_kept", cost.pages_kept},
                                         {"threads", cost.threads},
                                         {"descriptors", cost.descriptors}}
                              .dump() +
                          "\n";
  return send_all(connection, yes.data(), yes.size()) && send_all(connection, epoch->bytes.data(), epoch->bytes.size());
}

vmm::Result<void> ask_for_checkpoint(std::string const& target, std::string const& file, uint64_t epochs,
                                     uint64_t every_ms, std::function<void(std::string const&)> const& heard) {
  sockaddr_un at{};
  auto size = address_of(target, at);
  if (!size) return tl::unexpected(size.error());
  vmm::ScopedFd const connection(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connection.get() < 0) return vmm::fail_host("socket");
  if (connect(connection.get(), reinterpret_cast<sockaddr*>(&at), *size) != 0) {
    if (errno == ECONNREFUSED || errno == ENOENT) {
      return vmm::fail(vmm::Errc::kBadOption,
                       fmt::format("{}: no guest of vmsrs answers there (is it the monitor's own process id?)", target),
                       errno);
    }
    return vmm::fail_host(fmt::format("{}: connect", target));
  }
  std::string const temporary = file + fmt::format(".{}.part", getpid());
  vmm::ScopedFd const out(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (out.get() < 0) return vmm::fail_host(temporary);
  auto const give_up = [&](vmm::Error error) {
    unlink(temporary.c_str());
    return tl::unexpected(std::move(error));
  };
  std::string const request = fmt::format("vmsrs 1 checkpoint {} {}\n", epochs, every_ms);
  if (!send_all(connection.get(), request.data(), request.size())) return give_up(vmm::host_error(target));
  std::vector<std::byte> chunk(1 << 20);
  for (uint64_t n = 0; n < epochs; ++n) {
    std::string line;
    if (!receive_line(connection.get(), line)) {
      return give_up({vmm::Errc::kHostCall, fmt::format("{}: the guest did not answer", target), 0});
    }
    auto const answer = nlohmann::json::parse(line, nullptr, false);
    if (!answer.is_object() || !answer.value("ok", false)) {
      std::string const why = answer.is_object() ? answer.value("error", "refused") : "an answer of the wrong shape";
      return give_up({vmm::Errc::kNotCheckpointable, why, 0});
    }
    for (auto left = answer.value("bytes", uint64_t{0}); left != 0;) {
      ssize_t const got = recv(connection.get(), chunk.data(), std::min<uint64_t>(left, chunk.size()), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return give_up({vmm::Errc::kHostCall, "the guest ended before its checkpoint was complete", 0});
      for (ssize_t done = 0; done < got;) {
        ssize_t const written = write(out.get(), chunk.data() + done, static_cast<size_t>(got - done));
        if (written <= 0) return give_up(vmm::host_error(file));
        done += written;
      }
      left -= static_cast<uint64_t>(got);
    }
    heard(line);
  }
  if (fsync(out.get()) != 0 || rename(temporary.c_str(), file.c_str()) != 0) return give_up(vmm::host_error(file));
  return {};
}

}  // namespace vmsrs::checkpoint
