#include "examples/bookstore/load/faults.hpp"

#include <charconv>
#include <random>
#include <sstream>
#include <vector>

namespace bookstore::load {
namespace {

std::vector<std::string> split(std::string const& text, char by) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, by);) parts.push_back(part);
  return parts;
}

template <class T>
bool to_number(std::string const& text, T& n) {
  auto const [stop, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return !text.empty() && error == std::errc() && stop == text.data() + text.size();
}

std::string joined(std::vector<std::string_view> const& names) {
  std::string list;
  for (auto const name : names) (list += name) += ", ";
  return list + "any";
}

}  // namespace

tl::expected<std::map<std::uint64_t, PlannedFault>, std::string> parse_faults(std::string const& list,
                                                                              std::uint64_t seed) {
  std::map<std::uint64_t, PlannedFault> faults;
  std::mt19937_64 random(seed);
  auto const pick = [&random](auto const& names) { return names[random() % names.size()]; };
  for (auto const& item : split(list, ',')) {
    auto parts = split(item, ':');
    std::uint64_t user = 0;
    if (parts.empty() || parts.size() > 4 || !to_number(parts[0], user) || user == 0)
      return tl::unexpected("\"" + item + "\" is not user[:kind[:point[:wait_ms]]]");
    PlannedFault fault;
    if (parts.size() > 1) {
      auto kinds = kind_names();
      kinds.erase(kinds.begin());  // "none" is no fault to pick
      auto const kind = kind_named(parts[1] == "any" ? pick(kinds) : parts[1]);
      if (!kind) return tl::unexpected("kind \"" + parts[1] + "\" is none of " + joined(kind_names()));
      fault.kind = *kind;
    }
    if (parts.size() > 2) {
      auto const at = point_named(parts[2] == "any" ? pick(point_names()) : parts[2]);
      if (!at) return tl::unexpected("point \"" + parts[2] + "\" is none of " + joined(point_names()));
      fault.at = *at;
    }
    if (parts.size() > 3 && (!to_number(parts[3], fault.wait_ms) || fault.wait_ms > 10000))
      return tl::unexpected("\"" + parts[3] + "\" is not 0 to 10000 ms");
    if (!faults.emplace(user, fault).second) return tl::unexpected("user " + std::to_string(user) + " is named twice");
  }
  return faults;
}

}  // namespace bookstore::load
