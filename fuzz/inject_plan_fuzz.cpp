// Plans of fault injection under libFuzzer: whatever a file says, it is a plan or a complaint, and what is a plan is
// the same again when it is written and read.
//
//   build/fuzz/bin/inject_plan_fuzz -max_total_time=60
#include <cstdlib>
#include <string_view>

#include "runtime/inject/plan.hpp"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  using namespace vmsrs::runtime::inject;
  auto const plan = parse_plan({reinterpret_cast<char const*>(data), size});
  if (!plan) {
    if (plan.error().message.empty()) std::abort();
    return 0;
  }
  auto const again = parse_plan(to_json(*plan));
  if (!again || to_json(*again) != to_json(*plan)) std::abort();
  return 0;
}
