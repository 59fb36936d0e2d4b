// What is said of one fault: facts only, filled by the recovery, printed by runtime/report.cpp as one JSON line and one
// readable paragraph.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "srs/abi.h"

namespace vmsrs::runtime {

struct Frame {
  uint64_t ip = 0;
  uint64_t sp = 0;       // the stack pointer there
  std::string module;    // path of the ELF file, or [vdso]…; empty: unknown
  uint64_t offset = 0;   // in the module (virtual address as linked)
  std::string function;  // demangled; empty: no symbol
  uint64_t function_offset = 0;
  bool is_return = false;  // ip is a return address: the call lies just before it
  bool guessed = false;    // found by a scan of the stack, not by call frame information
  std::string build_id;    // of the module as the guest has it, lower-case hex; empty: none
};

// Something that the scope did outside memory.
struct Effect {
  std::string call;
  int fd = -1;
  std::string path;               // of the file, where it has one
  uint64_t offset = 0, size = 0;  // bytes of the file; size 0: no matter of bytes
  bool undone = false;
};

struct FaultReport {
  uint64_t id = 0;       // 1 for the run's first fault
  uint64_t when_ns = 0;  // CLOCK_REALTIME
  int thread = 0;        // virtual tid
  uint64_t user = 0;     // srs_options.user
  enum srs_fault_kind kind = SRS_FAULT_NONE;
  int signal = 0;        // what an unprotected process would have died of
  uint64_t address = 0;  // of the access, 0 where there is none
  std::string access;    // "read", "write", "execute", ""
  uint64_t ip = 0;
  std::string instruction;       // disassembled; empty: not readable
  std::string why;               // the program's own words (abort message, exception type…)
  std::vector<Frame> backtrace;  // innermost first

  std::string outcome;  // "landed", "unwound", "run", "rescued", "passed on", "not contained: …" (and then why)
  [[nodiscard]] bool contained() const { return outcome != "passed on" && !outcome.starts_with("not contained"); }
  unsigned depth = 0;  // scopes live in the thread at the fault
  std::string isolation, restore, policy;
  uint64_t words_polluted = 0, words_spliced = 0, pages = 0;
  uint64_t by_eager = 0, by_trap = 0, by_overwrite = 0, by_sweep = 0;
  uint64_t exposed = 0;     // committed scopes that built on aborted values
  uint64_t dependents = 0;  // live ones: aborted too
  uint64_t damaged_records = 0, unordered_records = 0;
  uint64_t blocks_freed = 0, locks_released = 0, fds_closed = 0, lock_cycles = 0;
  uint64_t fds_reopened = 0;           // closed by the scope, and back under their numbers
  uint64_t files_undone = 0;           // writes to files taken back (srs_file)
  uint64_t events_returned = 0;        // reads of eventfds taken back
  uint64_t effects_left = 0;           // what it did outside memory and could not be taken back
  std::vector<Effect> effects;         // both, newest first
  std::vector<std::string> not_whole;  // what else could not be put right
  uint64_t wild_undone = 0,
           unexplained = 0;              // words of logged ranges that no logged store had changed: put back, or not
  std::vector<uint64_t> wild_addresses;  // of both; the first few
  bool output_before_abort = false;
  bool tainted = false;              // faulted inside the allocator or the library
  double abort_us = 0, land_us = 0;  // from the exit to: memory right (eager) or pages away; the thread lands
  // Policy `run`: why the thread went no further ("": it was not to run), faults that it went over (the first
  // included), calls not answered truthfully, and how long it ran.
  std::string run_end;
  uint64_t run_faults = 0, run_calls = 0;
  double run_us = 0;
  uint64_t exits = 0;  // of the faulting thread from its fault, that one included, until it has landed
};

char const* name_of(enum srs_fault_kind kind);      // "load", "store", "stack overflow"…
char const* name_of(enum srs_isolation isolation);  // "hold", "release", "track"; any other value: "unknown"

}  // namespace vmsrs::runtime
