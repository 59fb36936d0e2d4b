// Argument checks of the system-call table under libFuzzer: a call and its arguments from the input,
// the pointers among them from the guest, beyond it, or any number. Whatever comes, nothing of the
// monitor changes: neither the memory watched nor its descriptors.
//
//   build/fuzz/bin/syscall_args_fuzz -max_total_time=60
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#include "vmm/kick.hpp"
#include "vmm/process.hpp"
#include "vmm/safe_copy.hpp"

namespace {

using vmm::Arg;

class FuzzThread : public vmm::Thread {
 public:
  FuzzThread(vmm::Process& process, int tid) : Thread(process, tid) { host_tid_ = gettid(); }
  bool get_xsave(std::span<std::byte>) override { return true; }
  bool set_xsave(std::span<std::byte const>) override { return true; }
  void clear_kick() { kicked_ = false; }
};

class FuzzProcess : public vmm::Process {
 public:
  FuzzProcess() {
    vmm::install_safe_copy_handler();
    vmm::install_kick_handler();
    auto space = vmm::AddressSpace::create({.window = 2ULL << 30});
    if (!space) {
      std::fprintf(stderr, "%s\n", space.error().message.c_str());
      std::exit(1);
    }
    memory_ = std::move(*space);
    fds_ = std::make_unique<vmm::FdTable>();
    hooks_ = &no_hooks_;
    exe_path = "/bin/true";
    main = std::make_unique<FuzzThread>(*this, vmm::kVirtualPid);
    threads_[vmm::kVirtualPid] = main.get();
  }
  int64_t start_thread(vmm::Registers const&, std::span<std::byte const>, uint64_t, vmm::GuestAddr, vmm::GuestAddr,
                       vmm::GuestAddr) override {
    return -EAGAIN;
  }
  std::unique_ptr<FuzzThread> main;

 private:
  vmm::Hooks no_hooks_;
};

// What needs a vCPU or ends the thread, and what would change the fuzzer itself.
bool left_out(vmm::SyscallRow const& row) {
  static std::set<std::string> const names{
      "clone",           "exit",         "exit_group", "set_tid_address", "set_robust_list",
      "get_robust_list", "rt_sigreturn", "chdir",      "fchdir",          "umask"};
  return names.contains(row.name);
}

class Input {
 public:
  Input(uint8_t const* data, size_t size) : data_(data), size_(size) {}
  template <class T>
  T take() {
    T value{};

    size_t const n = std::min(size_, sizeof value);
    std::memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::pair<uint8_t const*, size_t> rest() const { return {data_, size_}; }

 private:
  uint8_t const* data_;
  size_t size_;
};

struct World {
  static constexpr uint64_t kArena = 1 << 16, kCanary = 8192;
  FuzzProcess process;
  uint64_t arena = 0;
  std::unique_ptr<std::array<unsigned char, kCanary>> heap = std::make_unique<std::array<unsigned char, kCanary>>();
  int own_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  std::thread watchdog;

  World() {
    signal(SIGPIPE, SIG_IGN);  // as the monitor does
    char directory[] = "/tmp/vmsrs-fuzz-XXXXXX";
    if (mkdtemp(directory) == nullptr || chdir(directory) != 0) std::exit(1);
    arena = static_cast<uint64_t>(process.memory().mmap(vmm::GuestAddr(0), kArena, PROT_READ | PROT_WRITE,
                                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, ""));
    heap->fill(0xc7);
    process.signals().set_blocked(*process.main, ~UINT64_C(0));
    watchdog = std::thread([this] {
      while (true) {
        usleep(500);
        if (process.main->state() == vmm::RunState::kBlocked) process.main->kick();
      }
    });
    watchdog.detach();
  }
  // The memory that pointers lead to: inner pointers come from the input too. No byte of it is '/' or '.', so that
  // a path among it is one name.
  void fill(Input const& input) {
    std::array<uint8_t, kArena> bytes{};
    auto const [rest, left] = input.rest();
    std::transform(rest, rest + std::min<size_t>(left, bytes.size()), bytes.begin(),
                   [](uint8_t byte) { return byte == '/' || byte == '.' ? uint8_t{'_'} : byte; });
    if (process.memory().write(vmm::GuestAddr(arena), bytes)) return;
    arena = static_cast<uint64_t>(process.memory().mmap(vmm::GuestAddr(0), kArena, PROT_READ | PROT_WRITE,
                                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, ""));
    if (!process.memory().write(vmm::GuestAddr(arena), bytes)) std::abort();
  }
  void check(char const* call) const {
    for (unsigned char const byte : *heap) {
      if (byte != 0xc7) {
        std::fprintf(stderr, "%s wrote into the monitor\n", call);
        std::abort();
      }
    }
    char zero = 1;
    if (::read(own_fd, &zero, 1) != 1 || zero != 0) {
      std::fprintf(stderr, "%s took a descriptor of the monitor\n", call);
      std::abort();
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  static World* const world = new World;
  Input input(data, size);
  auto const rows = vmm::SyscallTable::instance().rows();
  for (int calls = 0; calls < 4 && !input.empty(); ++calls) {
    vmm::SyscallRow const& row = *rows[input.take<uint16_t>() % rows.size()];
    vmm::SyscallArgs args{row.nr, {}};
    for (size_t i = 0; i < 6; ++i) {
      uint8_t const choice = input.take<uint8_t>();
      uint32_t const low = input.take<uint16_t>();
      Arg const kind = row.args[i].kind;
      bool const number = kind == Arg::kInt || kind == Arg::kFd || kind == Arg::kFdOrCwd || kind == Arg::kNone;
      uint64_t const monitor = reinterpret_cast<uint64_t>(world->heap->data());
      switch (choice % 8) {
        case 0:
        case 1:
          args.a[i] = number ? low & 15 : world->arena + low;
          break;
        case 2:
          args.a[i] = number ? low : monitor + low % World::kCanary;
          break;
        case 3:
          args.a[i] =
              number ? static_cast<uint64_t>(-1 - static_cast<int64_t>(low)) : world->process.memory().tag_base() - low;
          break;
        case 4:
          args.a[i] = input.take<uint64_t>();
          break;
        case 5:
          args.a[i] = 0;
          break;
        case 6:
          args.a[i] = monitor;
          break;
        default:
          args.a[i] =
              number ? 8 : reinterpret_cast<uint64_t>(world->process.memory().alias(vmm::GuestAddr(world->arena)));
      }
    }
    if (left_out(row)) continue;
    // A file is named in the fuzzer's own directory only, and a socket speaks to nobody outside the machine.
    if (std::strncmp(row.name, "socket", 6) == 0) args.a[0] = AF_UNIX;
    world->fill(input);
    world->process.main->clear_kick();
    world->process.main->restart_deadline() = 0;
    row.handler(*world->process.main, args);
    world->check(row.name);
  }
  // Numbers and mappings do not pile up over a run.
  world->process.fds().close_range(8, UINT32_MAX, false);
  return 0;
}
