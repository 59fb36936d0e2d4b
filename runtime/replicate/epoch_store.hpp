// What a backup holds: the newest safe epoch, folded into one state by whoever understands it, and the complete epochs
// after it, as they came. Pure: messages in, answers out.
#pragma once

#include <functional>
#include <map>

#include "runtime/replicate/seal.hpp"

namespace vmsrs::runtime::replicate {

class EpochStore {
 public:
  // Applies an epoch's bytes to the state, in order; a full one replaces it.
  using Fold = std::function<vmm::Result<void>(EpochName, bool full, Bytes const&)>;
  explicit EpochStore(Fold fold) : fold_(std::move(fold)) {}

  // What to answer; nothing: no answer. An error: this primary's stream cannot be followed.
  vmm::Result<std::optional<Message>> take(Message const& message);
  // A new stream begins: what was half there is void.
  void start_over() { coming_.reset(); }

  // The epochs that could be gone on from, oldest first.
  [[nodiscard]] std::vector<EpochName> holds() const;
  // Folds everything up to this one, and forgets the rest.
  vmm::Result<void> settle(EpochName name);

 private:
  struct Epoch {
    bool full = false;
    Bytes bytes;
  };
  struct Coming {
    EpochName name;
    uint64_t size = 0;
    Epoch epoch;
    Digest digest;
  };
  vmm::Result<void> fold_up_to(EpochName name);
  Fold fold_;
  EpochName folded_;
  std::map<EpochName, Epoch> complete_;
  std::optional<Coming> coming_;
};

}  // namespace vmsrs::runtime::replicate
