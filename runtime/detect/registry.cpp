#include "runtime/detect/registry.hpp"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/interprocess/shared_memory_object.hpp>
#include <climits>
#include <cstdlib>
#include <ctime>
#include <new>

#include "runtime/detect/probe.hpp"
#include "runtime/detect/proc.hpp"
#include "runtime/detect/verdict.hpp"

namespace vmsrs::runtime::detect {
namespace {

namespace ip = boost::interprocess;

bool is_name(std::string const& name) {
  if (name.empty() || name.size() > 60) return false;
  return std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.' || c == '#';
  });
}

// Whoever had the slot before left his figures there.
void clear(VmRecord& vm) {
  for (auto* text : {&vm.name}) text->set("");
  vm.program.set("");
  for (std::atomic<uint64_t>* n : {&vm.started_ns, &vm.ended_ns, &vm.beat_ns, &vm.beats, &vm.beat_period_ms,
                                   &vm.kvm_exits, &vm.exitless_calls, &vm.hypercalls, &vm.faults, &vm.open_scopes,
                                   &vm.thread_count, &vm.cpu_ns, &vm.memory_refused, &vm.fds_refused}) {
    n->store(0);
  }
  vm.beat_tid = 0, vm.service = 0, vm.stop_signal = 0, vm.exit_code = 0, vm.exit_signal = 0;
  vm.wanted = Wanted::kRun;
  for (ThreadCounters& t : vm.threads) t.tid = 0;
  for (AppRecord& app : vm.apps) app.registered = 0;
  publish(vm.verdict, {}, 0);
}

}  // namespace

std::string Registry::default_name() {
  char const* const named = std::getenv("VMSRS_REGISTRY");
  return named != nullptr && *named != 0 ? named : fmt::format("vmsrs-{}", geteuid());
}

vmm::Result<std::unique_ptr<Registry>> Registry::open(std::string const& name, bool must_exist) {
  if (!is_name(name)) {
    return vmm::fail(vmm::Errc::kBadOption,
                     fmt::format("registry '{}': letters, digits, '-', '_' and '.' are allowed, 60 at most", name));
  }
  try {
    ip::permissions only_own;
    only_own.set_permissions(0600);
    auto object = must_exist ? ip::shared_memory_object(ip::open_only, name.c_str(), ip::read_write)
                             : ip::shared_memory_object(ip::open_or_create, name.c_str(), ip::read_write, only_own);
    ip::offset_t size = 0;
    // All bytes 0 is a valid state, so whoever comes first need not be waited for.
    if (!object.get_size(size) || size == 0) object.truncate(sizeof(RegistryLayout));
    if (object.get_size(size) && size != static_cast<ip::offset_t>(sizeof(RegistryLayout))) {
      return vmm::fail(vmm::Errc::kBadOption,
                       fmt::format("registry {}: made by another version of vmsrs (/dev/shm/{})", name, name));
    }
    std::unique_ptr<Registry> registry(new Registry(name, ip::mapped_region(object, ip::read_write)));
    uint64_t none = 0;
    auto& magic = registry->layout().magic;
    if (!magic.compare_exchange_strong(none, kRegistryMagic) && none != kRegistryMagic) {
      return vmm::fail(vmm::Errc::kBadOption,
                       fmt::format("registry {}: made by another version of vmsrs (/dev/shm/{})", name, name));
    }
    return registry;
  } catch (ip::interprocess_exception const& e) {
    if (must_exist && e.get_error_code() == ip::not_found_error) {
      return vmm::fail(vmm::Errc::kNoProgram, fmt::format("registry {}: there is none", name), ENOENT);
    }
    return vmm::fail(vmm::Errc::kHostCall, fmt::format("registry {}: {}", name, e.what()), e.get_native_error());
  }
}

void Registry::remove(std::string const& name) {
  ip::shared_memory_object::remove(name.c_str());
}

Registry::Registry(std::string name, ip::mapped_region region)
    : name_(std::move(name)),
      region_(std::move(region)),
      layout_(static_cast<RegistryLayout*>(region_.get_address())) {}

VmRecord* Registry::register_vm(std::string name, std::string const& program) {
  ProcessId const own = own_process_id();
  std::erase_if(name, [](char c) { return !is_name(std::string(1, c)); });
  if (name.empty()) name = "program";
  name.resize(std::min<size_t>(name.size(), 48));
  if (VmRecord* other = find(name); other != nullptr && is_alive(other->owner.load())) {
    name += fmt::format("#{}", getpid());
  }
  auto& vms = layout_->vms;
  auto const take = [&](VmRecord& vm, ProcessId from) {
    if (!vm.owner.compare_exchange_strong(from, own)) return false;
    vm.life = Life::kNone;
    clear(vm);
    vm.name.set(name);
    vm.program.set(program);
    vm.started_ns = vm.beat_ns = now_ns();
    vm.life = Life::kStarting;
    return true;
  };
  // Its own slot of an earlier life, then a free one, then that of the one that died first.
  for (VmRecord& vm : vms) {
    ProcessId const owner = vm.owner.load();
    if (owner != 0 && vm.name.get() == name && !is_alive(owner) && take(vm, owner)) return &vm;
  }
  for (VmRecord& vm : vms) {
    if (vm.owner.load() == 0 && take(vm, 0)) return &vm;
  }
  for (int attempt = 0; attempt < 3; ++attempt) {
    VmRecord* oldest = nullptr;
    ProcessId owner_then = 0;
    for (VmRecord& vm : vms) {
      ProcessId const owner = vm.owner.load();
      if (is_alive(owner) || (oldest != nullptr && oldest->beat_ns.load() <= vm.beat_ns.load())) continue;
      oldest = &vm;
      owner_then = owner;
    }
    if (oldest == nullptr) return nullptr;
    if (take(*oldest, owner_then)) return oldest;
  }
  return nullptr;
}

void Registry::deregister_vm(VmRecord& vm) {
  vm.life = Life::kNone;
  for (AppRecord& app : vm.apps) app.registered = 0;
  vm.left = vm.owner.load();
  vm.owner = 0;
}

vmm::Result<AppRecord*> Registry::register_app(VmRecord& vm, AppRegistration const& app) {
  if (!is_name(app.name)) {
    return vmm::fail(vmm::Errc::kBadOption,
                     fmt::format("application '{}': not a name (letters, digits, -_.)", app.name));
  }
  if (!app.probe.empty()) {
    if (auto const probe = ProbeSpec::parse(app.probe); !probe) return tl::unexpected(probe.error());
  }
  for (AppRecord const& other : vm.apps) {
    if (other.registered != 0 && other.name.get() == app.name) {
      return vmm::fail(vmm::Errc::kBusy, fmt::format("application {}: is registered already", app.name));
    }
  }
  for (AppRecord& slot : vm.apps) {
    uint32_t free = 0;
    if (!slot.registered.compare_exchange_strong(free, 2)) continue;  // 2: being filled
    slot.name.set(app.name);
    slot.probe.set(app.probe);
    slot.timeout_ms = app.timeout_ms, slot.period_ms = app.period_ms, slot.start_ms = app.start_ms;
    slot.probes = 0, slot.answers = 0, slot.answered_ns = 0, slot.answer_us = 0, slot.beat_ns = 0;
    publish(slot.verdict, {}, 0);
    slot.registered = 1;
    return &slot;
  }
  return vmm::fail(vmm::Errc::kBusy, fmt::format("application {}: a VM has at most {}", app.name, kMaxApps));
}

bool Registry::deregister_app(VmRecord& vm, std::string const& name) {
  for (AppRecord& app : vm.apps) {
    if (app.registered != 1 || app.name.get() != name) continue;
    app.registered = 0;
    return true;
  }
  return false;
}

VmRecord* Registry::find(std::string const& name) const {
  VmRecord* dead = nullptr;
  for (VmRecord& vm : layout_->vms) {
    ProcessId const owner = vm.owner.load();
    if (owner == 0 || vm.life.load() == Life::kNone || vm.name.get() != name) continue;
    if (is_alive(owner)) return &vm;
    dead = &vm;
  }
  return dead;
}

void Registry::ring() noexcept {
  layout_->doorbell.fetch_add(1);
  if (layout_->listening.load() == 0) return;
  syscall(SYS_futex, &layout_->doorbell, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

uint32_t Registry::wait(uint32_t seen, int ms) const noexcept {
  timespec const limit{ms / 1000, static_cast<long>(ms % 1000) * 1'000'000};
  syscall(SYS_futex, &layout_->doorbell, FUTEX_WAIT, seen, &limit, nullptr, 0);
  return layout_->doorbell.load();
}

}  // namespace vmsrs::runtime::detect
