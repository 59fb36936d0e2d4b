// links: srs_shared srs_static
// A program of somebody else's, in C and in C++, against an installed tree: found by CMake and by pkg-config.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

namespace fs = std::filesystem;

fs::path build_dir() {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path();
}

class SrsInstall : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    // CTest runs each case in a process of its own, several at once.
    work = new fs::path(build_dir() / "tests" / ("srs_install." + std::to_string(getpid())));
    fs::remove_all(*work);
    fs::create_directories(*work / "consumer");
    installed = run("cmake --install '" + build_dir().string() + "' --component srs --prefix '" +
                    (*work / "prefix").string() + "'");
    write("main.c",
          "#include <srs/srs.h>\n#include <stdio.h>\nstatic uint64_t word;\n"
          "static void f(void* p) { srs_store64(&word, *(int*)p); }\n"
          "int main(void) {\n  int n = 41;\n  struct srs_options o = SRS_OPTIONS_INIT;\n"
          "  if (srs_request(f, &n, &o) != SRS_OK) return 1;\n"
          "  char* p = srs_malloc(10);\n  srs_strcpy(p, \"ok\");\n"
          "  printf(\"%s %d %d\\n\", p, (int)srs_fetch_add64(&word, 1), srs_active());\n"
          "  srs_free(p);\n  return 0;\n}\n");
    write("main.cpp",
          "#include <srs/srs.hpp>\n#include <cstdio>\nint main() {\n  srs::shared<int> n = 40;\n"
          "  if (srs::request([&] { n += 1; }) != SRS_OK) return 1;\n"
          "  std::printf(\"ok %d %d\\n\", n.load(), srs_active());\n}\n");
    write("CMakeLists.txt",
          "cmake_minimum_required(VERSION 3.16)\nproject(consumer C CXX)\n"
          "set(CMAKE_CXX_STANDARD 17)\nset(CMAKE_CXX_STANDARD_REQUIRED ON)\n"
          "find_package(srs REQUIRED)\n"
          "foreach(kind srs srs_static)\n"
          "  add_executable(c_${kind} main.c)\n  target_link_libraries(c_${kind} srs::${kind})\n"
          "  add_executable(cpp_${kind} main.cpp)\n"
          "  target_link_libraries(cpp_${kind} srs::${kind})\nendforeach()\n");
  }

  static void TearDownTestSuite() { fs::remove_all(*work); }

  static void write(char const* name, std::string const& text) { std::ofstream(*work / "consumer" / name) << text; }
  // Runs a shell command; its output is kept for the message of a failed check.
  static bool run(std::string const& command) {
    std::string const log = (*work / "log").string();
    int const status = std::system(("(" + command + ") >'" + log + "' 2>&1").c_str());
    std::ifstream in(log);
    output.assign(std::istreambuf_iterator<char>(in), {});
    return status == 0;
  }

  inline static fs::path* work;
  inline static bool installed;
  inline static std::string output;
};

}  // namespace

TEST_F(SrsInstall, FoundByCMakeSharedAndStaticFromCAndCpp) {
  ASSERT_TRUE(installed) << output;
  std::string const w = "cd '" + work->string() + "' && ";
  ASSERT_TRUE(run(w + "cmake -S consumer -B build -DCMAKE_PREFIX_PATH=\"$PWD/prefix\"")) << output;
  ASSERT_TRUE(run(w + "cmake --build build")) << output;
  for (char const* program : {"c_srs", "c_srs_static", "cpp_srs", "cpp_srs_static"}) {
    ASSERT_TRUE(run(w + "build/" + program)) << program << ": " << output;
    EXPECT_EQ(output, "ok 41 0\n") << program;
  }
}

TEST_F(SrsInstall, FoundByPkgConfig) {
  ASSERT_TRUE(installed) << output;
  std::string const w = "cd '" + work->string() +
                        "' && export PKG_CONFIG_PATH=\"$(dirname \"$(find "
                        "\"$PWD/prefix\" -name srs.pc)\")\" && ";
  ASSERT_TRUE(run(w + "cc consumer/main.c $(pkg-config --cflags --libs srs) -o by_pkg_config")) << output;
  ASSERT_TRUE(run(w + "LD_LIBRARY_PATH=\"$(pkg-config --variable=libdir srs)\" ./by_pkg_config")) << output;
  EXPECT_EQ(output, "ok 41 0\n");
}

TEST_F(SrsInstall, SharedLibraryExportsNoMalloc) {
  ASSERT_TRUE(installed) << output;
  std::string const w = "cd '" + work->string() + "' && ";
  ASSERT_TRUE(run(w + "nm -D --defined-only \"$(find prefix -name libsrs.so)\"")) << output;
  EXPECT_NE(output.find(" srs_request"), std::string::npos);
  EXPECT_NE(output.find(" pthread_mutex_lock"), std::string::npos);
  EXPECT_EQ(output.find(" malloc"), std::string::npos);
  EXPECT_EQ(output.find("vje_"), std::string::npos);
}
