#include "vmm/elf_image.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "vmm/guest_addr.hpp"

namespace vmm {
namespace {

constexpr uint64_t kMaxAddress = 1ULL << 47;
constexpr unsigned kMaxSegments = 64;

tl::unexpected<Error> bad(std::string const& name, char const* why) {
  return fail(Errc::kBadElf, fmt::format("{}: damaged ELF file: {}", name, why));
}

}  // namespace

Result<ElfImage> parse_elf(std::span<std::byte const> head, uint64_t file_size, std::string const& name) {
  Elf64_Ehdr header;
  if (head.size() < 4 || std::memcmp(head.data(), ELFMAG, SELFMAG) != 0) {
    return fail(Errc::kNotElf, fmt::format("{}: neither an ELF program nor a script that starts with #!", name));
  }
  if (head.size() < sizeof header) return bad(name, "shorter than its header");
  std::memcpy(&header, head.data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return fail(Errc::kWrongArchitecture, fmt::format("{}: not a 64-bit x86 program (ELF class {}, machine {})", name,
                                                      header.e_ident[EI_CLASS], header.e_machine));
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
    return bad(name, "not a program (neither ET_EXEC nor ET_DYN)");
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return bad(name, "program headers of an unknown size");
  uint64_t const table = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_phoff > head.size() || table > head.size() - header.e_phoff)
    return bad(name, "program headers past the end");

  ElfImage image;
  image.position_independent = header.e_type == ET_DYN;
  image.entry = header.e_entry;
  image.program_header_count = header.e_phnum;
  image.low = kMaxAddress;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr ph;
    std::memcpy(&ph, head.data() + header.e_phoff + i * sizeof ph, sizeof ph);
    if (ph.p_type == PT_INTERP) {
      if (ph.p_filesz == 0 || ph.p_filesz > 4096 || ph.p_offset > head.size() ||
          ph.p_filesz > head.size() - ph.p_offset) {
        return bad(name, "interpreter name past the end");
      }
      image.interpreter.assign(reinterpret_cast<char const*>(head.data() + ph.p_offset), ph.p_filesz);
      image.interpreter.resize(std::strlen(image.interpreter.c_str()));
    }
    if (ph.p_type != PT_LOAD || ph.p_memsz == 0) continue;
    if (ph.p_filesz > ph.p_memsz || ph.p_offset > file_size || ph.p_filesz > file_size - ph.p_offset) {
      return bad(name, "a segment lies past the end");
    }
    if (ph.p_vaddr >= kMaxAddress || ph.p_memsz >= kMaxAddress - ph.p_vaddr)
      return bad(name, "a segment's address is impossible");
    if ((ph.p_vaddr - ph.p_offset) % kPageSize != 0) return bad(name, "a segment is not aligned as its file offset");
    if (image.segments.size() == kMaxSegments) return bad(name, "too many segments");
    int const prot = ((ph.p_flags & PF_R) ? PROT_READ : 0) | ((ph.p_flags & PF_W) ? PROT_WRITE : 0) |
                     ((ph.p_flags & PF_X) ? PROT_EXEC : 0);
    image.segments.push_back({ph.p_vaddr, ph.p_offset, ph.p_filesz, ph.p_memsz, prot});
    image.low = std::min(image.low, page_down(ph.p_vaddr));
    image.high = std::max(image.high, page_up(ph.p_vaddr + ph.p_memsz));
    if (header.e_phoff >= ph.p_offset && header.e_phoff < ph.p_offset + ph.p_filesz) {
      image.program_headers = ph.p_vaddr + (header.e_phoff - ph.p_offset);
    }
  }
  if (image.segments.empty()) return bad(name, "nothing to load");
  return image;
}

uint64_t elf_text_bytes(std::span<std::byte const> head) noexcept {
  Elf64_Ehdr header;
  if (head.size() < sizeof header || std::memcmp(head.data(), ELFMAG, SELFMAG) != 0) return 0;
  std::memcpy(&header, head.data(), sizeof header);
  uint64_t const table = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr)) return 0;
  if (header.e_phoff > head.size() || table > head.size() - header.e_phoff) return 0;
  uint64_t low = kMaxAddress, writable = kMaxAddress;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr ph;
    std::memcpy(&ph, head.data() + header.e_phoff + i * sizeof ph, sizeof ph);
    if (ph.p_type != PT_LOAD) continue;
    low = std::min(low, page_down(ph.p_vaddr));
    if (ph.p_flags & PF_W) writable = std::min(writable, page_down(ph.p_vaddr));
  }
  return writable < kMaxAddress && writable > low ? writable - low : 0;
}

}  // namespace vmm
