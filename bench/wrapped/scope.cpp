// Each loop and each request in a scope of its own (ld's --wrap).
#include <srs/srs.h>

#include "bench/wrapped/work.hpp"

extern "C" void __real_run_loop(Loops* loops, int which, int repeat);
extern "C" void __real_run_request(Mix* mix, int number);

namespace {
struct Loop {
  Loops* loops;
  int which, repeat;
};
struct Request {
  Mix* mix;
  int number;
};
}  // namespace

extern "C" void __wrap_run_loop(Loops* loops, int which, int repeat) {
  Loop loop{loops, which, repeat};
  srs_request(
      [](void* raw) {
        auto* const l = static_cast<Loop*>(raw);
        __real_run_loop(l->loops, l->which, l->repeat);
      },
      &loop, nullptr);
}
extern "C" void __wrap_run_request(Mix* mix, int number) {
  Request request{mix, number};
  srs_request(
      [](void* raw) {
        auto* const r = static_cast<Request*>(raw);
        __real_run_request(r->mix, r->number);
      },
      &request, nullptr);
}
