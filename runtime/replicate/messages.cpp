#include "runtime/replicate/messages.hpp"

namespace vmsrs::runtime::replicate {
namespace {

template <size_t I = 0>
std::optional<Message> decode_as(uint8_t type, std::span<std::byte const> rest) {
  if constexpr (I == std::variant_size_v<Message>) {
    return std::nullopt;
  } else {
    using T = std::variant_alternative_t<I, Message>;
    if (T::kType != type) return decode_as<I + 1>(type, rest);
    T value;
    Reader reader(rest);
    value.each(reader);
    if (!reader.finished()) return std::nullopt;
    return Message(std::in_place_type<T>, std::move(value));
  }
}

constexpr std::string_view kNames[] = {"Hello",     "Bind",     "Listen",    "Unlisten",  "Opened",      "Attach",
                                       "Marks",     "Safe",     "Protected", "Ended",     "Welcome",     "Fenced",
                                       "Bound",     "Opening",  "Attached",  "Whole",     "OutputWaits", "EpochBegin",
                                       "EpochData", "EpochEnd", "EpochSafe", "EpochHeld", "EpochRefused"};
static_assert(std::size(kNames) == std::variant_size_v<Message>);

}  // namespace

Bytes encode(Message const& message) {
  Bytes bytes;
  std::visit(
      [&](auto const& value) {
        bytes.push_back(std::byte{std::remove_cvref_t<decltype(value)>::kType});
        Writer writer(bytes);
        writer(value);
      },
      message);
  return bytes;
}

std::optional<Message> decode(std::span<std::byte const> bytes) {
  if (bytes.empty() || bytes.size() > kMaxMessage) return std::nullopt;
  return decode_as(static_cast<uint8_t>(bytes[0]), bytes.subspan(1));
}

std::string_view name_of(Message const& message) {
  return kNames[message.index()];
}

}  // namespace vmsrs::runtime::replicate
