#include "runtime/checkpoint/checkpoint.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <thread>

#include "runtime/checkpoint/file_maps.hpp"
#include "runtime/checkpoint/socket_hooks.hpp"
#include "runtime/checkpoint/stream.hpp"
#include "runtime/recovery.hpp"
#include "vmm/checkpoint/capture.hpp"

namespace vmsrs::checkpoint {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kChunk = 256;  // pages of one section
constexpr auto kRetry = std::chrono::milliseconds(1);

uint64_t ns_since(Clock::time_point from) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - from).count());
}

bool is_zero(std::byte const* page) {
  static std::byte const zeros[vmm::kPageSize] = {};
  return std::memcmp(page, zeros, vmm::kPageSize) == 0;
}

// Memory whose pages stay with it, so that the copies in a pause touch none for the first time.
class Arena {
 public:
  std::byte* reserve(uint64_t bytes) {
    if (bytes <= bytes_) return at_;
    release();
    uint64_t const size = std::max<uint64_t>(std::bit_ceil(bytes), 8 << 20);
    void* const at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return nullptr;
    madvise(at, size, MADV_HUGEPAGE);
    at_ = static_cast<std::byte*>(at);
    bytes_ = size;
    return at_;
  }
  void warm() {
    if (at_ == nullptr) (void)reserve(8 << 20);
    if (at_ != nullptr) madvise(at_, bytes_, MADV_POPULATE_WRITE);
  }
  void release() {
    if (at_ != nullptr) munmap(at_, bytes_);
    at_ = nullptr;
    bytes_ = 0;
  }
  Arena() = default;
  ~Arena() { release(); }
  Arena(Arena const&) = delete;
  Arena& operator=(Arena const&) = delete;

 private:
  std::byte* at_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace

class Captured {
 public:
  StreamInfo info;
  vmm::ProcessState state;
  bool has_recovery = false;
  std::vector<std::byte> recovery;
  std::vector<uint64_t> numbers;  // of the pages in the arena
  std::vector<uint64_t> holes;    // pages that the file does not have any more: zeros
  std::unique_ptr<Arena> arena;
  std::byte const* pages = nullptr;
  std::unique_ptr<StreamWriter> early;  // full: with the pages that were copied while the guest ran
  Cost cost;
};

struct Checkpointer::Parts {
  Parts(vmm::GuestProcess& p, Options o) : process(p), options(std::move(o)) {}

  vmm::GuestProcess& process;
  Options options;
  uint64_t number = 0, session = 0;
  bool tracking = false;
  std::vector<uint64_t> dirty;   // of the capture in work
  std::vector<uint64_t> marked;  // of these: those that the host's side has marked
  std::mutex arenas_mutex;
  std::vector<std::unique_ptr<Arena>> arenas;  // free ones
  FileMaps file_maps;
  uint64_t* hashes = nullptr;  // of each page as it was encoded last; 0: never
  uint64_t hashes_bytes = 0;

  [[nodiscard]] vmm::AddressSpace& memory() const { return process.memory(); }
  [[nodiscard]] uint64_t pages() const { return memory().dirty().pages(); }
  [[nodiscard]] std::byte* base() const {
    // The memory file from its beginning: the low window lies at its own address there.
    return memory().alias(vmm::GuestAddr(vmm::kLowBase)) - vmm::kLowBase;
  }

  std::unique_ptr<Arena> arena() {
    std::lock_guard lock(arenas_mutex);
    if (arenas.empty()) {
      auto fresh = std::make_unique<Arena>();
      fresh->warm();
      return fresh;
    }
    auto kept = std::move(arenas.back());
    arenas.pop_back();
    return kept;
  }
  void give_back(std::unique_ptr<Arena> used) {
    if (!used) return;
    std::lock_guard lock(arenas_mutex);
    if (arenas.size() < 3) arenas.push_back(std::move(used));
  }

  vmm::Result<void> fetch() {
    std::ranges::fill(marked, 0);
    memory().dirty().take(marked);
    auto logged = process.vm().fetch_dirty(dirty);
    for (size_t i = 0; i < dirty.size(); ++i) {
      uint64_t const guest = dirty[i];
      dirty[i] |= marked[i];
      marked[i] &= ~guest;
    }
    return logged;
  }
  // The first page from `page` on that the memory file has.
  [[nodiscard]] uint64_t next_data(uint64_t page) const {
    off_t const at = lseek(memory().memfd(), static_cast<off_t>(page * vmm::kPageSize), SEEK_DATA);
    return at < 0 ? pages() : static_cast<uint64_t>(at) / vmm::kPageSize;
  }
  // The pages found dirty are so still: nobody has them.
  void put_back(std::span<uint64_t const> more) {
    for (size_t i = 0; i < more.size(); ++i) dirty[i] |= more[i];
    if (!more.empty()) std::memset(hashes, 0, hashes_bytes);  // of copies that nobody gets
    for (uint64_t i = 0; i < dirty.size(); ++i) {
      for (uint64_t bits = dirty[i]; bits != 0; bits &= bits - 1) {
        memory().dirty().mark((i * 64 + static_cast<uint64_t>(std::countr_zero(bits))) * vmm::kPageSize, 1);
      }
    }
  }
  vmm::Result<void> start_tracking();
  // A stop at which a checkpoint can be taken, or the reason why there was none for so long.
  vmm::Result<void> stop_guest(Cost& cost, Clock::time_point& since);
  vmm::Result<void> copy_dirty(Captured& captured);
  void copy_running(Captured& captured);
  [[nodiscard]] uint64_t unseen_changes() const;
  static vmm::GuestAddr address_of(uint64_t page) {
    uint64_t const at = page * vmm::kPageSize;
    return vmm::GuestAddr(at < vmm::kLowEnd ? at : at + vmm::kHighBase);
  }
  void write_pages(StreamWriter& writer, std::byte const* from, std::span<uint64_t const> numbers, bool full,
                   Cost& cost);
  void write_zeros(StreamWriter& writer, std::span<uint64_t const> zeros);
};

vmm::Result<void> Checkpointer::Parts::start_tracking() {
  if (tracking) return {};
  hashes_bytes = pages() * sizeof(uint64_t);
  void* const at =
      mmap(nullptr, hashes_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return vmm::fail_host("mmap of the pages' hashes");
  hashes = static_cast<uint64_t*>(at);
  dirty.resize((pages() + 63) / 64);
  marked.resize(dirty.size());
  process.stop_at_gates();
  memory().dirty().track(true);
  auto on = process.vm().track_writes(true);
  process.resume_all();
  tracking = on.has_value();
  return on;
}

vmm::Result<void> Checkpointer::Parts::stop_guest(Cost& cost, Clock::time_point& since) {
  auto const give_up = Clock::now() + std::chrono::milliseconds(options.patience_ms);
  for (;;) {
    since = Clock::now();
    process.stop_at_gates();
    cost.stop_ns = ns_since(since);
    std::string busy = process.view_open() ? "a thread of the guest is in a copy-on-write view" : "";
    if (busy.empty() && options.recovery != nullptr) {
      if (auto ready = options.recovery->prepare_checkpoint(); !ready) {
        if (ready.error().code != vmm::Errc::kBusy) {
          process.resume_all();
          return ready;
        }
        busy = ready.error().message;
      }
    }
    if (busy.empty()) {
      if (options.owner != nullptr) options.owner->boundary();
      if (options.at_boundary) options.at_boundary();
      return {};
    }
    process.resume_all();
    if (Clock::now() > give_up) {
      return vmm::fail(vmm::Errc::kBusy,
                       fmt::format("no moment to checkpoint in {} ms: {}", options.patience_ms, busy));
    }
    std::this_thread::sleep_for(kRetry);
  }
}

vmm::Result<void> Checkpointer::Parts::copy_dirty(Captured& captured) {
  uint64_t count = 0;
  for (uint64_t const word : dirty) count += static_cast<uint64_t>(std::popcount(word));
  captured.numbers.clear();
  captured.numbers.reserve(count);
  std::byte* to = captured.arena->reserve(count * vmm::kPageSize);
  if (to == nullptr) return vmm::fail_host("mmap for the changed pages");
  captured.pages = to;
  std::byte const* const from = base();
  uint64_t hole_end = 0;  // pages below it that are marked and not copied are holes
  for (uint64_t i = 0; i < dirty.size(); ++i) {
    for (uint64_t bits = dirty[i]; bits != 0; bits &= bits - 1) {
      auto const bit = static_cast<uint64_t>(std::countr_zero(bits));
      uint64_t const page = i * 64 + bit;
      if (file_maps.covers(page)) {
        if (!file_maps.copy(memory(), page, to)) std::memset(to, 0, vmm::kPageSize);
        to += vmm::kPageSize;
        captured.numbers.push_back(page);
        continue;
      }
      // A mark may stand for memory that was given back: looking at it would make a page of it again.
      if ((marked[i] >> bit & 1) != 0) {
        if (page >= hole_end) hole_end = next_data(page);
        if (page < hole_end) {
          captured.holes.push_back(page);
          continue;
        }
      }
      std::memcpy(to, from + page * vmm::kPageSize, vmm::kPageSize);
      to += vmm::kPageSize;
      captured.numbers.push_back(page);
    }
  }
  captured.cost.pages_copied += captured.numbers.size();
  return {};
}

// A page that differs from what was encoded last and is in no log; 0: none.
uint64_t Checkpointer::Parts::unseen_changes() const {
  static std::byte const zeros[vmm::kPageSize] = {};
  uint64_t const hash_of_zeros = hash_of(zeros) | 1;
  for (uint64_t page = next_data(0); page < pages(); page = next_data(page + 1)) {
    if ((dirty[page / 64] >> (page % 64) & 1) != 0 || file_maps.covers(page)) continue;
    uint64_t const hash = hash_of({base() + page * vmm::kPageSize, vmm::kPageSize}) | 1;
    if (hash == (hashes[page] != 0 ? hashes[page] : hash_of_zeros)) continue;
    vmm::Vma vma;  // the clocks' page is the monitor's, which writes it anew when a guest is restored
    if (!memory().find_vma(address_of(page), vma) || vma.name != "[vdso]") return page;
  }
  return 0;
}

// All pages that the memory file has, while the guest runs: what changes meanwhile is in the log and copied again.
void Checkpointer::Parts::copy_running(Captured& captured) {
  captured.early = std::make_unique<StreamWriter>(captured.info, options.compression);
  std::vector<uint64_t> numbers;
  std::vector<std::byte> copies(kChunk * vmm::kPageSize);
  std::byte const* const from = base();
  auto const flush = [&] {
    write_pages(*captured.early, copies.data(), numbers, true, captured.cost);
    numbers.clear();
  };
  auto const end = static_cast<off_t>(pages() * vmm::kPageSize);
  for (off_t at = 0; at < end;) {
    off_t const data = lseek(memory().memfd(), at, SEEK_DATA);
    if (data < 0) break;
    off_t const hole = std::min(lseek(memory().memfd(), data, SEEK_HOLE), end);
    for (at = data & ~static_cast<off_t>(vmm::kPageSize - 1); at < hole; at += vmm::kPageSize) {
      std::memcpy(copies.data() + numbers.size() * vmm::kPageSize, from + at, vmm::kPageSize);
      numbers.push_back(static_cast<uint64_t>(at) / vmm::kPageSize);
      if (numbers.size() == kChunk) flush();
    }
  }
  flush();
}

// Zeros and pages that are as they were encoded last are left out (full: only zeros).
void Checkpointer::Parts::write_pages(StreamWriter& writer, std::byte const* from, std::span<uint64_t const> numbers,
                                      bool full, Cost& cost) {
  std::vector<std::byte> data;
  std::vector<uint64_t> kept, zeros;
  auto const flush = [&] {
    uint64_t const count = kept.size();
    if (count == 0) return;
    std::span<std::byte const> const parts[] = {std::as_bytes(std::span(&count, 1)), std::as_bytes(std::span(kept)),
                                                data};
    writer.section(SectionKind::kPages, parts);
    kept.clear();
    data.clear();
  };
  for (size_t i = 0; i < numbers.size(); ++i) {
    std::byte const* const page = from + i * vmm::kPageSize;
    uint64_t const number = numbers[i];
    uint64_t const hash = hash_of({page, vmm::kPageSize}) | 1;
    if (hashes[number] == hash) continue;
    bool const known = hashes[number] != 0;
    hashes[number] = hash;
    cost.pages_kept += 1;
    if (is_zero(page)) {
      if (known || !full) zeros.push_back(number);
      continue;
    }
    kept.push_back(number);
    data.insert(data.end(), page, page + vmm::kPageSize);
    if (kept.size() == kChunk) flush();
  }
  flush();
  write_zeros(writer, zeros);
}

void Checkpointer::Parts::write_zeros(StreamWriter& writer, std::span<uint64_t const> zeros) {
  for (size_t at = 0; at < zeros.size(); at += kChunk * 64) {
    auto const part = zeros.subspan(at, std::min<size_t>(kChunk * 64, zeros.size() - at));
    uint64_t const count = part.size();
    std::span<std::byte const> const parts[] = {std::as_bytes(std::span(&count, 1)), std::as_bytes(part)};
    writer.section(SectionKind::kZero, parts);
  }
}

Checkpointer::Checkpointer(vmm::GuestProcess& process, Options options)
    : parts_(std::make_unique<Parts>(process, std::move(options))) {
  if (getrandom(&parts_->session, sizeof parts_->session, 0) != sizeof parts_->session) parts_->session = 1;
}

Checkpointer::~Checkpointer() {
  if (parts_->tracking) {
    parts_->memory().dirty().track(false);
    // The guest may have ended: then there is nothing to turn off.
    (void)parts_->process.vm().track_writes(false);
  }
  if (parts_->hashes != nullptr) munmap(parts_->hashes, parts_->hashes_bytes);
}

uint64_t Checkpointer::number() const noexcept {
  return parts_->number;
}

vmm::Result<std::unique_ptr<Captured>> Checkpointer::capture(bool full) {
  Parts& p = *parts_;
  full = full || p.number == 0;
  if (auto on = p.start_tracking(); !on) return tl::unexpected(on.error());
  auto captured = std::make_unique<Captured>();
  captured->info = {kStreamVersion, full ? kFlagFull : 0, p.number + 1, p.session};
  captured->arena = p.arena();
  std::ranges::fill(p.dirty, 0);
  std::vector<uint64_t> before;  // what was dirty before a full one copied it
  if (full) {
    std::memset(p.hashes, 0, p.hashes_bytes);
    if (auto r = p.fetch(); !r) return tl::unexpected(r.error());  // what is copied now
    before = p.dirty;
    std::ranges::fill(p.dirty, 0);
    p.copy_running(*captured);
  }
  if (p.options.before_stop && !p.options.before_stop()) {
    p.put_back(before);
    return vmm::fail(vmm::Errc::kBusy, "somebody does not want it stopped");
  }
  SocketHooks const hooks = socket_hooks(p.options.owner);
  Clock::time_point since;
  if (auto stopped = p.stop_guest(captured->cost, since); !stopped) {
    p.put_back(before);
    return tl::unexpected(stopped.error());
  }
  auto const at_state = Clock::now();
  auto state = vmm::capture_state(p.process, hooks);
  vmm::Result<void> done;
  if (!state) done = tl::unexpected(state.error());
  if (done && p.options.recovery != nullptr) {
    auto saved = p.options.recovery->save_checkpoint();
    if (!saved) done = tl::unexpected(saved.error());
    if (saved) captured->recovery = std::move(*saved), captured->has_recovery = true;
  }
  captured->cost.state_ns = ns_since(at_state);
  auto const at_memory = Clock::now();
  if (done) done = p.fetch();
  if (done) p.file_maps.look(p.memory(), full, p.dirty);
  if (done) done = p.copy_dirty(*captured);
  if (done && p.options.verify && !full) {
    if (uint64_t const page = p.unseen_changes(); page != 0) {
      vmm::GuestAddr const at = Parts::address_of(page);
      vmm::Vma vma;
      bool const mapped = p.memory().find_vma(at, vma);
      done =
          vmm::fail(vmm::Errc::kBadCheckpoint, fmt::format("epoch {}: {:#x} ({}) has changed and nobody marked it",
                                                           p.number + 1, at.value, mapped ? vma.name : "not mapped"));
    }
  }
  captured->cost.memory_ns = ns_since(at_memory);
  if (!done) p.put_back(before);
  p.process.resume_all();
  captured->cost.pause_ns = ns_since(since);
  if (!done) return tl::unexpected(done.error());
  captured->state = std::move(*state);
  captured->cost.threads = captured->state.threads.size();
  captured->cost.descriptors = captured->state.fds.entries.size();
  p.number += 1;
  return captured;
}

vmm::Result<Epoch> Checkpointer::encode(std::unique_ptr<Captured> captured) {
  Parts& p = *parts_;
  auto const since = Clock::now();
  bool const full = (captured->info.flags & kFlagFull) != 0;
  StreamWriter fresh(captured->info, p.options.compression);
  StreamWriter& writer = captured->early ? *captured->early : fresh;
  p.write_pages(writer, captured->pages, captured->numbers, false, captured->cost);
  static std::byte const zeros[vmm::kPageSize] = {};
  uint64_t const hash_of_zeros = hash_of(zeros) | 1;
  std::erase_if(captured->holes, [&](uint64_t page) {
    bool const known = p.hashes[page] == hash_of_zeros || (full && p.hashes[page] == 0);
    p.hashes[page] = hash_of_zeros;
    return known;
  });
  p.write_zeros(writer, captured->holes);
  captured->cost.pages_kept += captured->holes.size();
  Epoch epoch;
  epoch.number = captured->info.number;
  epoch.full = full;
  epoch.connections = connections_of(captured->state.fds);
  std::vector<std::byte> const state = vmm::encode(captured->state);
  if (state.size() > kMaxSection)
    return vmm::fail(vmm::Errc::kNotCheckpointable, "the guest's open files hold too much");
  writer.section(SectionKind::kState, state);
  if (captured->has_recovery) writer.section(SectionKind::kRecovery, captured->recovery);
  epoch.bytes = writer.finish();
  p.give_back(std::move(captured->arena));
  captured->cost.encode_ns = ns_since(since);
  epoch.cost = captured->cost;
  return epoch;
}

vmm::Result<Epoch> Checkpointer::take_full() {
  auto captured = capture(true);
  if (!captured) return tl::unexpected(captured.error());
  return encode(std::move(*captured));
}

vmm::Result<Epoch> Checkpointer::take_epoch() {
  auto captured = capture(false);
  if (!captured) return tl::unexpected(captured.error());
  return encode(std::move(*captured));
}

}  // namespace vmsrs::checkpoint
