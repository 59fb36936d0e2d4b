#include "runtime/modules.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

#include "vmm/guest_addr.hpp"

namespace vmsrs::runtime {
namespace {

constexpr size_t kMaxProgramHeaders = 64;
constexpr uint64_t kMaxNotes = 4096;
constexpr uint64_t kMaxBackwardPages = 512;  // how far the header of a module without a file is looked for

bool is_elf_at(GuestView const& view, uint64_t addr) {
  unsigned char magic[SELFMAG];
  return view.read(addr, magic, sizeof magic) && std::memcmp(magic, ELFMAG, SELFMAG) == 0;
}

// Where the ELF header of the module around `addr` lies; 0: nowhere.
uint64_t header_of(GuestView const& view, Mapping const& around, uint64_t addr) {
  if (around.file.empty()) return 0;
  if (around.file.front() == '[') {  // the vDSO: no file, so no file offset
    uint64_t page = vmm::page_down(addr);
    for (uint64_t i = 0; i < kMaxBackwardPages && page >= around.start; ++i, page -= vmm::kPageSize) {
      if (is_elf_at(view, page)) return page;
    }
    return 0;
  }
  uint64_t best = 0;
  for (auto const& m : view.mappings()) {
    if (m.start > addr) break;
    if (m.file_offset == 0 && m.file == around.file && is_elf_at(view, m.start)) best = m.start;
  }
  return best;
}

std::string build_id_in(GuestView const& view, uint64_t notes, uint64_t size) {
  if (size > kMaxNotes) return {};
  std::vector<unsigned char> bytes(size);
  if (!view.read(notes, bytes.data(), size)) return {};
  for (uint64_t at = 0; at + sizeof(Elf64_Nhdr) <= size;) {
    Elf64_Nhdr note;
    std::memcpy(&note, bytes.data() + at, sizeof note);
    uint64_t const name = at + sizeof note;
    uint64_t const desc = name + ((uint64_t{note.n_namesz} + 3) & ~uint64_t{3});
    uint64_t const next = desc + ((uint64_t{note.n_descsz} + 3) & ~uint64_t{3});
    if (desc > size || note.n_descsz > size - desc) return {};
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(bytes.data() + name, "GNU", 4) == 0) {
      std::string hex;
      for (uint32_t i = 0; i < note.n_descsz; ++i) hex += fmt::format("{:02x}", bytes[desc + i]);
      return hex;
    }
    at = next;
  }
  return {};
}

}  // namespace

Module const* Modules::find(uint64_t addr) {
  auto const after = by_header_.upper_bound(addr);
  if (after != by_header_.begin()) {
    Module const& near = std::prev(after)->second;
    if (addr < near.end) return &near;
  }
  Mapping const* const around = find_mapping(view_, addr);
  if (around == nullptr) return nullptr;
  uint64_t const at = header_of(view_, *around, addr);
  if (at == 0) return nullptr;
  auto const known = by_header_.find(at);
  if (known != by_header_.end()) return &known->second;

  Elf64_Ehdr header;
  if (!view_.read(at, &header, sizeof header)) return nullptr;
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 ||
      header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > kMaxProgramHeaders) {
    return nullptr;
  }
  std::vector<Elf64_Phdr> program(header.e_phnum);
  if (!view_.read(at + header.e_phoff, program.data(), program.size() * sizeof(Elf64_Phdr))) return nullptr;

  Module module;
  module.file = around->file;
  module.start = at;
  bool placed = false;
  for (auto const& ph : program) {  // the segment that holds the file's first byte says how far it was moved
    if (ph.p_type != PT_LOAD || vmm::page_down(ph.p_offset) != 0 || placed) continue;
    module.bias = at - vmm::page_down(ph.p_vaddr);
    placed = true;
  }
  if (!placed) return nullptr;
  for (auto const& ph : program) {
    uint64_t const start = module.bias + ph.p_vaddr;
    if (ph.p_type == PT_LOAD && start + ph.p_memsz >= start) {
      module.end = std::max(module.end, vmm::page_up(start + ph.p_memsz));
    }
    if (ph.p_type == PT_GNU_EH_FRAME) {
      module.eh_frame_hdr = start;
      module.eh_frame_hdr_size = ph.p_memsz;
    }
    if (ph.p_type == PT_NOTE && module.build_id.empty()) module.build_id = build_id_in(view_, start, ph.p_filesz);
  }
  return &by_header_.emplace(at, std::move(module)).first->second;
}

}  // namespace vmsrs::runtime
