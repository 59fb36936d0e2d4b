// links: vmm
#include "vmm/elf_image.hpp"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <span>
#include <vector>

namespace {

using vmm::Errc;

constexpr uint64_t kFileSize = 0x3000;
constexpr char kLoader[] = "/lib/loader";

// A small program: an interpreter's name, code, and data with a tail of zeros.
struct Image {
  Elf64_Ehdr header{};
  Elf64_Phdr interp{}, code{}, data{};
  char loader[sizeof kLoader];
};

Image good() {
  Image image;
  std::memcpy(image.header.e_ident, ELFMAG, SELFMAG);
  image.header.e_ident[EI_CLASS] = ELFCLASS64;
  image.header.e_ident[EI_DATA] = ELFDATA2LSB;
  image.header.e_ident[EI_VERSION] = EV_CURRENT;
  image.header.e_type = ET_DYN;
  image.header.e_machine = EM_X86_64;
  image.header.e_entry = 0x1040;
  image.header.e_phoff = offsetof(Image, interp);
  image.header.e_phentsize = sizeof(Elf64_Phdr);
  image.header.e_phnum = 3;
  image.interp = {PT_INTERP, PF_R, offsetof(Image, loader), 0, 0, sizeof kLoader, sizeof kLoader, 1};
  image.code = {PT_LOAD, PF_R | PF_X, 0, 0, 0, 0x2000, 0x2000, 0x1000};
  image.data = {PT_LOAD, PF_R | PF_W, 0x2100, 0x4100, 0x4100, 0x200, 0x5000, 0x1000};
  std::memcpy(image.loader, kLoader, sizeof kLoader);
  return image;
}

std::span<std::byte const> bytes_of(Image const& image) {
  return std::as_bytes(std::span(&image, 1));
}

Errc error_of(std::function<void(Image&)> const& damage, uint64_t file_size = kFileSize) {
  Image image = good();
  damage(image);
  auto const parsed = vmm::parse_elf(bytes_of(image), file_size, "program");
  if (parsed) {
    ADD_FAILURE() << "taken for a good program";
    return Errc::kHostCall;
  }
  EXPECT_TRUE(parsed.error().message.starts_with("program: ")) << parsed.error().message;
  return parsed.error().code;
}

TEST(ElfImage, AGoodProgramIsRead) {
  Image const image = good();
  auto const parsed = vmm::parse_elf(bytes_of(image), kFileSize, "program");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_TRUE(parsed->position_independent);
  EXPECT_EQ(parsed->entry, 0x1040u);
  EXPECT_EQ(parsed->interpreter, kLoader);
  EXPECT_EQ(parsed->low, 0u);
  EXPECT_EQ(parsed->high, 0xa000u);
  ASSERT_EQ(parsed->segments.size(), 2u);
  EXPECT_EQ(parsed->segments[1].memory_size, 0x5000u);
  EXPECT_EQ(parsed->program_headers, offsetof(Image, interp));
}

TEST(ElfImage, ForeignFilesAreToldFromDamagedOnes) {
  EXPECT_EQ(error_of([](Image& i) { i.header.e_ident[0] = 'M'; }), Errc::kNotElf);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_ident[EI_CLASS] = ELFCLASS32; }), Errc::kWrongArchitecture);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_ident[EI_DATA] = ELFDATA2MSB; }), Errc::kWrongArchitecture);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_machine = EM_AARCH64; }), Errc::kWrongArchitecture);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_type = ET_REL; }), Errc::kBadElf);
}

TEST(ElfImage, DamagedHeadersAreRefused) {
  EXPECT_EQ(error_of([](Image& i) { i.header.e_phentsize = 32; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_phnum = 0; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_phnum = 0xffff; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_phoff = sizeof(Image); }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.header.e_phoff = ~0ULL; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.interp.p_offset = ~0ULL; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.interp.p_filesz = 0; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.interp.p_filesz = ~0ULL; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.data.p_filesz = 0x5001; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.data.p_offset = ~0xeffULL; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.data.p_offset = 0x2101; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.data.p_vaddr = ~0xeffULL; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.data.p_memsz = ~0ULL; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image& i) { i.code.p_type = i.data.p_type = PT_NOTE; }), Errc::kBadElf);
  EXPECT_EQ(error_of([](Image&) {}, 0x22ff), Errc::kBadElf) << "a file cut short";
}

TEST(ElfImage, EveryShorterHeadIsRefused) {
  Image const image = good();
  auto const bytes = bytes_of(image);
  for (size_t size = 0; size < offsetof(Image, loader) + sizeof kLoader; ++size) {
    EXPECT_FALSE(vmm::parse_elf(bytes.first(size), kFileSize, "program")) << size;
  }
}

TEST(ElfImage, TextEndsAtTheFirstWritableSegment) {
  std::ifstream self("/proc/self/exe", std::ios::binary);
  std::vector<char> head(1 << 16);
  self.read(head.data(), static_cast<std::streamsize>(head.size()));
  auto const bytes = std::as_bytes(std::span(head).first(static_cast<size_t>(self.gcount())));
  auto const parsed = vmm::parse_elf(bytes, uint64_t{1} << 40, "self");
  ASSERT_TRUE(parsed) << parsed.error().message;
  uint64_t writable = parsed->high;
  for (auto const& s : parsed->segments) {
    if (s.prot & PROT_WRITE) writable = std::min(writable, s.address & ~UINT64_C(4095));
  }
  EXPECT_EQ(vmm::elf_text_bytes(bytes), writable - parsed->low);
  EXPECT_GT(vmm::elf_text_bytes(bytes), 0U);
  EXPECT_EQ(vmm::elf_text_bytes(bytes.first(40)), 0U);
  EXPECT_EQ(vmm::elf_text_bytes(bytes.first(70)), 0U) << "its program headers are not there";
  EXPECT_EQ(vmm::elf_text_bytes({}), 0U);
}

// Whatever the bytes: an error, or segments that lie in the file and below the top of user space.
TEST(ElfImage, RandomDamageIsNeverBelieved) {
  constexpr int kRounds = 200000;
  std::mt19937_64 random(7);
  int accepted = 0;
  for (int round = 0; round < kRounds; ++round) {
    Image image = good();
    auto* const raw = reinterpret_cast<unsigned char*>(&image);
    for (unsigned n = 1 + static_cast<unsigned>(random() % 3); n != 0; --n) {
      raw[random() % sizeof image] = static_cast<unsigned char>(random() % 3 == 0 ? 0xff : random());
    }
    auto const parsed = vmm::parse_elf(bytes_of(image), kFileSize, "program");
    if (!parsed) continue;
    ++accepted;
    for (auto const& s : parsed->segments) {
      ASSERT_LE(s.file_offset, kFileSize);
      ASSERT_LE(s.file_size, kFileSize - s.file_offset);
      ASSERT_LE(s.file_size, s.memory_size);
      ASSERT_LT(s.address, 1ULL << 47);
      ASSERT_LT(s.address + s.memory_size, 1ULL << 47);
      ASSERT_LE(parsed->low, s.address);
      ASSERT_GE(parsed->high, s.address + s.memory_size);
    }
  }
  EXPECT_GT(accepted, kRounds / 100);
  EXPECT_LT(accepted, kRounds);
}

}  // namespace
