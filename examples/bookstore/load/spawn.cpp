#include "examples/bookstore/load/spawn.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace bookstore::load {
namespace {

using clock = std::chrono::steady_clock;

std::string call_failed(char const* call) {
  return std::string(call) + ": " + std::strerror(errno);
}

ServerExit exit_from(int status) {
  ServerExit exit;
  if (WIFEXITED(status)) exit.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) exit.signal = WTERMSIG(status);
  return exit;
}

double seconds(timeval time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

std::string ServerExit::text() const {
  std::string text = signal != 0 ? std::string("signal ") + std::to_string(signal) + " (" + strsignal(signal) + ")"
                                 : "exit status " + std::to_string(status);
  if (by_itself) text += ", before it was asked to";
  if (killed) text += ", after a polite signal had no effect";
  return text;
}

SpawnedServer::SpawnedServer(SpawnedServer&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      host_(std::move(other.host_)),
      port_(other.port_),
      forward_(std::move(other.forward_)) {}

SpawnedServer::~SpawnedServer() {
  if (pid_ > 0) stop(std::chrono::seconds(1));
}

tl::expected<SpawnedServer, std::string> SpawnedServer::start(std::vector<std::string> const& command,
                                                              std::chrono::milliseconds patience) {
  int out[2], failed[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(failed, O_CLOEXEC) != 0) return tl::unexpected(call_failed("pipe2"));
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (auto const& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t const parent = getpid();
  pid_t const pid = fork();
  if (pid < 0) return tl::unexpected(call_failed("fork"));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(127);
    dup2(out[1], STDOUT_FILENO);
    execvp(argv[0], argv.data());
    int const error = errno;
    [[maybe_unused]] ssize_t const written = write(failed[1], &error, sizeof error);
    _exit(127);
  }
  close(out[1]);
  close(failed[1]);
  SpawnedServer server;
  server.pid_ = pid;
  server.output_ = out[0];
  int error = 0;
  bool const exec_failed = read(failed[0], &error, sizeof error) == sizeof error;
  close(failed[0]);
  if (exec_failed) {
    int status = 0;
    waitpid(pid, &status, 0);
    server.pid_ = -1;
    close(out[0]);
    return tl::unexpected("cannot run " + command[0] + ": " + std::strerror(error));
  }

  std::string text;
  auto const until = clock::now() + patience;
  std::string const mark = "listening on http://";
  for (;;) {
    std::size_t const at = text.find(mark);
    std::size_t const end = at == std::string::npos ? at : text.find('\n', at);
    if (end != std::string::npos) {
      std::string const where = text.substr(at + mark.size(), end - at - mark.size());
      std::size_t const colon = where.rfind(':');
      server.host_ = where.substr(0, colon);
      server.port_ = colon == std::string::npos ? 0 : std::atoi(where.c_str() + colon + 1);
      break;
    }
    auto const left = std::chrono::duration_cast<std::chrono::milliseconds>(until - clock::now()).count();
    pollfd ready{out[0], POLLIN, 0};
    char buffer[4096];
    ssize_t n = -1;
    if (left > 0 && poll(&ready, 1, static_cast<int>(left)) > 0) n = read(out[0], buffer, sizeof buffer);
    if (n < 0 && left > 0 && errno == EINTR) continue;
    if (n <= 0) {
      ServerExit exit = server.stop(std::chrono::seconds(1));
      close(out[0]);
      if (n == 0) return tl::unexpected("the server ended before it listened: " + exit.text());
      return tl::unexpected("the server did not listen within " + std::to_string(patience.count()) + " ms");
    }
    text.append(buffer, static_cast<std::size_t>(n));
    std::fwrite(buffer, 1, static_cast<std::size_t>(n), stderr);
  }
  // A full pipe would stop the server. What a child of the server that outlives it writes is nobody's any more.
  server.forward_ = std::jthread([fd = out[0]](std::stop_token const& gone) {
    char buffer[4096];
    for (;;) {
      bool const last = gone.stop_requested();
      pollfd ready{fd, POLLIN, 0};
      if (poll(&ready, 1, last ? 0 : 50) == 0) {
        if (last) break;
        continue;
      }
      ssize_t const n = read(fd, buffer, sizeof buffer);
      if (n > 0) std::fwrite(buffer, 1, static_cast<std::size_t>(n), stderr);
      if (n == 0 || (n < 0 && errno != EINTR)) break;
    }
    close(fd);
  });
  return server;
}

bool SpawnedServer::gone(int* status, std::chrono::milliseconds patience) {
  auto const until = clock::now() + patience;
  for (;;) {
    if (waitpid(pid_, status, WNOHANG) == pid_) return true;
    if (clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

ServerExit SpawnedServer::stop(std::chrono::milliseconds patience, int ask) {
  int status = 0;
  ServerExit exit;
  // A dying server may still be writing its core or its report when its connections are gone.
  if (gone(&status, std::chrono::milliseconds(0))) {
    exit = exit_from(status);
    exit.by_itself = true;
  } else {
    kill(pid_, ask);
    bool const ended = gone(&status, patience);
    if (!ended) {
      kill(pid_, SIGKILL);
      waitpid(pid_, &status, 0);
    }
    exit = exit_from(status);
    exit.killed = !ended;
    // Whoever dies of anything but the stop did so by itself.
    exit.by_itself = ended && exit.signal != 0 && exit.signal != ask;
  }
  pid_ = -1;
  rusage used{};
  if (getrusage(RUSAGE_CHILDREN, &used) == 0) exit.cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
  return exit;
}

}  // namespace bookstore::load
