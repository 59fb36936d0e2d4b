#include "runtime/backtrace.hpp"

#include <libunwind-x86_64.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <utility>

#include "runtime/modules.hpp"

// Exported by libunwind, declared in none of its public headers: the binary search of a .eh_frame_hdr table that is
// read through the accessors, and the parsing of what it finds.
extern "C" int _Ux86_64_dwarf_search_unwind_table(unw_addr_space_t space, unw_word_t ip, unw_dyn_info_t* table,
                                                  unw_proc_info_t* info, int need_unwind_info, void* arg);

namespace vmsrs::runtime {
namespace {

// Words read for one backtrace. Each step of libunwind reads guest memory, so this bounds its time even if call frame
// information was overwritten with a program that never ends.
constexpr uint64_t kReadBudget = 200'000;
constexpr uint64_t kScanBytes = 8192;

class Unwinder {
 public:
  Unwinder(GuestView const& view, vmm::Registers const& registers)
      : view_(view), modules_(view), registers_(registers) {}

  std::vector<Frame> run(size_t max_frames, bool is_return);
  [[nodiscard]] BacktraceEnd end() const { return {registers_, is_return_}; }

 private:
  using Space = std::unique_ptr<std::remove_pointer_t<unw_addr_space_t>, decltype(&unw_destroy_addr_space)>;

  static int find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t* info, int need, void* arg);
  static int access_mem(unw_addr_space_t, unw_word_t addr, unw_word_t* value, int write, void* arg);
  static int access_reg(unw_addr_space_t, unw_regnum_t number, unw_word_t* value, int write, void* arg);

  [[nodiscard]] bool table_of(Module const& module, unw_dyn_info_t& table) const;
  [[nodiscard]] bool executable(uint64_t ip) const;
  [[nodiscard]] bool follows_call(uint64_t ip) const;
  [[nodiscard]] bool is_sigreturn(uint64_t ip) const;
  bool step();       // to the caller by libunwind; false: it cannot say
  bool scan_step();  // to the next word of the stack that looks like a return address
  bool frame_pointer_step();
  bool leave_call();
  void add(uint64_t ip, bool is_return, bool guessed);

  GuestView const& view_;
  Modules modules_;
  vmm::Registers registers_;  // of the frame that is being left
  bool is_return_ = false;    // registers_.rip is a return address
  uint64_t looked_up_ = 0;    // what libunwind is told of rip: for a return address the call before it
  bool found_info_ = false;
  bool ended_ = false;  // call frame information says: the outermost frame
  uint64_t reads_ = 0;
  unw_addr_space_t space_ = nullptr;
  std::vector<Frame> frames_;
};

int Unwinder::access_mem(unw_addr_space_t, unw_word_t addr, unw_word_t* value, int write, void* arg) {
  auto& self = *static_cast<Unwinder*>(arg);
  if (write != 0) return -UNW_EREADONLYREG;
  if (++self.reads_ > kReadBudget || !self.view_.read(addr, value, sizeof *value)) return -UNW_EINVAL;
  return 0;
}

int Unwinder::access_reg(unw_addr_space_t, unw_regnum_t number, unw_word_t* value, int write, void* arg) {
  auto const& r = static_cast<Unwinder*>(arg)->registers_;
  if (write != 0) return -UNW_EREADONLYREG;
  switch (number) {
    case UNW_X86_64_RAX:
      *value = r.rax;
      return 0;
    case UNW_X86_64_RBX:
      *value = r.rbx;
      return 0;
    case UNW_X86_64_RCX:
      *value = r.rcx;
      return 0;
    case UNW_X86_64_RDX:
      *value = r.rdx;
      return 0;
    case UNW_X86_64_RSI:
      *value = r.rsi;
      return 0;
    case UNW_X86_64_RDI:
      *value = r.rdi;
      return 0;
    case UNW_X86_64_RBP:
      *value = r.rbp;
      return 0;
    case UNW_X86_64_RSP:
      *value = r.rsp;
      return 0;
    case UNW_X86_64_R8:
      *value = r.r8;
      return 0;
    case UNW_X86_64_R9:
      *value = r.r9;
      return 0;
    case UNW_X86_64_R10:
      *value = r.r10;
      return 0;
    case UNW_X86_64_R11:
      *value = r.r11;
      return 0;
    case UNW_X86_64_R12:
      *value = r.r12;
      return 0;
    case UNW_X86_64_R13:
      *value = r.r13;
      return 0;
    case UNW_X86_64_R14:
      *value = r.r14;
      return 0;
    case UNW_X86_64_R15:
      *value = r.r15;
      return 0;
    case UNW_X86_64_RIP:
      *value = static_cast<Unwinder*>(arg)->looked_up_;
      return 0;
    default:
      return -UNW_EBADREG;
  }
}

int Unwinder::find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t* info, int need, void* arg) {
  auto& self = *static_cast<Unwinder*>(arg);
  Module const* const module = self.modules_.find(ip);
  unw_dyn_info_t table{};
  if (module == nullptr || ip < module->start || ip >= module->end || !self.table_of(*module, table)) {
    return -UNW_ENOINFO;
  }
  int const result = _Ux86_64_dwarf_search_unwind_table(space, ip, &table, info, need, arg);
  if (result == 0) self.found_info_ = true;
  return result;
}

// .eh_frame_hdr: version 1, then the encodings of eh_frame_ptr, the count and the table; then those three. Only what
// linkers write (4-byte pointer, 4-byte count, table of pairs of 4 bytes relative to the header) is taken.
bool Unwinder::table_of(Module const& module, unw_dyn_info_t& table) const {
  struct Header {
    uint8_t version, pointer_encoding, count_encoding, table_encoding;
    uint32_t eh_frame, count;
  } header{};
  if (module.eh_frame_hdr == 0 || !view_.read(module.eh_frame_hdr, &header, sizeof header)) return false;
  constexpr uint8_t kUdata4 = 0x03, kSdata4 = 0x0b, kDataRelative = 0x30;
  if (header.version != 1 || (header.pointer_encoding & 0x07) != kUdata4 || header.count_encoding != kUdata4 ||
      header.table_encoding != (kDataRelative | kSdata4)) {
    return false;
  }
  constexpr uint64_t kEntry = 8;
  if (module.eh_frame_hdr_size < sizeof header) return false;
  uint64_t const room = (module.eh_frame_hdr_size - sizeof header) / kEntry;
  uint64_t const count = std::min<uint64_t>(header.count, room);
  if (count == 0) return false;
  table.start_ip = module.start;
  table.end_ip = module.end;
  table.format = UNW_INFO_FORMAT_REMOTE_TABLE;
  table.u.rti.segbase = module.eh_frame_hdr;
  table.u.rti.table_len = count * kEntry / sizeof(unw_word_t);
  table.u.rti.table_data = module.eh_frame_hdr + sizeof header;
  return true;
}

bool Unwinder::executable(uint64_t ip) const {
  Mapping const* const mapping = find_mapping(view_, ip);
  return mapping != nullptr && mapping->executable;
}

// Whether a call instruction ends at ip: e8 rel32, or ff /2 with any addressing form.
bool Unwinder::follows_call(uint64_t ip) const {
  constexpr size_t kLongest = 7;
  if (!executable(ip - 1)) return false;
  std::array<uint8_t, kLongest> code{};
  if (!view_.read(ip - kLongest, code.data(), code.size())) return false;
  auto const back = [&](size_t n) { return code[kLongest - n]; };  // the byte n before ip
  if (back(5) == 0xe8) return true;
  for (size_t length = 2; length <= kLongest; ++length) {
    if (back(length) != 0xff) continue;
    uint8_t const modrm = back(length - 1), mod = modrm >> 6, rm = modrm & 7;
    if (((modrm >> 3) & 7) != 2) continue;
    size_t size = 2;
    if (mod != 3 && rm == 4) {
      ++size;
      if (length >= 3 && mod == 0 && (back(length - 2) & 7) == 5) size += 4;
    }
    if (mod == 1) size += 1;
    if (mod == 2 || (mod == 0 && rm == 5)) size += 4;
    if (size == length) return true;
  }
  return false;
}

// The return of a signal handler: mov $15, %rax; syscall.
bool Unwinder::is_sigreturn(uint64_t ip) const {
  constexpr std::array<uint8_t, 9> kCode{0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
  std::array<uint8_t, kCode.size()> code{};
  return view_.read(ip, code.data(), code.size()) && code == kCode;
}

bool Unwinder::step() {
  bool const from_signal = is_sigreturn(registers_.rip);
  looked_up_ = registers_.rip - (is_return_ && !from_signal ? 1 : 0);
  unw_cursor_t cursor;
  found_info_ = false;
  ended_ = false;
  if (unw_init_remote(&cursor, space_, this) != 0) return false;
  int const result = unw_step(&cursor);
  if (result == 0 && found_info_) ended_ = true;
  if (result <= 0) return false;
  constexpr std::array<std::pair<int, uint64_t vmm::Registers::*>, 8> kKept{{
      {UNW_X86_64_RIP, &vmm::Registers::rip},
      {UNW_X86_64_RSP, &vmm::Registers::rsp},
      {UNW_X86_64_RBX, &vmm::Registers::rbx},
      {UNW_X86_64_RBP, &vmm::Registers::rbp},
      {UNW_X86_64_R12, &vmm::Registers::r12},
      {UNW_X86_64_R13, &vmm::Registers::r13},
      {UNW_X86_64_R14, &vmm::Registers::r14},
      {UNW_X86_64_R15, &vmm::Registers::r15},
  }};
  vmm::Registers next = registers_;
  for (auto const& [number, member] : kKept) {
    unw_word_t value = 0;
    if (unw_get_reg(&cursor, number, &value) == 0) next.*member = value;
  }
  if (next.rip == 0) {
    ended_ = found_info_;
    return false;
  }
  if (!found_info_ && !from_signal) return false;  // libunwind guessed: that is done better below
  if (!executable(next.rip) && !executable(next.rip - 1)) return false;
  registers_ = next;
  is_return_ = !from_signal;
  return true;
}

bool Unwinder::frame_pointer_step() {
  constexpr uint64_t kMaxFrame = 1 << 20;
  uint64_t const rbp = registers_.rbp;
  std::array<uint64_t, 2> link{};  // the caller's rbp, the return address
  if (rbp % 8 != 0 || rbp < registers_.rsp || rbp - registers_.rsp > kMaxFrame ||
      !view_.read(rbp, link.data(), sizeof link) || link[1] <= 8 || !follows_call(link[1])) {
    return false;
  }
  registers_.rip = link[1];
  registers_.rsp = rbp + sizeof link;
  registers_.rbp = link[0];
  is_return_ = true;
  return true;
}

bool Unwinder::scan_step() {
  uint64_t const from = (registers_.rsp + 7) & ~uint64_t{7};
  for (uint64_t at = from; at < from + kScanBytes && at >= from; at += 8) {
    uint64_t word = 0;
    if (++reads_ > kReadBudget || !view_.read(at, &word, sizeof word)) return false;
    if (word > 8 && follows_call(word)) {
      registers_.rip = word;
      registers_.rsp = at + 8;
      is_return_ = true;
      return true;
    }
  }
  return false;
}

// After a call to nowhere, or at the start of a function, the return address is what rsp points to.
bool Unwinder::leave_call() {
  uint64_t word = 0;
  if (!view_.read(registers_.rsp, &word, sizeof word) || word <= 8 || !follows_call(word)) return false;
  registers_.rip = word;
  registers_.rsp += 8;
  is_return_ = true;
  return true;
}

void Unwinder::add(uint64_t ip, bool is_return, bool guessed) {
  Frame frame;
  frame.ip = ip;
  frame.sp = registers_.rsp;
  frame.is_return = is_return;
  frame.guessed = guessed;
  if (Module const* const module = modules_.find(is_return ? ip - 1 : ip)) {
    frame.module = module->file;
    frame.offset = ip - module->bias;
    frame.build_id = module->build_id;
  } else if (Mapping const* const mapping = find_mapping(view_, ip)) {
    frame.module = mapping->file;
    frame.offset = ip - mapping->start;
  }
  frames_.push_back(std::move(frame));
}

std::vector<Frame> Unwinder::run(size_t max_frames, bool is_return) {
  if (max_frames == 0) return {};
  is_return_ = is_return;
  add(registers_.rip, is_return, false);
  unw_accessors_t accessors{};
  accessors.find_proc_info = find_proc_info;
  // What find_proc_info allocates comes from libunwind's own pool and is given back there by libunwind itself.
  accessors.put_unwind_info = [](unw_addr_space_t, unw_proc_info_t*, void*) {};
  accessors.get_dyn_info_list_addr = [](unw_addr_space_t, unw_word_t*, void*) { return -UNW_ENOINFO; };
  accessors.access_mem = access_mem;
  accessors.access_reg = access_reg;
  accessors.access_fpreg = [](unw_addr_space_t, unw_regnum_t, unw_fpreg_t*, int, void*) { return -UNW_EBADREG; };
  accessors.resume = [](unw_addr_space_t, unw_cursor_t*, void*) { return -UNW_EINVAL; };
  accessors.get_proc_name = [](unw_addr_space_t, unw_word_t, char*, size_t, unw_word_t*, void*) {
    return -UNW_ENOINFO;
  };
  Space const space(unw_create_addr_space(&accessors, 0), unw_destroy_addr_space);
  if (space == nullptr) return frames_;
  space_ = space.get();
  unw_set_caching_policy(space_, UNW_CACHE_NONE);  // one backtrace: the tables may have changed by the next

  std::vector<std::pair<uint64_t, uint64_t>> seen;  // (rip, rsp): the same again is a cycle
  while (frames_.size() < max_frames && reads_ <= kReadBudget) {
    seen.emplace_back(registers_.rip, registers_.rsp);
    bool const innermost = frames_.size() == 1;
    bool const bad_call = innermost && !executable(registers_.rip);
    bool guessed = false;
    if (bad_call ? !leave_call() : !step()) {
      guessed = true;
      if (ended_ || (!(innermost && leave_call()) && !frame_pointer_step() && !scan_step())) break;
    }
    if (std::ranges::find(seen, std::pair{registers_.rip, registers_.rsp}) != seen.end()) break;
    add(registers_.rip, is_return_, guessed);
  }
  return std::move(frames_);
}

}  // namespace

std::vector<Frame> backtrace(GuestView const& view, vmm::Registers const& registers, size_t max_frames,
                             BacktraceEnd* end, bool is_return) {
  Unwinder unwinder(view, registers);
  auto frames = unwinder.run(max_frames, is_return);
  if (end != nullptr) *end = unwinder.end();
  return frames;
}

}  // namespace vmsrs::runtime
