// The monitor's side of a protected guest: its epochs go to a backup, its TCP servers stand behind the gateway, and its
// term is held (docs/failover.md). For a guest's first start and for one that a backup restores.
//
//   auto guest = ProtectedGuest::first(config);            // or restored(config, coordinator, term, replay, holds)
//   process.socket_relay = (*guest)->sockets();            // before its first thread starts
//   (*guest)->start(process, recovery);                    // epochs from here on
//   (*guest)->ended(status);                               // after its last thread ended
//
// One thread calls these. A term that is over ends this whole process at once, by SIGKILL, so that nothing of it can
// have an effect any more.
#pragma once

#include <memory>

#include "runtime/protect/guest_sockets.hpp"
#include "runtime/replicate/primary.hpp"
#include "runtime/replicate/seal.hpp"

namespace vmm {
class GuestProcess;
}

namespace vmsrs::runtime {
class Recovery;
}

namespace vmsrs::runtime::protect {

struct ProtectConfig {
  replicate::Address gateway;
  replicate::PrimaryConfig primary;  // with the key
  std::string coordinator;           // open_coordinator()
  std::function<void(events::Event)> event;
};

class ProtectedGuest {
 public:
  // Takes the lease and finds the gateway. Fails where somebody else has the lease.
  static vmm::Result<std::unique_ptr<ProtectedGuest>> first(ProtectConfig config);
  // Has no thread until start(): the guest is restored between. resume() says from which epoch.
  static vmm::Result<std::unique_ptr<ProtectedGuest>> restored(ProtectConfig config,
                                                               std::unique_ptr<Coordinator> coordinator, Term term,
                                                               bool replay, std::vector<replicate::EpochName> holds);
  ~ProtectedGuest();
  [[nodiscard]] GuestSockets& sockets();
  [[nodiscard]] replicate::EpochName resume() const;
  void start(vmm::GuestProcess& process, Recovery* recovery);
  void ended(int status);

 private:
  struct Parts;
  explicit ProtectedGuest(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace vmsrs::runtime::protect
