#include "vmm/syscall_stub.hpp"

#include <cstring>

extern "C" {
extern std::byte const vmm_stub_start[], vmm_stub_scratch[], vmm_stub_posted[], vmm_stub_spinning[],
    vmm_stub_answered[], vmm_stub_return[], vmm_stub_end[];
extern std::byte const vmm_direct_start[], vmm_direct_scratch[], vmm_direct_posted[], vmm_direct_spinning[],
    vmm_direct_answered[], vmm_direct_end[];
}

namespace vmm {
namespace {

// mov $0x202,%r11d; sysretq: interrupts on, every arithmetic flag clear.
constexpr uint8_t kReturnFromRing0[] = {0x41, 0xbb, 0x02, 0x02, 0x00, 0x00, 0x48, 0x0f, 0x07};

// The labels of one stub, as offsets from its start.
struct Labels {
  uint64_t posted, spinning, answered;
};
Labels const kStub{static_cast<uint64_t>(vmm_stub_posted - vmm_stub_start),
                   static_cast<uint64_t>(vmm_stub_spinning - vmm_stub_start),
                   static_cast<uint64_t>(vmm_stub_answered - vmm_stub_start)};
Labels const kDirect{static_cast<uint64_t>(vmm_direct_posted - vmm_direct_start),
                     static_cast<uint64_t>(vmm_direct_spinning - vmm_direct_start),
                     static_cast<uint64_t>(vmm_direct_answered - vmm_direct_start)};

StubPlace place_in(Labels const& labels, uint64_t offset) {
  if (offset < labels.posted) return StubPlace::kNotPosted;
  if (offset < labels.spinning) return StubPlace::kPosted;
  if (offset < labels.answered) return StubPlace::kSpinning;
  return StubPlace::kAnswered;
}

}  // namespace

void write_stub(std::byte* to, bool ring0, PostableCalls const& calls) {
  static_assert(STUB_TABLE + STUB_CALLS / 8 <= STUB_DIRECT);
  std::memset(to, 0xcc, MB_STRIDE);
  std::memcpy(to, vmm_stub_start, static_cast<size_t>(vmm_stub_end - vmm_stub_start));
  std::memcpy(to + STUB_DIRECT, vmm_direct_start, static_cast<size_t>(vmm_direct_end - vmm_direct_start));
  if (ring0) std::memcpy(to + (vmm_stub_return - vmm_stub_start), kReturnFromRing0, sizeof kReturnFromRing0);
  std::memset(to + STUB_TABLE, 0, STUB_CALLS / 8);
  for (size_t i = 0; i < calls.size(); ++i) {
    if (calls[i]) to[STUB_TABLE + i / 8] |= std::byte(1U << (i % 8));
  }
}

StubPlace stub_place(uint64_t offset) noexcept {
  if (offset >= STUB_DIRECT) return place_in(kDirect, offset - STUB_DIRECT);
  if (offset < static_cast<uint64_t>(vmm_stub_scratch - vmm_stub_start)) return StubPlace::kEntered;
  return place_in(kStub, offset);
}

}  // namespace vmm
