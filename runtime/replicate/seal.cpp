#include "runtime/replicate/seal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>

namespace vmsrs::runtime::replicate {
namespace {

constexpr std::array<char, 8> kMagic = {'V', 'M', 'S', 'R', 'S', 'c', 'h', '1'};  // the last byte is the version
constexpr size_t kHexDigits = 2 * Key::kSize;

unsigned char* raw(std::byte* at) {
  return reinterpret_cast<unsigned char*>(at);
}
unsigned char const* raw(std::byte const* at) {
  return reinterpret_cast<unsigned char const*>(at);
}

std::array<char, 8> word_of(Purpose purpose) {
  return purpose == Purpose::kControl ? std::array<char, 8>{'c', 'o', 'n', 't', 'r', 'o', 'l', 0}
                                      : std::array<char, 8>{'e', 'p', 'o', 'c', 'h', 's', 0, 0};
}

void append(Bytes& to, void const* from, size_t size) {
  auto const* const bytes = static_cast<std::byte const*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

}  // namespace

Key Key::random() {
  if (sodium_init() < 0) std::abort();  // no source of random bytes
  Key key;
  randombytes_buf(key.bytes_.data(), kSize);
  return key;
}

vmm::Result<Key> Key::from_file(std::string const& path) {
  if (sodium_init() < 0) return vmm::fail(vmm::Errc::kHostCall, "libsodium finds no source of random bytes");
  std::ifstream file(path);
  if (!file) return vmm::fail(vmm::Errc::kBadOption, fmt::format("{}: {}", path, std::strerror(errno)), errno);
  std::string text(kHexDigits, 0);
  file.read(text.data(), kHexDigits);
  Key key;
  size_t size = 0;
  char const* end = nullptr;
  if (file.gcount() != kHexDigits ||
      sodium_hex2bin(key.bytes_.data(), kSize, text.data(), kHexDigits, nullptr, &size, &end) != 0 || size != kSize) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("{}: a key is {} hexadecimal digits", path, kHexDigits));
  }
  return key;
}

std::string Key::hex() const {
  std::string text(kHexDigits + 1, 0);
  sodium_bin2hex(text.data(), text.size(), bytes_.data(), kSize);
  text.pop_back();
  return text;
}

Conversation::Conversation(Key const& key, Purpose purpose) : key_(key), purpose_(purpose) {}

Conversation::Mac Conversation::mac(char const* label) const {
  Bytes text;
  append(text, label, std::strlen(label) + 1);
  append(text, word_of(purpose_).data(), 8);
  append(text, client_nonce_.data(), kNonceSize);
  append(text, server_nonce_.data(), kNonceSize);
  Mac to{};
  crypto_auth(to.data(), raw(text.data()), text.size(), key_.data());
  return to;
}

bool Conversation::same(Mac const& mine, std::span<std::byte const> theirs) const {
  return theirs.size() == mine.size() && sodium_memcmp(mine.data(), theirs.data(), mine.size()) == 0;
}

void Conversation::start_sending(char const* label, std::byte* header) {
  crypto_secretstream_xchacha20poly1305_init_push(&sending_, raw(header), mac(label).data());
}
bool Conversation::start_receiving(char const* label, std::byte const* header) {
  return crypto_secretstream_xchacha20poly1305_init_pull(&receiving_, raw(header), mac(label).data()) == 0;
}

Bytes Conversation::greet() {
  randombytes_buf(client_nonce_.data(), kNonceSize);
  Bytes to;
  append(to, kMagic.data(), kMagic.size());
  append(to, word_of(purpose_).data(), 8);
  append(to, client_nonce_.data(), kNonceSize);
  return to;
}

std::optional<Bytes> Conversation::challenge(std::span<std::byte const> greeting) {
  if (greeting.size() != kGreetingSize || std::memcmp(greeting.data(), kMagic.data(), 8) != 0) return std::nullopt;
  if (std::memcmp(greeting.data() + 8, word_of(purpose_).data(), 8) != 0) return std::nullopt;
  std::copy_n(greeting.data() + 16, kNonceSize, client_nonce_.data());
  randombytes_buf(server_nonce_.data(), kNonceSize);
  Bytes to;
  append(to, kMagic.data(), kMagic.size());
  append(to, server_nonce_.data(), kNonceSize);
  append(to, mac("server").data(), kProofSize);
  to.resize(kChallengeSize);
  start_sending("to client", to.data() + kChallengeSize - kStreamHeader);
  return to;
}

std::optional<Bytes> Conversation::answer(std::span<std::byte const> challenge) {
  if (challenge.size() != kChallengeSize || std::memcmp(challenge.data(), kMagic.data(), 8) != 0) return std::nullopt;
  std::copy_n(challenge.data() + 8, kNonceSize, server_nonce_.data());
  if (!same(mac("server"), challenge.subspan(8 + kNonceSize, kProofSize))) return std::nullopt;
  if (!start_receiving("to client", challenge.data() + kChallengeSize - kStreamHeader)) return std::nullopt;
  Bytes to;
  append(to, mac("client").data(), kProofSize);
  to.resize(kAnswerSize);
  start_sending("to server", to.data() + kProofSize);
  return to;
}

bool Conversation::accept(std::span<std::byte const> answer) {
  return answer.size() == kAnswerSize && same(mac("client"), answer.first(kProofSize)) &&
         start_receiving("to server", answer.data() + kProofSize);
}

Bytes Conversation::seal(std::span<std::byte const> message) {
  auto const size = static_cast<uint32_t>(message.size() + kSealOverhead);
  Bytes to(4 + size);
  for (size_t i = 0; i < 4; ++i) to[i] = static_cast<std::byte>(size >> (8 * i));
  crypto_secretstream_xchacha20poly1305_push(&sending_, raw(to.data() + 4), nullptr, raw(message.data()),
                                             message.size(), raw(to.data()), 4, 0);
  return to;
}

std::optional<Bytes> Conversation::open(std::span<std::byte const> sealed) {
  if (sealed.size() < kSealOverhead || sealed.size() > kMaxFrame) return std::nullopt;
  auto const size = static_cast<uint32_t>(sealed.size());
  std::array<std::byte, 4> length{};
  for (size_t i = 0; i < 4; ++i) length[i] = static_cast<std::byte>(size >> (8 * i));
  Bytes to(sealed.size() - kSealOverhead);
  unsigned char tag = 0;
  if (crypto_secretstream_xchacha20poly1305_pull(&receiving_, raw(to.data()), nullptr, &tag, raw(sealed.data()),
                                                 sealed.size(), raw(length.data()), length.size()) != 0) {
    return std::nullopt;
  }
  return to;
}

}  // namespace vmsrs::runtime::replicate
