#include "examples/bookstore/kinds.hpp"

namespace bookstore {
namespace {

struct NamedKind {
  std::string_view name;
  Kind kind;
};
constexpr NamedKind kKinds[] = {
    {"none", Kind::none},         {"load", Kind::load},         {"store", Kind::store},
    {"hole", Kind::hole},         {"call", Kind::call},         {"noncanonical", Kind::noncanonical},
    {"divide", Kind::divide},     {"illegal", Kind::illegal},   {"stack", Kind::stack},
    {"abort", Kind::abort},       {"assert", Kind::assertion},  {"exception", Kind::exception},
    {"reported", Kind::reported}, {"pointer", Kind::pointer},   {"deadline", Kind::deadline},
    {"sleep", Kind::sleep},       {"deadlock", Kind::deadlock},
};

struct NamedPoint {
  std::string_view name;
  Point point;
};
constexpr NamedPoint kPoints[] = {
    {"before", Point::before}, {"mid", Point::mid},     {"between", Point::between},
    {"torn", Point::torn},     {"after", Point::after}, {"sent", Point::sent},
};

}  // namespace

std::optional<Kind> kind_named(std::string_view name) {
  for (auto const& k : kKinds)
    if (k.name == name) return k.kind;
  return std::nullopt;
}

std::optional<Point> point_named(std::string_view name) {
  for (auto const& p : kPoints)
    if (p.name == name) return p.point;
  return std::nullopt;
}

std::string_view name_of(Kind kind) {
  for (auto const& k : kKinds)
    if (k.kind == kind) return k.name;
  return "?";
}

std::string_view name_of(Point point) {
  for (auto const& p : kPoints)
    if (p.point == point) return p.name;
  return "?";
}

std::vector<std::string_view> kind_names() {
  std::vector<std::string_view> names;
  for (auto const& k : kKinds) names.push_back(k.name);
  return names;
}

std::vector<std::string_view> point_names() {
  std::vector<std::string_view> names;
  for (auto const& p : kPoints) names.push_back(p.name);
  return names;
}

}  // namespace bookstore
