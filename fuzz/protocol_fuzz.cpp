// What another part says, before and after it has proved that it knows the key: any bytes as a message, as a handshake,
// as a sealed frame, as a sequence of messages on the epochs' channel. Whoever knows the key may be of another version
// or damaged; nothing may crash, and what is understood must be what was said.
//
//   build/fuzz/bin/protocol_fuzz -max_total_time=60
#include <algorithm>
#include <cstdlib>

#include "runtime/replicate/epoch_store.hpp"

using namespace vmsrs::runtime::replicate;

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  static Key const key = Key::random();
  auto const bytes = std::as_bytes(std::span(data, size));
  if (auto const message = decode(bytes); message && !std::ranges::equal(encode(*message), bytes)) std::abort();

  Conversation server(key, Purpose::kEpochs), client(key, Purpose::kEpochs);
  (void)client.greet();
  if (client.answer(bytes.first(std::min(size, kChallengeSize)))) std::abort();  // nobody knows the key
  if (server.challenge(bytes.first(std::min(size, kGreetingSize))) &&
      server.accept(bytes.last(std::min(size, kAnswerSize)))) {
    std::abort();
  }
  Conversation talk(key, Purpose::kEpochs), peer(key, Purpose::kEpochs);
  auto const challenge = peer.challenge(talk.greet());
  if (!peer.accept(*talk.answer(*challenge))) std::abort();
  if (peer.open(bytes)) std::abort();

  // Each message behind its length of one byte, or two.
  uint64_t folded = 0;
  EpochStore store([&folded](EpochName name, bool, Bytes const&) -> vmm::Result<void> {
    if (name.number == 0) std::abort();
    ++folded;
    return {};
  });
  for (size_t at = 0; at + 1 < size;) {
    size_t const length = std::min<size_t>(data[at], size - at - 1);
    auto const message = decode(bytes.subspan(at + 1, length));
    at += 1 + length;
    if (!message) continue;
    if (auto const answer = store.take(*message); !answer) store.start_over();
    if (auto const holds = store.holds(); !std::ranges::is_sorted(holds)) std::abort();
  }
  return 0;
}
