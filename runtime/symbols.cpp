#include "runtime/symbols.hpp"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime {
namespace {

constexpr uint64_t kMaxSection = 512ULL << 20;  // of a symbol or string table
constexpr uint64_t kMaxNotes = 4096;

class ElfFile {
 public:
  explicit ElfFile(std::string const& path) {
    struct stat st {};
    // A name that is not a plain file (a pipe, a device) must not block or be read.
    fd_ = vmm::ScopedFd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (fd_.get() < 0 || fstat(fd_.get(), &st) != 0 || !S_ISREG(st.st_mode)) return;
    size_ = static_cast<uint64_t>(st.st_size);
    Elf64_Ehdr header{};
    if (!read(0, &header, sizeof header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64 || header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum == 0) {
      return;
    }
    sections_ = read_array<Elf64_Shdr>(header.e_shoff, uint64_t{header.e_shnum} * sizeof(Elf64_Shdr));
  }

  [[nodiscard]] std::vector<Elf64_Shdr> const& sections() const { return sections_; }

  // The wanted part of the file, or nothing if the file does not have all of it.
  template <class T>
  [[nodiscard]] std::vector<T> read_array(uint64_t offset, uint64_t size) const {
    std::vector<T> out;
    if (size > kMaxSection || size > size_ || offset > size_ - size) return out;
    out.resize(size / sizeof(T));
    if (!read(offset, out.data(), out.size() * sizeof(T))) out.clear();
    return out;
  }

  [[nodiscard]] std::string build_id() const {
    for (auto const& section : sections_) {
      if (section.sh_type != SHT_NOTE || section.sh_size > kMaxNotes) continue;
      auto const notes = read_array<unsigned char>(section.sh_offset, section.sh_size);
      Elf64_Nhdr note{};
      if (notes.size() < sizeof note + 4) continue;
      std::memcpy(&note, notes.data(), sizeof note);
      if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4) continue;
      size_t const start = sizeof note + 4;
      if (note.n_descsz > notes.size() - start) continue;
      std::string hex;
      for (size_t i = 0; i < note.n_descsz; ++i) hex += fmt::format("{:02x}", notes[start + i]);
      return hex;
    }
    return {};
  }

 private:
  bool read(uint64_t offset, void* to, size_t size) const {
    auto* out = static_cast<char*>(to);
    while (size > 0) {
      ssize_t const n = pread(fd_.get(), out, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      out += n;
      offset += static_cast<uint64_t>(n);
      size -= static_cast<size_t>(n);
    }
    return true;
  }

  vmm::ScopedFd fd_;
  uint64_t size_ = 0;
  std::vector<Elf64_Shdr> sections_;
};

std::string demangled(char const* name) {
  int status = 0;
  char* const text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 && text != nullptr ? text : name;
  std::free(text);
  return result;
}

}  // namespace

class Symbols::Table {
 public:
  // From the section of type `wanted` (SHT_SYMTAB, SHT_DYNSYM). False: none, or not usable.
  bool load(ElfFile const& file, uint32_t wanted) {
    auto const& sections = file.sections();
    for (auto const& section : sections) {
      if (section.sh_type != wanted || section.sh_link >= sections.size() || section.sh_entsize != sizeof(Elf64_Sym)) {
        continue;
      }
      auto const& text = sections[section.sh_link];
      if (text.sh_type != SHT_STRTAB) continue;
      names_ = file.read_array<char>(text.sh_offset, text.sh_size);
      if (names_.empty()) continue;
      names_.back() = '\0';  // so that every name ends
      for (auto const& symbol : file.read_array<Elf64_Sym>(section.sh_offset, section.sh_size)) {
        auto const type = ELF64_ST_TYPE(symbol.st_info);
        if ((type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) || symbol.st_shndx == SHN_UNDEF ||
            symbol.st_shndx >= SHN_LORESERVE || symbol.st_name >= names_.size() || names_[symbol.st_name] == '\0') {
          continue;
        }
        // Assembly without .type: only where the section holds code.
        if (type == STT_NOTYPE &&
            (symbol.st_shndx >= sections.size() || !(sections[symbol.st_shndx].sh_flags & SHF_EXECINSTR))) {
          continue;
        }
        // What has no size (assembly) reaches to the end of its section at most.
        bool const sized = symbol.st_size != 0;
        uint64_t size = symbol.st_size;
        if (!sized && symbol.st_shndx < sections.size()) {
          auto const& home = sections[symbol.st_shndx];
          size = std::max<uint64_t>(home.sh_addr + home.sh_size, symbol.st_value) - symbol.st_value;
        }
        entries_.push_back({symbol.st_value, size, static_cast<uint32_t>(symbol.st_name), sized,
                            ELF64_ST_BIND(symbol.st_info) == STB_LOCAL});
      }
      // Of several names for one address the first is said: sized before unsized, global before local, then as listed.
      std::ranges::stable_sort(entries_, [](Entry const& a, Entry const& b) {
        if (a.start != b.start) return a.start < b.start;
        if (a.sized != b.sized) return a.sized;
        return a.local < b.local;
      });
      auto const same = [](Entry const& a, Entry const& b) { return a.start == b.start; };
      entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
    }
    return !entries_.empty();
  }

  [[nodiscard]] std::optional<Name> find(uint64_t address) const {
    auto it = std::ranges::upper_bound(entries_, address, {}, &Entry::start);
    if (it == entries_.begin()) return std::nullopt;
    --it;
    uint64_t const offset = address - it->start;
    if (offset >= it->size) return std::nullopt;
    return Name{demangled(names_.data() + it->name), offset};
  }

  [[nodiscard]] uint64_t unnamed_stretch(uint64_t address) const {
    auto const after = std::ranges::upper_bound(entries_, address, {}, &Entry::start);
    if (after == entries_.begin() || after == entries_.end()) return 0;
    auto const before = std::prev(after);
    uint64_t const end = before->start + before->size;
    return address < end ? 0 : after->start - end;
  }

 private:
  struct Entry {
    uint64_t start, size;
    uint32_t name;
    bool sized, local;
  };
  std::vector<Entry> entries_;  // by start
  std::vector<char> names_;
};

Symbols::Symbols(std::string debug_root) : debug_root_(std::move(debug_root)) {}
Symbols::~Symbols() = default;

std::shared_ptr<Symbols::Table const> Symbols::table_of(std::string const& file, std::string const& build_id) {
  std::string const key = file + '\n' + build_id;
  std::lock_guard const lock(mutex_);
  auto const known = tables_.find(key);
  if (known != tables_.end()) return known->second;

  auto table = std::make_shared<Table>();
  auto const usable = [&](ElfFile const& elf) { return build_id.empty() || elf.build_id() == build_id; };
  ElfFile const own(file);
  bool loaded = usable(own) && table->load(own, SHT_SYMTAB);
  if (!loaded && build_id.size() > 2) {
    ElfFile const debug(
        fmt::format("{}/.build-id/{}/{}.debug", debug_root_, build_id.substr(0, 2), build_id.substr(2)));
    loaded = usable(debug) && table->load(debug, SHT_SYMTAB);
  }
  if (!loaded && usable(own)) table->load(own, SHT_DYNSYM);
  return tables_.emplace(key, std::move(table)).first->second;
}

std::optional<Symbols::Name> Symbols::find(std::string const& file, uint64_t address, std::string const& build_id) {
  if (file.empty() || file.front() != '/') return std::nullopt;  // [vdso], [stack]…, anonymous
  return table_of(file, build_id)->find(address);
}

uint64_t Symbols::unnamed_stretch(std::string const& file, uint64_t address, std::string const& build_id) {
  if (file.empty() || file.front() != '/') return 0;
  return table_of(file, build_id)->unnamed_stretch(address);
}

void Symbols::name(std::span<Frame> frames) {
  for (Frame& frame : frames) {
    uint64_t const back = frame.is_return ? 1 : 0;
    auto found = find(frame.module, frame.offset - back, frame.build_id);
    if (!found) continue;
    frame.function = std::move(found->function);
    frame.function_offset = found->offset + back;
  }
}

}  // namespace vmsrs::runtime
