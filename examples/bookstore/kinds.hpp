// The faults that a request can ask for, and where in it they strike; by name on the wire.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace bookstore {

enum class Kind {
  none,          // no fault: useful with a pause
  load,          // read of an unmapped address
  store,         // write to an unmapped address
  hole,          // access to a page that munmap took away
  call,          // jump to garbage
  noncanonical,  // access to a non-canonical address
  divide,        // integer division by zero
  illegal,       // illegal instruction
  stack,         // recursion without end
  abort,         // abort()
  assertion,     // a failed assert
  exception,     // an exception that nobody catches
  reported,      // the program's own word: srs_crash_suppression_os
  pointer,       // srs_ptr_check of a pointer into nothing
  deadline,      // a loop without end
  sleep,         // blocks in a system call for an hour
  deadlock,      // takes a mutex that it holds already
};

enum class Point {
  before,   // nothing done yet
  mid,      // in section 1: stock reduced, not yet reserved
  between,  // between the two sections: reserved, not yet ordered
  torn,     // in section 2: the ledger counts an order that is half written
  after,    // after section 2, before the answer
  sent,     // after the answer was written
};

std::optional<Kind> kind_named(std::string_view);
std::optional<Point> point_named(std::string_view);
std::string_view name_of(Kind);
std::string_view name_of(Point);
std::vector<std::string_view> kind_names();
std::vector<std::string_view> point_names();

}  // namespace bookstore
