// What a run came to: for people and as JSON.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "examples/bookstore/load/model.hpp"
#include "examples/bookstore/load/spawn.hpp"
#include "examples/bookstore/load/users.hpp"

namespace bookstore::load {

struct Run {
  std::vector<UserReport> users;
  Finding finding;
  double seconds = 0;
  std::uint64_t seed = 0;
  bool alive = false;          // the server answered at the end
  std::uint64_t restarts = 0;  // another process answered than at the beginning
  std::string end_error;       // why the final state could not be read
  std::optional<ServerExit> exit;
  std::optional<PairOutcome> pair;
};

// Nobody without a fault of their own noticed anything, and all data is right.
bool passed(Run const&);
nlohmann::json to_json(Run const&);
void print(Run const&, std::FILE*);

}  // namespace bookstore::load
