// One part of a protected server without a VM, as a process of its own:
//
//   part gateway|primary|backup KEYFILE COORDINATOR GATEWAY OWN_ADDRESS MODE LEASE_MS DIE_AT
//
// MODE: strict or relaxed. DIE_AT: the message, counted from 1 over those sent and received, before (sent) or after
// (received) which the process kills itself; 0: never. What happens is told on standard output, line by line.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "runtime/gateway/gateway.hpp"
#include "runtime/replicate/backup.hpp"
#include "runtime/replicate/step_hook.hpp"
#include "tests/unit/failover/replica.hpp"

namespace {

using namespace failover;
using vmsrs::runtime::Coordinator;

std::atomic<long> steps_left{0};
bool volatile never = false;

void die_at_step(std::string_view message, bool sending) {
  if (--steps_left != 0) return;
  // What was sent before must be out: the test enumerates what the others have seen.
  fmt::print("dies {} {}\n", sending ? "before sending" : "after receiving", message);
  std::fflush(stdout);
  kill(getpid(), SIGKILL);
}

[[noreturn]] void quit(std::string const& why) {
  fmt::print("ends: {}\n", why);
  std::fflush(stdout);
  std::_Exit(3);
}

template <class T>
T need(vmm::Result<T> result) {
  if (!result) quit(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

struct Arguments {
  std::string role, coordinator;
  Key key;
  Address gateway, own;
  bool strict = true;
  std::chrono::milliseconds lease{1000};
};

int run_gateway(Arguments const& a) {
  boost::asio::io_context io;
  vmsrs::runtime::gateway::GatewayConfig config;
  config.control = a.gateway;
  config.key = a.key;
  config.strict = a.strict;
  config.note = [](std::string const& text) {
    fmt::print("{}\n", text);
    std::fflush(stdout);
  };
  auto const gateway = need(vmsrs::runtime::gateway::Gateway::start(io, config));
  boost::asio::steady_timer timer(io);
  std::function<void()> tell = [&] {
    timer.expires_after(std::chrono::milliseconds(50));
    timer.async_wait([&](boost::system::error_code) {
      auto const f = gateway->figures();
      fmt::print("figures failovers {} fenced {} unsafe {} repeated {} diverged {}\n", f.failovers, f.fenced,
                 f.unsafe_bytes, f.repeated_bytes, f.diverged);
      std::fflush(stdout);
      tell();
    });
  };
  tell();
  io.run();
  return 0;
}

int run_primary(Arguments const& a, Coordinator& coordinator, Term term, bool replay, EpochStore* store, Bytes* state) {
  Replica replica;
  std::atomic<Primary*> primary{nullptr};
  GatewayLink::Handlers handlers;
  handlers.opening = [&](Opening const& what) { replica.opening(what); };
  handlers.whole = [&](uint64_t epoch) { primary.load()->whole(epoch); };
  handlers.output_waits = [&] { primary.load()->output_waits(); };
  handlers.lost = [&](bool fenced, std::string const& why) {
    if (auto* const p = primary.load(); p != nullptr) p->lost(fenced, why);
    quit(why);
  };
  Hello hello;
  hello.term = term;
  hello.replay = replay;
  if (store != nullptr) {
    hello.restored = true;
    hello.holds = store->holds();
  }
  auto const link = need(GatewayLink::connect(a.gateway, a.key, hello, handlers));
  PrimaryConfig config;
  config.key = a.key;
  config.shortest = std::chrono::milliseconds(1);
  config.longest = std::chrono::milliseconds(20);
  config.lease = a.lease;
  config.backup_answers_within = std::chrono::milliseconds(1000);
  Primary own(*link, coordinator, replica, config,
              {[](std::string const& why) { quit(why); },
               [](vmsrs::runtime::events::Event const& event) {
                 fmt::print("{} {}\n", vmsrs::runtime::events::name_of(event.kind), event.detail);
                 std::fflush(stdout);
               }});
  primary = &own;
  if (store != nullptr) {
    need(store->settle(link->welcome().resume));
    if (!replica.restore(*link, *state)) quit("cannot restore");
    fmt::print("took over term {}\n", term);
  } else {
    link->start_thread();
    uint16_t const port = replica.listen(*link, 0);
    if (port == 0) quit("cannot listen");
    fmt::print("listening {}\n", port);
  }
  std::fflush(stdout);
  if (store != nullptr) link->start_thread();
  own.start();
  replica.serve();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) return 2;
  signal(SIGPIPE, SIG_IGN);
  Arguments a;
  a.role = argv[1];
  a.key = need(Key::from_file(argv[2]));
  a.coordinator = argv[3];
  a.gateway = need(Address::parse(argv[4]));
  a.own = need(Address::parse(argv[5]));
  a.strict = std::strcmp(argv[6], "strict") == 0;
  a.lease = std::chrono::milliseconds(std::atoi(argv[7]));
  steps_left = std::atol(argv[8]);
  if (steps_left > 0) step_hook = die_at_step;
  if (a.role == "gateway") return run_gateway(a);
  auto const coordinator = need(vmsrs::runtime::open_coordinator(a.coordinator));
  if (a.role == "primary") {
    auto const term = need(coordinator->acquire(a.lease));
    if (!term) quit("the lease is taken");
    return run_primary(a, *coordinator, *term, true, nullptr, nullptr);
  }
  Bytes state;
  EpochStore store([&state](EpochName, bool, Bytes const& bytes) {
    state = bytes;
    return vmm::Result<void>();
  });
  BackupConfig config;
  config.listen = a.own;
  config.key = a.key;
  config.lease = a.lease;
  config.note = [](std::string const& text) {
    fmt::print("{}\n", text);
    std::fflush(stdout);
  };
  config.on_held = [first = true](EpochName epoch) mutable {
    if (!std::exchange(first, false)) return;
    fmt::print("holds term {} epoch {}\n", epoch.term, epoch.number);
    std::fflush(stdout);
  };
  auto const take_over = need(wait_as_backup(config, *coordinator, store, never));
  if (!take_over) quit("not needed");
  return run_primary(a, *coordinator, take_over->term, take_over->replay, &store, &state);
}
