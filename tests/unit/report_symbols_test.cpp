// links: vmsrs_report
// Names of functions from files that may be anything: the test program itself, a stripped one with a separate debug
// file, one that was rebuilt, cut off, damaged, or no ELF at all.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "runtime/modules.hpp"
#include "runtime/symbols.hpp"
#include "tests/unit/report_own_view.hpp"

namespace vmsrs::runtime {

__attribute__((noinline)) int known_function(int a) {
  volatile int b = a;
  return b + 1;
}

namespace {

namespace fs = std::filesystem;
constexpr char const* kName = "vmsrs::runtime::known_function(int)";

class SymbolsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "vmsrs-symbols-XXXXXX").string();
    dir = mkdtemp(name.data());
    self = fs::read_symlink("/proc/self/exe").string();
    Modules modules(view);
    Module const* const module = modules.find(run_time);
    ASSERT_NE(module, nullptr);
    ASSERT_EQ(module->file, self);
    address = run_time - module->bias;
    build_id = module->build_id;
    std::ifstream stream(self, std::ios::binary);
    bytes.resize(fs::file_size(self));
    ASSERT_TRUE(stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size())));
  }
  void TearDown() override { fs::remove_all(dir); }
  std::string write(std::string const& name, std::string const& content) const {
    fs::path const path = dir / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }

  OwnView view;
  uint64_t const run_time = reinterpret_cast<uint64_t>(&known_function);
  fs::path dir;
  std::string self, build_id, bytes;
  uint64_t address = 0;
};

TEST_F(SymbolsTest, NamesAFunctionOfThisProgram) {
  Symbols symbols;
  auto const found = symbols.find(self, address + 3, build_id);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->function, kName);
  EXPECT_EQ(found->offset, 3U);
  EXPECT_FALSE(symbols.find(self, 1).has_value());
  EXPECT_FALSE(symbols.find(self, UINT64_MAX).has_value());
}

TEST_F(SymbolsTest, AReturnAddressBelongsToItsCall) {
  Symbols symbols;
  std::vector<Frame> frames(2);
  frames[0].module = frames[1].module = self;
  frames[0].offset = address;
  frames[1].offset = address + 1;
  frames[1].is_return = true;
  symbols.name(frames);
  EXPECT_EQ(frames[0].function, kName);
  EXPECT_EQ(frames[0].function_offset, 0U);
  EXPECT_EQ(frames[1].function, kName);
  EXPECT_EQ(frames[1].function_offset, 1U);
}

TEST_F(SymbolsTest, TheCLibraryHasNamesToo) {
  Modules modules(view);
  auto const at = reinterpret_cast<uint64_t>(&std::getc);
  Module const* const module = modules.find(at);
  ASSERT_NE(module, nullptr);
  if (module->file == self) return;  // a sanitizer's own getc
  auto const found = Symbols().find(module->file, at - module->bias, module->build_id);
  ASSERT_TRUE(found.has_value()) << module->file;
  EXPECT_EQ(found->offset, 0U);
}

TEST_F(SymbolsTest, AFileWithAnotherBuildIdIsNotBelieved) {
  ASSERT_EQ(build_id.size(), 40U) << "this program is linked with a build-id";
  Symbols symbols;
  EXPECT_FALSE(symbols.find(self, address, std::string(40, 'a')).has_value());
  EXPECT_TRUE(symbols.find(self, address, build_id).has_value());
}

TEST_F(SymbolsTest, ASeparateDebugFileIsFoundByItsBuildId) {
  write("debug/.build-id/" + build_id.substr(0, 2) + "/" + build_id.substr(2) + ".debug", bytes);
  Symbols symbols((dir / "debug").string());
  auto const found = symbols.find("/nonexistent/program", address, build_id);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->function, kName);
  EXPECT_FALSE(Symbols().find("/nonexistent/program", address, build_id).has_value());
}

TEST_F(SymbolsTest, WhatIsNoElfFileHasNoNames) {
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  Symbols symbols;
  for (std::string const& file :
       {write("text", "#!/bin/sh\n"), write("empty", ""), dir.string(), (dir / "fifo").string(),
        std::string("/dev/zero"), std::string("[vdso]"), std::string(), std::string("relative/path")}) {
    EXPECT_FALSE(symbols.find(file, address).has_value()) << file;
  }
}

TEST_F(SymbolsTest, CutOffAndDamagedFilesAreHarmless) {
  std::mt19937_64 random(1);
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  Symbols symbols;
  for (int i = 0; i < 200; ++i) {
    std::string damaged = bytes;
    if (i % 2 == 0) {
      damaged.resize(random() % bytes.size());
    } else {  // the section headers, and now and then the file's
      for (int n = 0; n < 12; ++n) {
        damaged[header.e_shoff + random() % (header.e_shnum * sizeof(Elf64_Shdr))] = static_cast<char>(random());
      }
      if (i % 10 == 1) damaged[random() % sizeof header] = static_cast<char>(random());
    }
    std::string const file = write("damaged" + std::to_string(i), damaged);
    (void)symbols.find(file, address);
    (void)symbols.find(file, random() % (2 * address));
    fs::remove(file);
  }
  EXPECT_TRUE(symbols.find(write("whole", bytes), address).has_value());
}

TEST_F(SymbolsTest, ThreadsShareOneTable) {
  Symbols symbols;
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 100; ++i) right += symbols.find(self, address, build_id).has_value() ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(right, 400);
}

}  // namespace
}  // namespace vmsrs::runtime
