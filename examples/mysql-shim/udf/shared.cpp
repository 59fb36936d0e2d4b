#include "examples/mysql-shim/udf/shared.hpp"

#include <mutex>
#include <srs/srs.hpp>

namespace udf {
namespace {

std::mutex lock;
srs::shared<long long> first{0};
srs::shared<long long> second{0};

}  // namespace

long long visit(bool crash) {
  std::lock_guard const hold(lock);
  first += 1;
  if (crash) {
    int* volatile nowhere = nullptr;
    *nowhere = 1;
  }
  second += 1;
  return second;
}

long long visits() {
  std::lock_guard const hold(lock);
  return first == second ? static_cast<long long>(first) : -1;
}

}  // namespace udf
