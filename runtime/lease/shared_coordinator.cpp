#include "runtime/lease/shared_coordinator.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <new>

namespace ipc = boost::interprocess;

namespace vmsrs::runtime {

struct SharedCoordinator::Slot {
  std::atomic<int32_t> pid;    // 0: free
  std::atomic<uint32_t> role;  // 0: not filled in yet
  std::array<char, 112> address;
};

struct SharedCoordinator::Page {
  static constexpr uint64_t kMagic = 0x31657361656c7376;  // the last digit is the layout's version
  std::atomic<uint64_t> magic;
  std::atomic<uint64_t> lease;
  std::atomic<uint64_t> revoked;  // term * 2 + replay
  std::array<Slot, 16> slots;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

namespace {

constexpr int kTimeBits = 40;
constexpr uint64_t kTimeMask = (uint64_t{1} << kTimeBits) - 1;

uint64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}
uint64_t pack(Term term, uint64_t until) {
  return term << kTimeBits | (until & kTimeMask);
}
Term term_of(uint64_t lease) {
  return lease >> kTimeBits;
}
bool runs(uint64_t lease) {
  return (lease & kTimeMask) > now_ms();
}

tl::unexpected<vmm::Error> shared_memory_error(std::string const& name, ipc::interprocess_exception const& e) {
  return vmm::fail(vmm::Errc::kHostCall, fmt::format("shared memory {}: {}", name, e.what()), e.get_native_error());
}

}  // namespace

SharedCoordinator::Page& SharedCoordinator::page() const {
  return *static_cast<Page*>(region_.get_address());
}

vmm::Result<std::unique_ptr<SharedCoordinator>> SharedCoordinator::create(std::string const& name) {
  try {
    std::unique_ptr<SharedCoordinator> self(new SharedCoordinator);
    ipc::shared_memory_object memory(ipc::create_only, name.c_str(), ipc::read_write, ipc::permissions(0600));
    self->remove_ = name;
    memory.truncate(sizeof(Page));
    self->region_ = ipc::mapped_region(memory, ipc::read_write);
    new (self->region_.get_address()) Page{};
    self->page().magic.store(Page::kMagic, std::memory_order_release);
    return self;
  } catch (ipc::interprocess_exception const& e) {
    return shared_memory_error(name, e);
  }
}

vmm::Result<std::unique_ptr<Coordinator>> SharedCoordinator::open(std::string const& name) {
  try {
    std::unique_ptr<SharedCoordinator> self(new SharedCoordinator);
    ipc::shared_memory_object const memory(ipc::open_only, name.c_str(), ipc::read_write);
    self->region_ = ipc::mapped_region(memory, ipc::read_write);
    if (self->region_.get_size() < sizeof(Page) || self->page().magic.load(std::memory_order_acquire) != Page::kMagic) {
      return vmm::fail(vmm::Errc::kBadOption,
                       fmt::format("shared memory {}: no coordinator's, or another version's", name));
    }
    return self;
  } catch (ipc::interprocess_exception const& e) {
    return shared_memory_error(name, e);
  }
}

SharedCoordinator::~SharedCoordinator() {
  if (own_ != nullptr) (void)withdraw();
  if (!remove_.empty()) ipc::shared_memory_object::remove(remove_.c_str());
}

vmm::Result<std::optional<Term>> SharedCoordinator::acquire(std::chrono::milliseconds time) {
  uint64_t seen = page().lease.load();
  if (runs(seen)) return std::nullopt;
  Term const term = term_of(seen) + 1;
  if (!page().lease.compare_exchange_strong(seen, pack(term, now_ms() + static_cast<uint64_t>(time.count())))) {
    return std::nullopt;
  }
  return term;
}

vmm::Result<bool> SharedCoordinator::renew(Term term, std::chrono::milliseconds time) {
  uint64_t seen = page().lease.load();
  // One that ran out, but that nobody took since, is still this term's; one that was revoked is not.
  while (term_of(seen) == term && (seen & kTimeMask) != 0) {
    if (page().lease.compare_exchange_strong(seen, pack(term, now_ms() + static_cast<uint64_t>(time.count())))) {
      return true;
    }
  }
  return false;
}

vmm::Result<void> SharedCoordinator::revoke(Term term, bool replay) {
  uint64_t seen = page().lease.load();
  if (term_of(seen) == term) page().revoked.store(term * 2 + (replay ? 1 : 0));
  while (term_of(seen) == term && (seen & kTimeMask) != 0) {
    if (page().lease.compare_exchange_strong(seen, pack(term, 0))) break;
  }
  return {};
}

vmm::Result<Coordinator::Lease> SharedCoordinator::look() {
  uint64_t const seen = page().lease.load();
  uint64_t const revoked = page().revoked.load();
  Lease lease;
  lease.term = term_of(seen);
  lease.held = runs(seen);
  lease.revoked = lease.term != 0 && (seen & kTimeMask) == 0;
  lease.replay = revoked / 2 != lease.term || revoked % 2 == 1;
  return lease;
}

vmm::Result<void> SharedCoordinator::announce(PartRole role, std::string const& address) {
  if (address.size() >= sizeof(Slot::address)) {
    return vmm::fail(vmm::Errc::kBadOption,
                     fmt::format("{}: an address of at most {} bytes is needed", address, sizeof(Slot::address) - 1));
  }
  for (Slot& slot : page().slots) {
    if (own_ != nullptr) break;
    int32_t owner = slot.pid.load();
    // A process that is gone has left its place behind.
    if (owner != 0 && (kill(owner, 0) == 0 || errno != ESRCH)) continue;
    if (!slot.pid.compare_exchange_strong(owner, static_cast<int32_t>(getpid()))) continue;
    own_ = &slot;
  }
  if (own_ == nullptr) return vmm::fail(vmm::Errc::kBusy, "the coordinator's page has no place left for another part");
  own_->role.store(0, std::memory_order_release);
  std::memcpy(own_->address.data(), address.c_str(), address.size() + 1);
  own_->role.store(static_cast<uint32_t>(role), std::memory_order_release);
  return {};
}

vmm::Result<void> SharedCoordinator::withdraw() {
  if (own_ == nullptr) return {};
  own_->role.store(0);
  own_->pid.store(0);
  own_ = nullptr;
  return {};
}

vmm::Result<std::vector<std::string>> SharedCoordinator::find(PartRole role) {
  std::vector<std::string> found;
  for (Slot& slot : page().slots) {
    int32_t const owner = slot.pid.load();
    if (owner == 0 || slot.role.load(std::memory_order_acquire) != static_cast<uint32_t>(role)) continue;
    if (kill(owner, 0) != 0 && errno == ESRCH) continue;
    std::string address(slot.address.data(), strnlen(slot.address.data(), slot.address.size()));
    if (slot.pid.load() == owner && slot.role.load() == static_cast<uint32_t>(role))
      found.push_back(std::move(address));
  }
  return found;
}

}  // namespace vmsrs::runtime
