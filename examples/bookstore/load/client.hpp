// One user's keep-alive connection to the bookstore.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "examples/bookstore/records.hpp"

namespace httplib {
class Client;
}

namespace bookstore::load {

struct Reply {
  int status = 0;        // 0: none, the connection was lost or refused
  bool refused = false;  // nobody listens
  nlohmann::json body;   // discarded() if it was no JSON
  std::string error;     // of status 0
  double milliseconds = 0;
  bool lost() const { return status == 0; }
};

// For one thread. Reconnects by itself at the next request after a loss; never repeats a request.
class Client {
 public:
  Client(std::string const& host, int port, std::uint64_t user, std::chrono::milliseconds timeout);
  ~Client();
  Reply get(std::string const& path);
  Reply post(std::string const& path, nlohmann::json const& body);

 private:
  template <class Call>
  Reply timed(Call call);
  std::unique_ptr<httplib::Client> http_;
};

struct State {
  std::vector<Row> rows;
  std::vector<Order> orders;
};
// The whole catalogue and the whole ledger; or why not. Take it while no purchase is under way.
tl::expected<State, std::string> read_state(Client&);

// Which server this is: a new process has a new one. Empty if none answers.
std::string instance_of(Client&);

}  // namespace bookstore::load
