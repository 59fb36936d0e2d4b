// A server started for the length of a run.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <string>
#include <thread>
#include <tl/expected.hpp>
#include <vector>

namespace bookstore::load {

struct ServerExit {
  bool by_itself = false;  // before it was asked to
  int status = -1;         // exit status; -1 if a signal ended it
  int signal = 0;
  bool killed = false;     // it had to be
  double cpu_seconds = 0;  // of all processors, with those of its children that it waited for
  std::string text() const;
};

class SpawnedServer {
 public:
  // Starts the command and waits until it says "listening on http://HOST:PORT". Its output goes on
  // to stderr. It is ended with the thread that started it.
  static tl::expected<SpawnedServer, std::string> start(std::vector<std::string> const& command,
                                                        std::chrono::milliseconds patience);
  SpawnedServer(SpawnedServer&& other) noexcept;
  SpawnedServer& operator=(SpawnedServer&&) = delete;
  ~SpawnedServer();

  std::string const& host() const { return host_; }
  int port() const { return port_; }
  // Ends it by its process id: with `ask`, and with SIGKILL after `patience`.
  ServerExit stop(std::chrono::milliseconds patience, int ask = SIGTERM);

 private:
  SpawnedServer() = default;
  bool gone(int* status, std::chrono::milliseconds patience);

  pid_t pid_ = -1;
  int output_ = -1;
  std::string host_;
  int port_ = 0;
  std::jthread forward_;
};

}  // namespace bookstore::load
