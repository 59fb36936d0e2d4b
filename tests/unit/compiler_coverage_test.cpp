// links: store_forms
// What srs-c++ logs: every form of store, at every optimisation level (store_forms/).
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace {

struct Outcome {
  int status;
  std::string said;
};

Outcome run(std::string const& variant) {
  auto const program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "store_forms" / variant;
  if (!std::filesystem::exists(program)) return {-1, ""};
  FILE* const pipe = popen((program.string() + " 2>&1").c_str(), "r");
  std::string said;
  char line[512];
  while (fgets(line, sizeof line, pipe) != nullptr) said += line;
  return {pclose(pipe), said};
}

class CompilerCoverage : public testing::TestWithParam<char const*> {};

TEST_P(CompilerCoverage, EveryChangedByteIsLogged) {
  Outcome const o = run(GetParam());
  if (o.status == -1) GTEST_SKIP() << "needs GCC's plugin headers at build time";
  EXPECT_EQ(o.status, 0) << o.said;
  EXPECT_NE(o.said.find("\n0 of "), std::string::npos) << o.said;
}

INSTANTIATE_TEST_SUITE_P(Levels, CompilerCoverage, testing::Values("O0", "O1", "O2", "O3", "Os", "avx2"),
                         [](auto const& info) { return std::string(info.param); });

// The comparison itself: without the plugin only what goes through libsrs is logged.
TEST(CompilerCoverageControl, PlainStoresAreMissed) {
  Outcome const o = run("plain");
  if (o.status == -1) GTEST_SKIP() << "needs GCC's plugin headers at build time";
  EXPECT_NE(o.status, 0);
  for (char const* form : {"scalar.8", "struct.copy", "loop.longs", "atomic.add", "memory.memcpy", "map.insert"}) {
    size_t const at = o.said.find(form);
    ASSERT_NE(at, std::string::npos) << form;
    EXPECT_EQ(o.said.compare(at + 21, 6, "FAILED"), 0) << o.said.substr(at, 60);
  }
}

}  // namespace
