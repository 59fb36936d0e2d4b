#include "runtime/rescue/fault_chain.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/backtrace.hpp"
#include "runtime/guest_view.hpp"

namespace vmsrs::runtime {
namespace {

constexpr size_t kFrames = 200, kPadFrames = 64, kLongestPeriod = 8, kPeriods = 6;

// The guest's memory with the stack as it was at the read.
class AtRead final : public GuestView {
 public:
  AtRead(GuestView const& below, LandingPad const& pad) : below_(below), pad_(pad) {}
  bool read(uint64_t addr, void* to, size_t size) const override {
    uint64_t const low = pad_.stack_low(), offset = addr - low;
    if (addr < low || offset >= pad_.stack().size()) return below_.read(addr, to, size);
    if (size > pad_.stack().size() - offset) return false;
    std::memcpy(to, pad_.stack().data() + offset, size);
    return true;
  }
  [[nodiscard]] std::vector<Mapping> const& mappings() const override { return below_.mappings(); }

 private:
  GuestView const& below_;
  LandingPad const& pad_;
};

// An endless recursion: the last frames repeat. The registers of the frame where it stops repeating.
bool skip_recursion(GuestView const& view, std::vector<Frame> const& frames, BacktraceEnd& end) {
  for (size_t period = 1; period <= kLongestPeriod; ++period) {
    size_t const n = frames.size(), span = period * kPeriods;
    if (n <= span) return false;
    uint64_t const stride = frames[n - 1].sp - frames[n - 1 - period].sp;
    bool repeats = stride != 0 && stride % 8 == 0;
    for (size_t i = n - span; i < n && repeats; ++i)
      repeats = frames[i].ip == frames[i - period].ip && frames[i].sp - frames[i - period].sp == stride;
    if (!repeats) continue;
    uint64_t sp = frames.back().sp, ip = 0;
    while (view.read(sp - 8 + stride, &ip, sizeof ip) && ip == frames.back().ip) sp += stride;
    // From one round before: its frames give the registers that the last one's caller expects.
    if (sp - frames.back().sp < stride) return false;
    sp -= stride;
    end.registers.rbp += sp - frames.back().sp;
    end.registers.rsp = sp;
    end.registers.rip = frames.back().ip;
    end.is_return = true;
    return true;
  }
  return false;
}

}  // namespace

FaultChain fault_chain(vmm::Thread& thread, LandingPad const& pad, Symbols& symbols) {
  AddressSpaceView const view(thread.memory());
  AtRead const then(view, pad);
  std::vector<std::pair<uint64_t, uint64_t>> callers;
  for (Frame const& frame : backtrace(then, pad.registers(), kPadFrames)) callers.emplace_back(frame.ip, frame.sp);

  FaultChain chain;
  auto const add = [&](std::vector<Frame> frames) {
    for (Frame& frame : frames) {
      if (std::ranges::find(callers, std::pair{frame.ip, frame.sp}) != callers.end()) {
        chain.complete = true;
        break;
      }
      chain.frames.push_back(std::move(frame));
    }
  };
  BacktraceEnd end;
  auto frames = backtrace(view, thread.regs(), kFrames, &end);
  bool const cut = frames.size() == kFrames && skip_recursion(view, frames, end);
  add(std::move(frames));
  if (cut && !chain.complete) add(backtrace(view, end.registers, kFrames, nullptr, end.is_return));
  symbols.name(chain.frames);
  return chain;
}

}  // namespace vmsrs::runtime
