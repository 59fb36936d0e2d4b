// A backup's wait: takes epochs, and watches the lease. It returns when it is to take over, or when it is not needed
// any more. No threads: a guest may be restored in this process afterwards.
#pragma once

#include "runtime/lease/coordinator.hpp"
#include "runtime/replicate/channel.hpp"
#include "runtime/replicate/epoch_store.hpp"

namespace vmsrs::runtime::replicate {

struct BackupConfig {
  Address listen;
  Key key;
  std::chrono::milliseconds lease{1000};    // that it takes
  std::chrono::milliseconds look_every{5};  // at the lease
  // A lease that ran out is left to whoever decides for this long; one that was revoked is taken at once.
  std::chrono::milliseconds grace{0};
  std::function<void(std::string const&)> note;
  std::function<void(EpochName)> on_held;  // each epoch that is complete
};

struct TakeOver {
  Term term = 0;
  bool replay = true;
};

// Nothing: the program ended by itself, or `stop` was set (looked at as often as the lease).
vmm::Result<std::optional<TakeOver>> wait_as_backup(BackupConfig const& config, Coordinator& coordinator,
                                                    EpochStore& store, bool const volatile& stop);

}  // namespace vmsrs::runtime::replicate
