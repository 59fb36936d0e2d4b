// links: vmsrs_runtime
// Which code a thread may be rescued from: by the names of the functions that it had entered.
#include <gtest/gtest.h>

#include "runtime/rescue/critical_code.hpp"

namespace vmsrs::runtime {
namespace {

Frame in(char const* module, char const* function) {
  Frame frame;
  frame.module = module;
  frame.function = function;
  frame.is_return = true;
  return frame;
}
Frame libc(char const* function) {
  return in("/lib/libc.so.6", function);
}
Frame own(char const* function) {
  return in("/srv/server", function);
}

std::string judged(std::vector<Frame> const& frames, CriticalNames const& names = {}, bool locks_known = true) {
  Symbols symbols;
  return critical_code(frames, names, locks_known, symbols);
}

TEST(CriticalCode, TheServersOwnCodeIsNot) {
  EXPECT_EQ(judged({own("parse"), own("serve")}), "");
  EXPECT_EQ(judged({in("", ""), own("serve")}), "") << "a jump to nowhere";
}

TEST(CriticalCode, FunctionsOnTheCallersMemoryAreNot) {
  EXPECT_EQ(judged({libc("__memmove_avx_unaligned_erms"), own("serve")}), "");
  EXPECT_EQ(judged({libc(""), own("serve")}), "") << "a version for this processor, of a libc without symbols";
  EXPECT_EQ(judged({libc("strlen"), own("serve")}), "");
  EXPECT_EQ(judged({libc(""), libc("vsnprintf"), own("serve")}), "");
}

TEST(CriticalCode, AbortOfTheServersOwnIsNot) {
  EXPECT_EQ(judged({libc(""), libc("gsignal"), libc("abort"), own("serve")}), "");
  EXPECT_EQ(judged({libc(""), libc("abort"), libc(""), libc("__assert_fail"), own("serve")}), "");
}

TEST(CriticalCode, TheAllocatorIsEvenWhereItAborts) {
  char const* const kSaid = "inside the C library's allocator";
  EXPECT_EQ(judged({libc(""), libc("malloc"), own("serve")}), kSaid);
  EXPECT_EQ(judged({libc(""), libc("abort"), libc(""), libc("cfree@GLIBC_2.2.5"), own("serve")}), kSaid);
  EXPECT_EQ(judged({libc(""), libc("malloc"), libc("strdup"), own("serve")}), kSaid) << "strdup itself would not be";
  EXPECT_EQ(judged({own("compare"), libc("qsort"), own("serve")}), "");
  EXPECT_EQ(judged({in("/lib/libjemalloc.so.2", "malloc"), own("serve")}), "inside libjemalloc.so.2");
}

TEST(CriticalCode, OtherPartsOfTheCLibraryAre) {
  EXPECT_EQ(judged({libc(""), libc("fputs"), own("serve")}), "inside the C library: fputs");
  EXPECT_NE(judged({libc(""), libc(""), own("serve")}), "") << "which function that is, is not known";
  EXPECT_NE(judged({in("/lib64/ld-linux-x86-64.so.2", "_dl_fixup"), own("serve")}), "");
}

TEST(CriticalCode, ALockFunctionIsUnlessItsIntentWasSettled) {
  std::vector<Frame> const chain{libc("pthread_mutex_lock@@GLIBC_2.2.5"), in("/lib/libsrs_rescue.so", "take"),
                                 own("serve")};
  EXPECT_EQ(judged(chain, {}, true), "");
  EXPECT_NE(judged(chain, {}, false), "");
}

TEST(CriticalCode, WhatTheAdapterNamesIs) {
  CriticalNames const names{{"handler::ha_", "ha_"}, 0};
  EXPECT_EQ(judged({own("udf"), own("handler::ha_write_row(unsigned char const*)"), own("serve")}, names),
            "inside the engine: handler::ha_write_row(unsigned char const*)");
  EXPECT_EQ(judged({own("udf"), own("Item_func::val_int()"), own("serve")}, names), "");
}

}  // namespace
}  // namespace vmsrs::runtime
