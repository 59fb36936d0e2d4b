#include "vmm/loader.hpp"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "vmm/elf_image.hpp"
#include "vmm/process.hpp"
#include "vmm/scoped_fd.hpp"
#include "vmm/vdso.hpp"

namespace vmm {
namespace {

constexpr uint64_t kProgramBase = kHighBase + kLowEnd + (16ULL << 20);  // of a position-independent program
constexpr uint64_t kStackSize = 8ULL << 20, kStackGuard = 1ULL << 20;
constexpr uint64_t kHeadBytes = 64 << 10;
constexpr unsigned kMaxScripts = 4;  // as Linux: a script's interpreter may be a script

struct OpenProgram {
  ScopedFd fd;
  std::string path;    // as the user or the program's header wrote it
  std::string mapped;  // absolute, links resolved: what its mappings are called, as in Linux's /proc/PID/maps
  uint64_t size = 0;
  std::vector<std::byte> head;
};

Result<OpenProgram> open_program(std::string const& path, Errc missing) {
  OpenProgram program;
  program.path = path;
  int const fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(missing, fmt::format("{}: {}", path, strerror(errno)), errno);
  program.fd = ScopedFd(fd);
  struct stat st {};
  if (fstat(fd, &st) != 0) return fail_host(fmt::format("fstat of {}", path));
  if (!S_ISREG(st.st_mode)) return fail(missing, fmt::format("{}: not a regular file", path), EACCES);
  if (access(path.c_str(), X_OK) != 0 && missing == Errc::kNoProgram) {
    return fail(missing, fmt::format("{}: not executable (chmod +x?)", path), EACCES);
  }
  program.size = static_cast<uint64_t>(st.st_size);
  program.head.resize(std::min<uint64_t>(kHeadBytes, program.size));
  ssize_t const n = pread(fd, program.head.data(), program.head.size(), 0);
  if (n < 0) return fail_host(fmt::format("reading {}", path));
  program.head.resize(static_cast<size_t>(n));
  char resolved[PATH_MAX];
  program.mapped = realpath(path.c_str(), resolved) != nullptr ? resolved : path;
  return program;
}

Result<std::string> find_in_path(std::string const& name) {
  if (name.empty()) return fail(Errc::kNoProgram, "no program given");
  if (name.find('/') != std::string::npos) return name;
  char const* path = getenv("PATH");
  std::string const dirs = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  for (size_t at = 0; at <= dirs.size();) {
    size_t const end = std::min(dirs.find(':', at), dirs.size());
    std::string const dir = end == at ? "." : dirs.substr(at, end - at);
    std::string candidate = fmt::format("{}/{}", dir, name);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
    at = end + 1;
  }
  return fail(Errc::kNoProgram, fmt::format("{}: not found in PATH", name), ENOENT);
}

// "#! interpreter [one argument]": rewrites argv as Linux does.
Result<bool> follow_script(OpenProgram& program, std::vector<std::string>& argv) {
  if (program.head.size() < 2 || std::memcmp(program.head.data(), "#!", 2) != 0) return false;
  std::string line(reinterpret_cast<char const*>(program.head.data()) + 2,
                   std::min<size_t>(program.head.size(), 257) - 2);
  line.resize(std::min(line.find('\n'), line.size()));
  auto const trim = [](std::string const& s) {
    size_t const from = s.find_first_not_of(" \t"), to = s.find_last_not_of(" \t\r");
    return from == std::string::npos ? std::string() : s.substr(from, to - from + 1);
  };
  line = trim(line);
  size_t const space = line.find_first_of(" \t");
  std::string const interpreter = line.substr(0, space);
  std::string const argument = space == std::string::npos ? "" : trim(line.substr(space));
  if (interpreter.empty()) return fail(Errc::kNoInterpreter, fmt::format("{}: #! names no interpreter", program.path));
  std::vector<std::string> changed{interpreter};
  if (!argument.empty()) changed.push_back(argument);
  changed.push_back(program.path);
  changed.insert(changed.end(), argv.begin() + 1, argv.end());
  argv = std::move(changed);
  std::string const script = program.path;
  auto next = open_program(interpreter, Errc::kNoInterpreter);
  if (!next)
    return fail(Errc::kNoInterpreter, fmt::format("{}: its #! interpreter {}", script, next.error().message),
                next.error().sys_errno);
  program = std::move(*next);
  return true;
}

Result<void> map_segment(AddressSpace& space, OpenProgram const& program, ElfSegment const& s, uint64_t bias) {
  uint64_t const start = page_down(s.address) + bias, lead = s.address % kPageSize;
  uint64_t const size = page_up(s.memory_size + lead);
  bool const as_in_file = !(s.prot & PROT_WRITE) && s.memory_size == s.file_size;
  int64_t const r =
      as_in_file ? space.mmap(GuestAddr(start), size, s.prot, MAP_PRIVATE | MAP_FIXED, program.fd.get(),
                              page_down(s.file_offset), program.mapped)
                 : space.mmap(GuestAddr(start), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                              -1, page_down(s.file_offset), program.mapped);
  if (r < 0) return fail_host(fmt::format("{}: mapping a segment at {:#x}", program.path, start), static_cast<int>(-r));
  if (as_in_file) return {};
  space.populate({GuestAddr(start), page_up(s.file_size + lead)});
  std::byte* to = space.alias(GuestAddr(start));
  for (uint64_t done = 0; done < s.file_size + lead;) {
    ssize_t const n =
        pread(program.fd.get(), to + done, s.file_size + lead - done, static_cast<off_t>(s.file_offset - lead + done));
    if (n <= 0) return fail_host(fmt::format("reading {}", program.path), n < 0 ? errno : EIO);
    done += static_cast<uint64_t>(n);
  }
  if (int64_t const p = space.mprotect(GuestAddr(start), size, s.prot); p < 0) {
    return fail_host(fmt::format("{}: protecting a segment", program.path), static_cast<int>(-p));
  }
  return {};
}

Result<uint64_t> map_image(AddressSpace& space, OpenProgram const& program, ElfImage const& image, uint64_t base) {
  uint64_t const span = image.high - image.low;
  uint64_t bias = 0;
  if (image.position_independent) {
    // Reserve the whole span first, so that the segments are neighbours. base 0: anywhere.
    uint64_t const text = image.segments.front().file_offset == 0 ? elf_text_bytes(program.head) : 0;
    int64_t const at =
        space.mmap(GuestAddr(base), span, PROT_READ, MAP_PRIVATE, program.fd.get(), 0, program.mapped, text);
    if (at < 0)
      return fail(Errc::kRegionExhausted,
                  fmt::format("{}: no room for its {} MiB in the guest's memory", program.path, span >> 20));
    bias = static_cast<uint64_t>(at) - image.low;
  } else if (image.low < kLowBase || image.high > kLowEnd) {
    return fail(Errc::kBadElf,
                fmt::format("{}: linked at {:#x}..{:#x}; a position-dependent program must lie in {:#x}..{:#x}",
                            program.path, image.low, image.high, kLowBase, kLowEnd));
  }
  uint64_t done_to = image.low + bias;
  for (ElfSegment const& s : image.segments) {
    uint64_t const start = page_down(s.address) + bias, end = page_up(s.address + s.memory_size) + bias;
    if (start > done_to && image.position_independent) {
      if (space.munmap(GuestAddr(done_to), start - done_to) < 0) return fail_host("unmapping between segments", ENOMEM);
    }
    done_to = end;
    if (auto mapped = map_segment(space, program, s, bias); !mapped) return tl::unexpected(mapped.error());
  }
  return bias;
}

// Builds the first stack from its top down.
class StackBuilder {
 public:
  StackBuilder(AddressSpace& space, uint64_t top) : space_(space), at_(top) {}
  uint64_t push(void const* data, uint64_t size, uint64_t align = 1) {
    at_ = (at_ - size) & ~(align - 1);
    std::memcpy(space_.alias(GuestAddr(at_)), data, size);
    return at_;
  }
  uint64_t push(std::string const& text) { return push(text.c_str(), text.size() + 1); }
  [[nodiscard]] uint64_t at() const { return at_; }

 private:
  AddressSpace& space_;
  uint64_t at_;
};

struct Loaded {
  uint64_t program_bias = 0, interpreter_base = 0, entry = 0;
};

// The first thread's stack, with a guard below it; its top.
Result<uint64_t> map_stack(AddressSpace& space) {
  int const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
  int64_t const at = space.mmap(GuestAddr(), kStackSize + kStackGuard, PROT_READ | PROT_WRITE, flags, -1, 0, "[stack]");
  if (at < 0 || space.mprotect(GuestAddr(static_cast<uint64_t>(at)), kStackGuard, PROT_NONE) < 0) {
    return fail(Errc::kRegionExhausted, "no room for the first thread's stack");
  }
  return static_cast<uint64_t>(at) + kStackGuard + kStackSize;
}

Result<uint64_t> build_stack(Process& process, ElfImage const& image, Loaded const& loaded, uint64_t vdso,
                             uint64_t top) {
  AddressSpace& space = process.memory();
  uint64_t strings = 0;
  for (auto const& s : process.argv) strings += s.size() + 9;
  for (auto const& s : process.envp) strings += s.size() + 9;
  if (strings > kStackSize / 4) return fail_host("the program's arguments and environment", E2BIG);
  StackBuilder stack(space, top - 16);
  std::vector<uint64_t> args, env;
  uint64_t const exec_name = stack.push(process.exe_path);
  for (auto const& s : process.envp) env.push_back(stack.push(s));
  for (auto const& s : process.argv) args.push_back(stack.push(s));
  unsigned char random[16];
  if (getrandom(random, sizeof random, 0) != sizeof random) return fail_host("getrandom");
  uint64_t const random_at = stack.push(random, sizeof random, 16);
  uint64_t const platform = stack.push(std::string("x86_64"));

  std::vector<uint64_t> words{process.argv.size()};
  words.insert(words.end(), args.begin(), args.end());
  words.push_back(0);
  words.insert(words.end(), env.begin(), env.end());
  words.push_back(0);
  auto const aux = [&](uint64_t key, uint64_t value) {
    words.push_back(key);
    words.push_back(value);
  };
  if (vdso != 0) aux(AT_SYSINFO_EHDR, vdso);
  aux(AT_HWCAP, getauxval(AT_HWCAP));
  aux(AT_PAGESZ, kPageSize);
  aux(AT_CLKTCK, static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
  aux(AT_PHDR, image.program_headers + loaded.program_bias);
  aux(AT_PHENT, sizeof(Elf64_Phdr));
  aux(AT_PHNUM, image.program_header_count);
  aux(AT_BASE, loaded.interpreter_base);
  aux(AT_FLAGS, 0);
  aux(AT_ENTRY, image.entry + loaded.program_bias);
  aux(AT_UID, getuid());
  aux(AT_EUID, geteuid());
  aux(AT_GID, getgid());
  aux(AT_EGID, getegid());
  aux(AT_SECURE, 0);
  aux(AT_RANDOM, random_at);
  aux(AT_HWCAP2, getauxval(AT_HWCAP2));
  aux(AT_EXECFN, exec_name);
  aux(AT_PLATFORM, platform);
  if (uint64_t const minimum = getauxval(51 /* AT_MINSIGSTKSZ */); minimum != 0) aux(51, minimum);
  aux(AT_NULL, 0);
  uint64_t const size = words.size() * 8;
  uint64_t const sp = (stack.at() - size) & ~UINT64_C(15);
  std::memcpy(space.alias(GuestAddr(sp)), words.data(), size);
  return sp;
}

}  // namespace

Result<Registers> load_program(Process& process, ProgramSpec const& spec) {
  process.argv = spec.argv;
  process.envp = spec.envp;
  auto path = find_in_path(spec.argv.empty() ? "" : spec.argv[0]);
  if (!path) return tl::unexpected(path.error());
  auto program = open_program(*path, Errc::kNoProgram);
  if (!program) return tl::unexpected(program.error());
  for (unsigned depth = 0;; ++depth) {
    auto script = follow_script(*program, process.argv);
    if (!script) return tl::unexpected(script.error());
    if (!*script) break;
    if (depth == kMaxScripts)
      return fail(Errc::kNoInterpreter, fmt::format("{}: scripts nested too deeply", *path), ELOOP);
  }
  process.exe_path = program->mapped;
  // As Linux: the name is the script's or program's own, not the interpreter's.
  process.command_name = path->substr(path->rfind('/') + 1).substr(0, 15);

  auto image = parse_elf(program->head, program->size, program->path);
  if (!image) return tl::unexpected(image.error());
  AddressSpace& space = process.memory();
  auto stack = map_stack(space);
  if (!stack) return tl::unexpected(stack.error());
  Loaded loaded;
  auto bias = map_image(space, *program, *image, kProgramBase);
  if (!bias) return tl::unexpected(bias.error());
  loaded.program_bias = *bias;
  loaded.entry = image->entry + *bias;
  space.set_brk_start(GuestAddr(image->high + *bias));
  if (!image->interpreter.empty()) {
    auto interpreter = open_program(image->interpreter, Errc::kNoInterpreter);
    if (!interpreter) {
      return fail(Errc::kNoInterpreter,
                  fmt::format("{}: its interpreter {}", program->path, interpreter.error().message),
                  interpreter.error().sys_errno);
    }
    auto linker = parse_elf(interpreter->head, interpreter->size, interpreter->path);
    if (!linker) return tl::unexpected(linker.error());
    auto base = map_image(space, *interpreter, *linker, 0);
    if (!base) return tl::unexpected(base.error());
    loaded.interpreter_base = *base;
    loaded.entry = linker->entry + *base;
  }
  auto vdso = load_vdso(space);
  if (!vdso) return tl::unexpected(vdso.error());
  process.time_page = vdso->time_page;
  process.time_page_at = vdso->page;
  auto sp = build_stack(process, *image, loaded, vdso->image.value, *stack);
  if (!sp) return tl::unexpected(sp.error());
  Registers regs;
  regs.rip = loaded.entry;
  regs.rsp = *sp;
  return regs;
}

}  // namespace vmm
