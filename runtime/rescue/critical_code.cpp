#include "runtime/rescue/critical_code.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace vmsrs::runtime {
namespace {

using Words = std::string_view;

Words file_of(Frame const& frame) {
  return Words(frame.module).substr(frame.module.rfind('/') + 1);
}

bool is_libc(Words file) {
  return file.starts_with("libc.so") || file.starts_with("libc-") || file.starts_with("libpthread");
}

// Modules none of whose code may be cut off.
bool is_critical(Words file) {
  constexpr std::array<Words, 9> kFiles = {"ld-linux", "ld-2",     "libjemalloc", "libtcmalloc", "libmimalloc",
                                           "libevent", "libev.so", "libuv",       "libdl"};
  return std::ranges::any_of(kFiles, [file](Words known) { return file.starts_with(known); });
}

// Without the underscores and the version that the C library's names come with.
Words plain(Words name) {
  name = name.substr(0, name.find('@'));
  for (Words const prefix : {"__libc_", "__GI_", "_IO_", "__isoc99_", "__"}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  while (name.starts_with('_')) name.remove_prefix(1);
  return name;
}

bool allocates(Words name) {
  constexpr std::array<Words, 12> kNames = {"malloc",   "free",          "calloc",         "realloc",
                                            "memalign", "aligned_alloc", "posix_memalign", "valloc",
                                            "pvalloc",  "reallocarray",  "cfree",          "mallopt"};
  return std::ranges::find(kNames, name) != kNames.end() || name.starts_with("malloc_") || name.starts_with("mallinfo");
}

// Functions of the C library that change nothing shared: on memory and strings of the caller's, ways out, and system
// calls.
bool harmless(Words name) {
  constexpr std::array<Words, 28> kBeginnings = {"mem",    "str",   "wcs",    "wmem",   "stp",   "bcmp",     "bcopy",
                                                 "bzero",  "ato",   "is",     "ffs",    "send",  "recv",     "epoll_",
                                                 "clock_", "pread", "pwrite", "sched_", "inet_", "eventfd",  "open",
                                                 "access", "stat",  "fstat",  "lstat",  "readv", "readlink", "writev"};
  constexpr std::array<Words, 69> kNames = {"abort",          "raise",         "gsignal",
                                            "pthread_kill",   "tgkill",        "kill",
                                            "assert_fail",    "assert",        "assert_perror_fail",
                                            "stack_chk_fail", "fortify_fail",  "chk_fail",
                                            "longjmp_chk",    "index",         "rindex",
                                            "qsort",          "qsort_r",       "bsearch",
                                            "snprintf",       "vsnprintf",     "sprintf",
                                            "vsprintf",       "sscanf",        "vsscanf",
                                            "snprintf_chk",   "vsnprintf_chk", "sprintf_chk",
                                            "vsprintf_chk",   "poll",          "ppoll",
                                            "select",         "gettimeofday",  "time",
                                            "nanosleep",      "usleep",        "syscall",
                                            "fcntl",          "fcntl64",       "ioctl",
                                            "lseek",          "lseek64",       "llseek",
                                            "close",          "shutdown",      "getsockopt",
                                            "setsockopt",     "getpeername",   "getsockname",
                                            "accept",         "accept4",       "errno_location",
                                            "getpid",         "gettid",        "pthread_self",
                                            "setjmp",         "sigsetjmp",     "realpath",
                                            "fsync",          "fdatasync",     "ftruncate",
                                            "ftruncate64",    "unlink",        "faccessat",
                                            "mmap",           "mmap64",        "munmap",
                                            "madvise",        "read",          "write"};
  return std::ranges::any_of(kBeginnings, [name](Words b) { return name.starts_with(b); }) ||
         std::ranges::find(kNames, name) != kNames.end();
}

bool locks(Words name) {
  return name.starts_with("pthread_mutex_") || name.starts_with("pthread_rwlock_") || name.starts_with("pthread_spin_");
}

std::string name_of(Frame const& frame) {
  return frame.function.empty() ? fmt::format("{}+{:#x}", file_of(frame), frame.offset) : frame.function;
}

}  // namespace

std::string critical_code(std::vector<Frame> const& frames, CriticalNames const& names, bool locks_known,
                          Symbols& symbols) {
  for (size_t i = 0; i < frames.size(); ++i) {
    Frame const& frame = frames[i];
    Words const file = file_of(frame);
    if (is_libc(file)) {
      // One visit to the C library: from here to the function that the program called.
      size_t entry = i;
      bool inside = allocates(plain(frame.function));
      while (entry + 1 < frames.size() && is_libc(file_of(frames[entry + 1])))
        inside = allocates(plain(frames[++entry].function)) || inside;
      Words const entered = plain(frames[entry].function);
      if (inside) return "inside the C library's allocator";
      // The memory and string functions come in several versions for the processor, which have no name. They call
      // nothing.
      bool const leaf = entered.empty() && entry == 0 && frames.size() > 1 && !frames[1].guessed;
      if (!leaf && !harmless(entered) && !(locks_known && locks(entered)))
        return fmt::format("inside the C library: {}", name_of(frames[entry]));
      i = entry;
      continue;
    }
    if (is_critical(file)) return fmt::format("inside {}", file);
    if (file.starts_with("libsrs_rescue") && !locks_known) return "between a lock and its owner";
    for (std::string const& beginning : names.beginnings) {
      if (frame.function.starts_with(beginning)) return fmt::format("inside the engine: {}", name_of(frame));
    }
    if (names.stretch != 0 && frame.function.empty() &&
        symbols.unnamed_stretch(frame.module, frame.offset - (frame.is_return ? 1 : 0), frame.build_id) >=
            names.stretch) {
      return fmt::format("inside the engine: {}", name_of(frame));
    }
  }
  return {};
}

}  // namespace vmsrs::runtime
