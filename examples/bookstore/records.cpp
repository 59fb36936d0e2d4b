#include "examples/bookstore/records.hpp"

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace bookstore {
namespace {

constexpr std::uint64_t kBasis = 0xcbf29ce484222325;
constexpr std::uint64_t kPrime = 0x100000001b3;

std::uint64_t mix(std::uint64_t h, std::uint64_t word) {
  for (unsigned shift = 0; shift < 64; shift += 8) h = (h ^ ((word >> shift) & 0xff)) * kPrime;
  return h;
}

template <class... Words>
std::uint64_t mix_all(std::uint64_t h, Words... words) {
  ((h = mix(h, static_cast<std::uint64_t>(words))), ...);
  return h;
}

std::string to_hex(std::uint64_t word) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(word));
  return text;
}

std::uint64_t from_hex(std::string const& text) {
  std::uint64_t word = 0;
  char const* const end = text.data() + text.size();
  auto const [stop, error] = std::from_chars(text.data(), end, word, 16);
  if (error != std::errc() || stop != end || text.size() != 16)
    throw std::invalid_argument("digest \"" + text + "\" is not 16 hexadecimal digits");
  return word;
}

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t h = kBasis;
  for (char const c : text) h = (h ^ static_cast<unsigned char>(c)) * kPrime;
  return h;
}

std::uint64_t digest_of(Row const& r) {
  return mix_all(kBasis, r.book, r.price, r.stock, r.reserved, r.sold, r.revenue, r.version);
}

std::uint64_t digest_of(Order const& o) {
  return mix_all(hash_of(o.request), o.number, o.user, o.book, o.copies, o.price, o.total);
}

void to_json(nlohmann::json& json, Row const& r) {
  json = {{"book", r.book},       {"title", r.title},       {"price", r.price},
          {"stock", r.stock},     {"reserved", r.reserved}, {"sold", r.sold},
          {"revenue", r.revenue}, {"version", r.version},   {"digest", to_hex(r.digest)}};
}

void from_json(nlohmann::json const& json, Row& r) {
  json.at("book").get_to(r.book);
  json.at("title").get_to(r.title);
  json.at("price").get_to(r.price);
  json.at("stock").get_to(r.stock);
  json.at("reserved").get_to(r.reserved);
  json.at("sold").get_to(r.sold);
  json.at("revenue").get_to(r.revenue);
  json.at("version").get_to(r.version);
  r.digest = from_hex(json.at("digest").get<std::string>());
}

void to_json(nlohmann::json& json, Order const& o) {
  json = {{"order", o.number},  {"request", o.request}, {"user", o.user},   {"book", o.book},
          {"copies", o.copies}, {"price", o.price},     {"total", o.total}, {"digest", to_hex(o.digest)}};
}

void from_json(nlohmann::json const& json, Order& o) {
  json.at("order").get_to(o.number);
  json.at("request").get_to(o.request);
  json.at("user").get_to(o.user);
  json.at("book").get_to(o.book);
  json.at("copies").get_to(o.copies);
  json.at("price").get_to(o.price);
  json.at("total").get_to(o.total);
  o.digest = from_hex(json.at("digest").get<std::string>());
}

}  // namespace bookstore
