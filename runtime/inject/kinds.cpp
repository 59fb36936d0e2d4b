#include "runtime/inject/kinds.hpp"

#include <algorithm>
#include <array>

namespace vmsrs::runtime::inject {
namespace {

constexpr std::array<KindInfo, kKinds> kAll{{
    {Kind::kNullRead, "null_read", "crash"},
    {Kind::kNullWrite, "null_write", "crash"},
    {Kind::kWildRead, "wild_read", "crash"},
    {Kind::kWildWrite, "wild_write", "crash"},
    {Kind::kNonCanonical, "noncanonical", "crash"},
    {Kind::kCodeWrite, "code_write", "crash"},
    {Kind::kDivide, "divide", "crash"},
    {Kind::kIllegal, "illegal", "crash"},
    {Kind::kPrivileged, "privileged", "crash"},
    {Kind::kBreakpoint, "breakpoint", "crash"},
    {Kind::kJumpNull, "jump_null", "crash"},
    {Kind::kJumpWild, "jump_wild", "crash"},
    {Kind::kAbort, "abort", "crash"},
    {Kind::kOverflow, "overflow", "crash"},
    {Kind::kLoop, "loop", "hang"},
    {Kind::kSleep, "sleep", "hang"},
    {Kind::kFlipRegister, "flip_register", "flip"},
    {Kind::kFlipStack, "flip_stack", "flip"},
    {Kind::kFlipMonitored, "flip_monitored", "flip"},
    {Kind::kFlipMemory, "flip_memory", "flip"},
    {Kind::kFlipLog, "flip_log", "flip"},
    {Kind::kRegister, "register", "corrupt"},
    {Kind::kSmashStack, "smash_stack", "corrupt"},
    {Kind::kStrayLogged, "stray_logged", "corrupt"},
    {Kind::kStrayUnlogged, "stray_unlogged", "corrupt"},
}};

// In the order of vmm::Registers.
constexpr std::array<std::string_view, kRegisterCount> kRegisterNames{"rax", "rbx", "rcx", "rdx", "rsi", "rdi",
                                                                      "rsp", "rbp", "r8",  "r9",  "r10", "r11",
                                                                      "r12", "r13", "r14", "r15", "rip", "rflags"};

}  // namespace

std::span<KindInfo const> kinds() {
  return kAll;
}

KindInfo const& info(Kind kind) {
  return *std::ranges::find(kAll, kind, &KindInfo::kind);
}

std::optional<Kind> kind_named(std::string_view name) {
  auto const* const found = std::ranges::find(kAll, name, &KindInfo::name);
  return found == kAll.end() ? std::nullopt : std::optional(found->kind);
}

std::string_view register_name(unsigned index) {
  return kRegisterNames.at(index);
}

std::optional<unsigned> register_named(std::string_view name) {
  auto const* const found = std::ranges::find(kRegisterNames, name);
  if (found == kRegisterNames.end()) return std::nullopt;
  return static_cast<unsigned>(found - kRegisterNames.begin());
}

}  // namespace vmsrs::runtime::inject
