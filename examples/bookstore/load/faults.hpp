// Which users ask for which fault: --faults user[:kind[:point[:wait_ms]]],...
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tl/expected.hpp>

#include "examples/bookstore/kinds.hpp"

namespace bookstore::load {

struct PlannedFault {
  Kind kind = Kind::store;
  Point at = Point::mid;
  unsigned wait_ms = 0;
};

// By user. The kind and the point may be "any": picked by the seed. Error: what is wrong with the
// list, in words.
tl::expected<std::map<std::uint64_t, PlannedFault>, std::string> parse_faults(std::string const& list,
                                                                              std::uint64_t seed);

}  // namespace bookstore::load
