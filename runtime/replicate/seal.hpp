// The shared key, and what two parts that have it do with it: each proves to the other that it knows the key (a
// challenge answered by HMAC-SHA-512/256), then every frame is encrypted, authenticated and numbered (libsodium's
// secretstream, XChaCha20-Poly1305). A frame that is damaged, repeated, left out or from another conversation is
// refused. Pure functions on bytes; channel.hpp moves them.
//
//   client → server   greeting: magic 8, purpose 8, nonce 32
//   server → client   magic 8, nonce 32, proof 32, stream header 24
//   client → server   proof 32, stream header 24
//   then frames: length 4 (little-endian, of what follows), sealed message
#pragma once

#include <sodium.h>

#include <array>
#include <optional>
#include <string>

#include "runtime/replicate/messages.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::replicate {

class Key {
 public:
  static constexpr size_t kSize = crypto_auth_KEYBYTES;  // 32
  static Key random();
  // A file with 64 hexadecimal digits.
  static vmm::Result<Key> from_file(std::string const& path);
  [[nodiscard]] std::string hex() const;
  [[nodiscard]] unsigned char const* data() const { return bytes_.data(); }

 private:
  std::array<unsigned char, kSize> bytes_{};
};

// What a connection is for; a proof made for one is none for another.
enum class Purpose : uint8_t { kControl, kEpochs };

inline constexpr size_t kNonceSize = 32, kProofSize = crypto_auth_BYTES;
inline constexpr size_t kStreamHeader = crypto_secretstream_xchacha20poly1305_HEADERBYTES;
inline constexpr size_t kGreetingSize = 8 + 8 + kNonceSize;
inline constexpr size_t kChallengeSize = 8 + kNonceSize + kProofSize + kStreamHeader;
inline constexpr size_t kAnswerSize = kProofSize + kStreamHeader;
inline constexpr size_t kSealOverhead = crypto_secretstream_xchacha20poly1305_ABYTES;
inline constexpr size_t kMaxFrame = kMaxMessage + kSealOverhead;

// One end of a conversation: first its half of the handshake, then seal() and open().
class Conversation {
 public:
  Conversation(Key const& key, Purpose purpose);
  // The client's half.
  Bytes greet();
  std::optional<Bytes> answer(std::span<std::byte const> challenge);  // nothing: the server does not know the key
  // The server's half.
  std::optional<Bytes> challenge(std::span<std::byte const> greeting);  // nothing: not for us
  bool accept(std::span<std::byte const> answer);                       // false: the client does not know the key

  // After the handshake. A whole frame, its length first.
  Bytes seal(std::span<std::byte const> message);
  // What stands behind a frame's length. Nothing: damaged, or out of order.
  std::optional<Bytes> open(std::span<std::byte const> sealed);

 private:
  using Mac = std::array<unsigned char, kProofSize>;
  [[nodiscard]] Mac mac(char const* label) const;
  bool same(Mac const& mine, std::span<std::byte const> theirs) const;
  void start_sending(char const* label, std::byte* header);
  bool start_receiving(char const* label, std::byte const* header);

  Key key_;
  Purpose purpose_;
  std::array<std::byte, kNonceSize> client_nonce_{}, server_nonce_{};
  crypto_secretstream_xchacha20poly1305_state sending_{}, receiving_{};
};

// BLAKE2b-256.
class Digest {
 public:
  Digest() { crypto_generichash_init(&state_, nullptr, 0, 32); }
  void add(std::span<std::byte const> bytes) {
    crypto_generichash_update(&state_, reinterpret_cast<unsigned char const*>(bytes.data()), bytes.size());
  }
  std::array<std::byte, 32> result() {
    std::array<std::byte, 32> to{};
    crypto_generichash_final(&state_, reinterpret_cast<unsigned char*>(to.data()), to.size());
    return to;
  }

 private:
  crypto_generichash_state state_{};
};

}  // namespace vmsrs::runtime::replicate
