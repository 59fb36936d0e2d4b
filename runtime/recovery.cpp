#include "runtime/recovery.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstring>

#include "runtime/recovery_state.hpp"
#include "runtime/store/store.hpp"

namespace vmsrs::runtime {
namespace {

// mov $15,%rax; syscall: what unwinders know a signal frame by (libgcc, gdb).
constexpr unsigned char kRestorerCode[] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};

}  // namespace

vmm::Result<std::unique_ptr<Recovery>> Recovery::create(Options const& options, vmm::AddressSpace& memory,
                                                        std::span<std::byte const> saved) {
  auto state = decode_recovery_state(saved);
  if (!state) return tl::unexpected(state.error());
  auto reporter = Reporter::open({.file = options.report});
  if (!reporter) return vmm::fail(vmm::Errc::kBadOption, reporter.error().message, reporter.error().sys_errno);
  auto slots = SlotArea::create(memory);
  if (!slots) return tl::unexpected(slots.error());
  if (*state && !slots->load((*state)->slots)) {
    return vmm::fail(vmm::Errc::kBadCheckpoint, "the checkpoint's slots make no sense");
  }
  store::ProcessConfig config;
  if (*state) config.saved = (*state)->store;
  config.wrote = [&memory](uint64_t offset) { memory.dirty().mark(offset, 1); };
  config.tag_base = memory.tag_base();
  config.address_mask = memory.address_mask();
  for (auto const& piece : memory.pieces()) {
    config.parts.push_back({memory.memfd(), piece.guest_base.value, piece.size, piece.memfd_offset});
  }
  auto client = store::StoreClient::start(config);
  if (!client) return vmm::fail(vmm::Errc::kHostCall, client.error().message);
  if (auto r = store::register_for_barrier(); !r) return vmm::fail(vmm::Errc::kHostCall, r.error().message);
  auto code = memory.map_shared_area(vmm::kPageSize, "[srs-return]");
  if (!code) return tl::unexpected(code.error());
  std::memcpy(memory.alias(*code), kRestorerCode, sizeof kRestorerCode);
  memory.set_area_protection(*code, PROT_READ | PROT_EXEC);
  Options own = options;
  if (*state) own.store = (*state)->store_mode;
  std::unique_ptr<Recovery> recovery(
      new Recovery(own, memory, std::move(*slots), std::move(*client), std::move(*reporter)));
  recovery->restorer_code_ = code->value;
  recovery->restored_ = std::move(*state);
  return recovery;
}

Recovery::Recovery(Options options, vmm::AddressSpace& memory, SlotArea slots,
                   std::unique_ptr<store::StoreClient> store, std::unique_ptr<Reporter> reporter)
    : options_(std::move(options)),
      memory_(memory),
      slots_(std::move(slots)),
      store_(std::move(store)),
      reporter_(std::move(reporter)),
      restorer_(memory, *store_),
      started_ns_(monotonic_ns()) {
  if (options_.rescue.on) rescue_ = std::make_unique<Rescue>(options_.rescue, *reporter_, symbols_, faults_);
}

Recovery::~Recovery() {
  watch_.stop();
}

void Recovery::on_process_start(vmm::Process& process) {
  process_ = &process;
  if (rescue_) rescue_->on_process_start(process);
}

void Recovery::on_thread_start(vmm::Thread& thread) {
  if (rescue_) Rescue::on_thread_start(thread);
}

void Recovery::on_process_end(vmm::Process& process) {
  watch_.stop();
  if (rescue_) rescue_->on_process_end();
  {
    std::lock_guard lock(abort_mutex_);
    restorer_.sweep(UINT64_MAX);
  }
  tell_finished();
  if (shadowed_) {
    if (auto const wild = store_->shadow_check(); wild && wild->left != 0) {
      reporter_->finding(
          0, fmt::format("{} words of logged ranges changed without explanation, and no fault followed", wild->left));
    }
  }
  if (attached_ || rescue_) reporter_->summary(summary(process));
}

RunSummary Recovery::summary(vmm::Process& process) {
  RunSummary s;
  s.program = process.exe_path;
  s.seconds = static_cast<double>(monotonic_ns() - started_ns_) / 1e9;
  s.recovery = "on";
  s.store = options_.store == SRS_STORE_STRICT ? "strict" : "log";
  s.restore = name_of(options_.restore);
  s.totals = reporter_->totals();
  vmm::Stats const& stats = process.stats();
  s.kvm_exits = stats.kvm_exits.load();
  s.hypercalls = stats.hypercalls.load();
  for (auto const& n : stats.syscalls) s.syscalls += n.load();
  s.missing_traps = stats.missing_traps.load();
  s.kicks = stats.kicks.load();
  s.threads_started = stats.threads_started.load();
  s.peak_threads = stats.peak_threads.load();
  if (auto of_store = store_->stats()) {
    s.commits = of_store->commits;
    s.aborts = of_store->aborts;
    s.scopes = s.commits + s.aborts;
  }
  return s;
}

uint64_t Recovery::open_scopes() const {
  uint64_t open = 0;
  uint64_t const top = slots_.top();
  for (uint64_t i = 1; i < top; ++i) open += __atomic_load_n(&slots_.host(i)->depth, __ATOMIC_RELAXED) != 0 ? 1 : 0;
  return open;
}

uint64_t Recovery::log_records() {
  auto const stats = store_->stats();
  return stats ? stats->records : 0;
}

char const* name_of(RestoreMode mode) {
  switch (mode) {
    case RestoreMode::kAuto:
      return "auto";
    case RestoreMode::kEager:
      return "eager";
    case RestoreMode::kDemand:
      return "demand";
  }
  return "unknown";
}

}  // namespace vmsrs::runtime
