#include "examples/mysql-shim/imports.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "examples/mysql-shim/heap.hpp"

namespace mysql_shim {
namespace {

// The dynamic section's tables that hold imports (System V ABI, chapter 5). glibc has relocated the addresses in it.
struct Tables {
  ElfW(Sym) const* symbols = nullptr;
  char const* strings = nullptr;
  ElfW(Rela) const* lists[2] = {};
  size_t sizes[2] = {};  // bytes
};

Tables tables_of(link_map const& map) {
  Tables t;
  for (ElfW(Dyn) const* d = map.l_ld; d->d_tag != DT_NULL; ++d) {
    switch (d->d_tag) {
      case DT_SYMTAB:
        t.symbols = reinterpret_cast<ElfW(Sym) const*>(d->d_un.d_ptr);
        break;
      case DT_STRTAB:
        t.strings = reinterpret_cast<char const*>(d->d_un.d_ptr);
        break;
      case DT_JMPREL:
        t.lists[0] = reinterpret_cast<ElfW(Rela) const*>(d->d_un.d_ptr);
        break;
      case DT_PLTRELSZ:
        t.sizes[0] = d->d_un.d_val;
        break;
      case DT_RELA:
        t.lists[1] = reinterpret_cast<ElfW(Rela) const*>(d->d_un.d_ptr);
        break;
      case DT_RELASZ:
        t.sizes[1] = d->d_un.d_val;
        break;
      default:
        break;
    }
  }
  return t;
}

// The part that the dynamic linker has made read-only after relocation: rounded down to whole pages.
struct ReadOnly {
  uint64_t begin = 0, end = 0;
};

ReadOnly relro_of(link_map const& map) {
  struct Search {
    link_map const* map;
    ReadOnly range;
  } search{&map, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* arg) {
        auto* s = static_cast<Search*>(arg);
        uint64_t dynamic = 0;
        ReadOnly relro;
        for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
          ElfW(Phdr) const& p = info->dlpi_phdr[i];
          uint64_t const begin = info->dlpi_addr + p.p_vaddr;
          if (p.p_type == PT_DYNAMIC) dynamic = begin;
          if (p.p_type == PT_GNU_RELRO) relro = {begin & ~UINT64_C(4095), (begin + p.p_memsz) & ~UINT64_C(4095)};
        }
        if (dynamic != reinterpret_cast<uint64_t>(s->map->l_ld)) return 0;
        s->range = relro;
        return 1;
      },
      &search);
  return search.range;
}

}  // namespace

void redirect_imports(void* handle) {
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, static_cast<void*>(&map)) != 0) return;
  Tables const t = tables_of(*map);
  if (t.symbols == nullptr || t.strings == nullptr) return;
  ReadOnly const relro = relro_of(*map);
  auto* const start = reinterpret_cast<void*>(relro.begin);
  bool const sealed = relro.end > relro.begin;
  if (sealed && mprotect(start, relro.end - relro.begin, PROT_READ | PROT_WRITE) != 0) return;
  for (int list = 0; list < 2; ++list) {
    for (size_t i = 0; t.lists[list] != nullptr && i < t.sizes[list] / sizeof(ElfW(Rela)); ++i) {
      ElfW(Rela) const& r = t.lists[list][i];
      uint32_t const type = ELF64_R_TYPE(r.r_info);
      if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64) continue;
      ElfW(Sym) const& symbol = t.symbols[ELF64_R_SYM(r.r_info)];
      if (symbol.st_shndx != SHN_UNDEF) continue;  // the library's own
      void* const ours = heap_function(t.strings + symbol.st_name);
      if (ours != nullptr) *reinterpret_cast<void**>(map->l_addr + r.r_offset) = ours;
    }
  }
  if (sealed) mprotect(start, relro.end - relro.begin, PROT_READ);
}

}  // namespace mysql_shim
