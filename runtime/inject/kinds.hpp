// What can be injected into a guest's thread (docs/injection.md).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace vmsrs::runtime::inject {

enum class Kind : uint8_t {
  // The thread faults where it is, as if its next instruction were a call of code that does this.
  kNullRead,
  kNullWrite,
  kWildRead,      // an address where nothing is mapped
  kWildWrite,     // likewise
  kNonCanonical,  // a read
  kCodeWrite,     // a write to the code that it is running
  kDivide,
  kIllegal,
  kPrivileged,
  kBreakpoint,
  kJumpNull,
  kJumpWild,
  kAbort,  // SIGABRT to itself
  kOverflow,
  kLoop,
  kSleep,  // waits for ever
  // Something is changed, and the thread goes on with it.
  kFlipRegister,   // one bit of a general register, of rip or of the flags
  kFlipStack,      // one bit of the stack's 4 KiB above rsp
  kFlipMonitored,  // one bit of monitored memory
  kFlipMemory,     // one bit of any writable memory that is in use
  kFlipLog,        // one bit of libsrs's slot or ring of that thread
  kRegister,       // a general register gets a random value
  kSmashStack,     // 16 words from rsp on get random values
  // A wild write that hits memory, and a fault right behind it.
  kStrayLogged,   // a word of monitored memory, logged as the scope's own
  kStrayUnlogged  // the same, behind the log's back
};
inline constexpr unsigned kKinds = static_cast<unsigned>(Kind::kStrayUnlogged) + 1;

struct KindInfo {
  Kind kind;
  std::string_view name;   // in plans, logs and options
  std::string_view group;  // "crash", "hang", "flip", "corrupt": may stand for its kinds in options
};
[[nodiscard]] std::span<KindInfo const> kinds();
[[nodiscard]] KindInfo const& info(Kind kind);
[[nodiscard]] std::optional<Kind> kind_named(std::string_view name);

// The general registers that can be hit, by the names that plans use; the last two: rip and rflags.
inline constexpr unsigned kRegisterCount = 18;
[[nodiscard]] std::string_view register_name(unsigned index);
[[nodiscard]] std::optional<unsigned> register_named(std::string_view name);

}  // namespace vmsrs::runtime::inject
