// Each request in a scope of its own (ld's --wrap).
#include <srs/srs.h>

#include "bench/recovery/crash.hpp"

extern "C" void __real_run_request(Mix* mix, int number);
extern "C" void __real_run_crashing(Mix* mix, int number);

namespace {
struct Request {
  Mix* mix;
  int number;
};
}  // namespace

extern "C" void __wrap_run_request(Mix* mix, int number) {
  Request request{mix, number};
  srs_request(
      [](void* raw) {
        auto* const r = static_cast<Request*>(raw);
        __real_run_request(r->mix, r->number);
      },
      &request, nullptr);
}
extern "C" void __wrap_run_crashing(Mix* mix, int number) {
  Request request{mix, number};
  srs_request(
      [](void* raw) {
        auto* const r = static_cast<Request*>(raw);
        __real_run_crashing(r->mix, r->number);
      },
      &request, nullptr);
}
