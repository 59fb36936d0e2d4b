#include "runtime/replicate/epoch_store.hpp"

#include <fmt/format.h>

namespace vmsrs::runtime::replicate {
namespace {

constexpr uint64_t kMostBytes = uint64_t{64} << 30;  // the largest guest there is

tl::unexpected<vmm::Error> broken(std::string text) {
  return vmm::fail(vmm::Errc::kHostCall, std::move(text));
}

}  // namespace

vmm::Result<std::optional<Message>> EpochStore::take(Message const& message) {
  if (auto const* const begin = std::get_if<EpochBegin>(&message)) {
    EpochName const last = complete_.empty() ? folded_ : complete_.rbegin()->first;
    bool const follows = begin->epoch.term == last.term && begin->epoch.number == last.number + 1;
    if (coming_) return broken("an epoch begins before the last one ended");
    if (begin->size > kMostBytes) return broken(fmt::format("an epoch of {} bytes", begin->size));
    if (!(begin->full ? begin->epoch > last : follows)) {
      return broken(fmt::format("epoch {} of term {} does not follow epoch {} of term {}", begin->epoch.number,
                                begin->epoch.term, last.number, last.term));
    }
    coming_.emplace(Coming{begin->epoch, begin->size, {begin->full, {}}, {}});
    return std::nullopt;
  }
  if (auto const* const data = std::get_if<EpochData>(&message)) {
    if (!coming_ || data->bytes.size() > coming_->size - coming_->epoch.bytes.size()) {
      return broken("bytes that belong to no epoch");
    }
    coming_->digest.add(data->bytes);
    coming_->epoch.bytes.insert(coming_->epoch.bytes.end(), data->bytes.begin(), data->bytes.end());
    return std::nullopt;
  }
  if (auto const* const end = std::get_if<EpochEnd>(&message)) {
    if (!coming_ || end->epoch != coming_->name || coming_->epoch.bytes.size() != coming_->size ||
        coming_->digest.result() != end->digest) {
      return broken("an epoch is not what was sent");
    }
    complete_.emplace(coming_->name, std::move(coming_->epoch));
    coming_.reset();
    return EpochHeld{end->epoch};
  }
  if (auto const* const safe = std::get_if<EpochSafe>(&message)) {
    // One that is not here yet could not be safe.
    if (!complete_.contains(safe->epoch)) return broken("an epoch is called safe that is not held");
    if (auto const folded = fold_up_to(safe->epoch); !folded) return tl::unexpected(folded.error());
    return std::nullopt;
  }
  return broken(fmt::format("a message {} on the epochs' channel", name_of(message)));
}

vmm::Result<void> EpochStore::fold_up_to(EpochName name) {
  while (!complete_.empty() && complete_.begin()->first <= name) {
    auto const& [first, epoch] = *complete_.begin();
    if (auto folded = fold_(first, epoch.full, epoch.bytes); !folded) return folded;
    folded_ = first;
    complete_.erase(complete_.begin());
  }
  return {};
}

std::vector<EpochName> EpochStore::holds() const {
  std::vector<EpochName> names;
  if (folded_.number != 0) names.push_back(folded_);
  for (auto const& [name, epoch] : complete_) names.push_back(name);
  return names;
}

vmm::Result<void> EpochStore::settle(EpochName name) {
  if (auto folded = fold_up_to(name); !folded) return folded;
  complete_.clear();
  if (folded_ != name) return broken("the epoch to go on from is not held");
  return {};
}

}  // namespace vmsrs::runtime::replicate
