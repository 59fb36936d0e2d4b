#include "bench/recovery/crash.hpp"

#include "bench/wrapped/work.hpp"

void run_crashing(Mix* mix, int number) {
  run_request(mix, number);
  *static_cast<int volatile*>(nullptr) = number;
}
