// The monitor's side of a protected guest: its epochs go to a backup, its TCP servers stand behind the gateway, and its
// term is held (docs/failover.md). For a guest's first start and for one that a backup restores.
//
//   auto guest = ProtectedGuest::first(config);            // or restored(config, coordinator, term, replay, holds)
//   (*guest)->attach(process);                             // before its first thread starts
//   (*guest)->start(process, recovery);                    // epochs from here on
//   (*guest)->ended(status);                               // after its last thread ended
//
// One thread calls these. A term that is over ends this whole process at once, by SIGKILL, so that nothing of it can
// have an effect any more.
#pragma once

#include <memory>

#include "runtime/protect/adaptive_epochs.hpp"
#include "runtime/protect/guest_sockets.hpp"
#include "runtime/replicate/primary.hpp"
#include "runtime/replicate/seal.hpp"

namespace vmm {
class GuestProcess;
}

namespace vmsrs::runtime {
class Recovery;
struct FaultReport;
}  // namespace vmsrs::runtime

namespace vmsrs::runtime::protect {

struct ProtectConfig {
  replicate::Address gateway;
  replicate::PrimaryConfig primary;  // with the key
  std::string coordinator;           // open_coordinator()
  std::function<void(events::Event)> event;
  // On this host, the same for all parts: what the guest does to files is kept there until it is safe, and taken back
  // at a failover (runtime/files). Empty: files are not taken care of.
  std::string undo_folder;
  AdaptiveConfig adaptive;
  std::function<void(replicate::SafeEpoch const&)> epoch_is_safe;  // null: nobody wants to know
};

class ProtectedGuest {
 public:
  // Takes the lease and finds the gateway. Fails where somebody else has the lease.
  static vmm::Result<std::unique_ptr<ProtectedGuest>> first(ProtectConfig config);
  // Has no thread until start(): the guest is restored between. resume() says from which epoch. The old primary is
  // gone and its changes to files after that epoch are taken back; what could not be is told on stderr.
  static vmm::Result<std::unique_ptr<ProtectedGuest>> restored(ProtectConfig config,
                                                               std::unique_ptr<Coordinator> coordinator, Term term,
                                                               bool replay, std::vector<replicate::EpochName> holds);
  ~ProtectedGuest();
  [[nodiscard]] GuestSockets& sockets();
  void attach(vmm::GuestProcess& process);
  [[nodiscard]] replicate::EpochName resume() const;
  void start(vmm::GuestProcess& process, Recovery* recovery);
  // For Options::on_report: a fault that recovery has seen becomes an event. On any thread.
  void fault_seen(FaultReport const& report);
  void ended(int status);

 private:
  struct Parts;
  explicit ProtectedGuest(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace vmsrs::runtime::protect
