// The users: a thread and a connection each, who browse, buy, and ask for faults.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "examples/bookstore/load/faults.hpp"
#include "examples/bookstore/load/model.hpp"

namespace bookstore::load {

struct Plan {
  std::string host = "127.0.0.1";
  int port = 8080;
  std::uint64_t users = 20;     // numbered from 1
  std::uint64_t requests = 50;  // of each user, look-ups after a fault not counted
  std::uint64_t seed = 1;
  std::string run;  // makes request ids unique among runs against one server
  std::set<std::uint64_t> buyers;
  std::map<std::uint64_t, PlannedFault> faults;
  std::chrono::milliseconds timeout{5000};         // of one request
  std::chrono::milliseconds patience{1000};        // for a server that refuses connections
  std::chrono::steady_clock::time_point deadline;  // of the run
};

// What became of the request that asked for a fault.
struct FaultOutcome {
  std::uint64_t user = 0;
  PlannedFault fault;
  int status = 0;                 // 0: connection lost
  std::optional<bool> committed;  // as told
  std::optional<bool> found;      // as looked up afterwards
};

struct UserReport {
  std::uint64_t user = 0;
  std::uint64_t answered = 0;
  std::uint64_t lost = 0;       // connections lost
  std::uint64_t disturbed = 0;  // requests without a fault of their own that failed on the server
  std::uint64_t sold_out = 0;
  std::uint64_t purchases = 0;  // acknowledged
  bool gave_up = false;         // the server was gone
  bool out_of_time = false;
  std::vector<double> latencies;  // ms, of answered requests
  std::optional<FaultOutcome> fault;
};

// Runs all users to their end, or to the deadline.
std::vector<UserReport> run_users(Plan const&, Model&);

// One user pauses in its purchase of book 0 at the point of `fault` until another bought the same
// book or fault.wait_ms went by, and then faults.
struct PairOutcome {
  std::vector<UserReport> users;
  bool met = false;  // the second purchase was sent while the first was paused
  std::uint64_t others_begun = 0, others_done = 0, waited_ms = 0;  // as the server counted
};
PairOutcome run_pair(Plan const&, PlannedFault const& fault, Model&);

}  // namespace bookstore::load
