#include "runtime/lease/etcd_coordinator.hpp"

#include <fmt/format.h>
#include <httplib.h>
#include <sodium.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <thread>

using nlohmann::json;

namespace vmsrs::runtime {
namespace {

constexpr auto kAnswerTime = std::chrono::milliseconds(700);
// A member that has just started, or whose disk is busy, answers its first requests late: a part that is only starting
// itself asks again. One that holds a lease or is announced does not: it has its own time to watch.
constexpr auto kStartTime = std::chrono::seconds(10);
constexpr int kPartSeconds = 3;

std::string base64(std::string const& text) {
  std::string to(sodium_base64_encoded_len(text.size(), sodium_base64_VARIANT_ORIGINAL), 0);
  sodium_bin2base64(to.data(), to.size(), reinterpret_cast<unsigned char const*>(text.data()), text.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  to.pop_back();
  return to;
}

std::string from_base64(std::string const& text) {
  std::string to(text.size(), 0);
  size_t size = 0;
  if (sodium_base642bin(reinterpret_cast<unsigned char*>(to.data()), to.size(), text.data(), text.size(), nullptr,
                        &size, nullptr, sodium_base64_VARIANT_ORIGINAL) != 0) {
    return {};
  }
  to.resize(size);
  return to;
}

// The JSON gateway writes 64-bit numbers as strings, and leaves out what is zero.
uint64_t number(json const& object, char const* name) {
  auto const found = object.find(name);
  if (found == object.end()) return 0;
  if (found->is_number_unsigned()) return found->get<uint64_t>();
  uint64_t value = 0;
  if (found->is_string()) {
    auto const& text = found->get_ref<std::string const&>();
    std::from_chars(text.data(), text.data() + text.size(), value);
  }
  return value;
}

// The first key and value that a transaction's i-th request, a range, found.
std::optional<json> first_kv(json const& done, size_t i) {
  json const responses = done.value("responses", json::array());
  if (i >= responses.size()) return std::nullopt;
  json const kvs = responses[i].value("response_range", json::object()).value("kvs", json::array());
  if (kvs.empty()) return std::nullopt;
  return kvs[0];
}

int whole_seconds(std::chrono::milliseconds time) {
  return std::max(1, static_cast<int>((time.count() + 999) / 1000));
}

}  // namespace

struct EtcdCoordinator::Api {
  std::vector<std::string> members;  // "HOST:PORT"; the one that answered last comes first
  std::string root;
  std::chrono::steady_clock::time_point starting_until = std::chrono::steady_clock::now() + kStartTime;

  vmm::Result<json> post(std::string const& path, json const& body) {
    for (;;) {
      bool late = false;
      auto answer = ask_each(path, body, &late);
      if (answer || !late || std::chrono::steady_clock::now() > starting_until) return answer;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  // late: a member is there, and did not answer in its time or has no leader yet.
  vmm::Result<json> ask_each(std::string const& path, json const& body, bool* late) {
    std::string problems;
    for (size_t i = 0; i < members.size(); ++i) {
      httplib::Client client("http://" + members[i]);
      client.set_connection_timeout(kAnswerTime);
      client.set_read_timeout(kAnswerTime);
      client.set_write_timeout(kAnswerTime);
      auto const answer = client.Post(path, body.dump(), "application/json");
      if (answer && answer->status == 200) {
        json parsed = json::parse(answer->body, nullptr, false);
        // A stream's answer is one object per message.
        if (parsed.is_discarded())
          parsed = json::parse(answer->body.substr(0, answer->body.find('\n')), nullptr, false);
        if (!parsed.is_discarded()) {
          std::rotate(members.begin(), members.begin() + static_cast<ptrdiff_t>(i),
                      members.begin() + static_cast<ptrdiff_t>(i) + 1);
          return parsed;
        }
      }
      *late |= answer ? answer->status >= 500 : answer.error() == httplib::Error::Read;
      problems += fmt::format("{}{}: {}", problems.empty() ? "" : "; ", members[i],
                              answer ? fmt::format("HTTP status {}: {}", answer->status, answer->body)
                                     : httplib::to_string(answer.error()));
    }
    return vmm::fail(vmm::Errc::kHostCall, fmt::format("etcd {}: {}", path, problems));
  }

  vmm::Result<std::string> grant(int seconds) {
    auto const granted = post("/v3/lease/grant", {{"TTL", seconds}});
    if (!granted) return tl::unexpected(granted.error());
    return granted->value("ID", "");
  }
  void drop(std::string const& lease) { (void)post("/v3/lease/revoke", {{"ID", lease}}); }
  // False: the lease is over.
  vmm::Result<bool> keep(std::string const& lease) {
    auto const kept = post("/v3/lease/keepalive", {{"ID", lease}});
    if (!kept) return tl::unexpected(kept.error());
    return kept->contains("result") && number((*kept)["result"], "TTL") > 0;
  }
  [[nodiscard]] std::string key(std::string const& name) const { return base64(root + name); }
};

EtcdCoordinator::EtcdCoordinator(std::unique_ptr<Api> api) : api_(std::move(api)) {}
EtcdCoordinator::~EtcdCoordinator() {
  if (!part_lease_id_.empty()) (void)withdraw();
}

vmm::Result<std::unique_ptr<Coordinator>> EtcdCoordinator::open(std::string const& where) {
  auto api = std::make_unique<Api>();
  size_t const slash = where.find('/');
  std::string const name = slash == std::string::npos ? "" : where.substr(slash + 1);
  api->root = "/vmsrs/" + (name.empty() ? "default" : name) + "/";
  std::string members = where.substr(0, slash);
  for (size_t at = 0; at <= members.size();) {
    size_t const comma = std::min(members.find(',', at), members.size());
    if (comma > at) api->members.push_back(members.substr(at, comma - at));
    at = comma + 1;
  }
  if (api->members.empty()) {
    return vmm::fail(vmm::Errc::kBadOption, "--coordinator etcd://: HOST:PORT of at least one member is needed");
  }
  std::unique_ptr<Coordinator> made(new EtcdCoordinator(std::move(api)));
  auto const reached = made->look();
  if (!reached) return tl::unexpected(reached.error());
  return made;
}

vmm::Result<std::optional<Term>> EtcdCoordinator::acquire(std::chrono::milliseconds time) {
  auto const lease = api_->grant(whole_seconds(time));
  if (!lease) return tl::unexpected(lease.error());
  std::string const key = api_->key("primary");
  json const absent = {{"key", key}, {"target", "CREATE"}, {"result", "EQUAL"}, {"create_revision", "0"}};
  json const put = {{"requestPut", {{"key", key}, {"value", base64("held")}, {"lease", *lease}}}};
  json const range = {{"requestRange", {{"key", key}}}};
  auto const done = api_->post("/v3/kv/txn", {{"compare", {absent}}, {"success", {put}}, {"failure", {range}}});
  // An answer that is lost leaves a key that ends with its lease.
  if (!done) return tl::unexpected(done.error());
  if (done->value("succeeded", false)) {
    held_ = number((*done)["header"], "revision");
  } else {
    // Asked again after a lost answer, the key is there with this very lease.
    auto const holder = first_kv(*done, 0);
    if (!holder || holder->value("lease", "") != *lease) {
      api_->drop(*lease);
      return std::nullopt;
    }
    held_ = number(*holder, "create_revision");
  }
  lease_id_ = *lease;
  api_->starting_until = {};
  return held_;
}

vmm::Result<bool> EtcdCoordinator::renew(Term term, std::chrono::milliseconds /*time: fixed when it was granted*/) {
  if (term != held_) return false;
  auto kept = api_->keep(lease_id_);
  if (!kept || !*kept) return kept;
  // A lease that lives may have lost its key to revoke().
  auto const now = look();
  if (!now) return tl::unexpected(now.error());
  return now->held && now->term == term;
}

vmm::Result<void> EtcdCoordinator::revoke(Term term, bool replay) {
  std::string const key = api_->key("primary");
  json const same = {
      {"key", key}, {"target", "CREATE"}, {"result", "EQUAL"}, {"create_revision", std::to_string(term)}};
  json const note = {
      {"requestPut", {{"key", api_->key("revoked")}, {"value", base64(fmt::format("{} {}", term, replay ? 1 : 0))}}}};
  json const remove = {{"requestDeleteRange", {{"key", key}}}};
  auto const done = api_->post("/v3/kv/txn", {{"compare", {same}}, {"success", {note, remove}}});
  if (!done) return tl::unexpected(done.error());
  return {};
}

vmm::Result<Coordinator::Lease> EtcdCoordinator::look() {
  json const range = {{"requestRange", {{"key", api_->key("primary")}}}};
  json const note = {{"requestRange", {{"key", api_->key("revoked")}}}};
  auto const done = api_->post("/v3/kv/txn", {{"success", {range, note}}});
  if (!done) return tl::unexpected(done.error());
  Lease lease;
  if (auto const held = first_kv(*done, 0)) {
    lease.term = number(*held, "create_revision");
    lease.held = true;
  }
  if (auto const revoked = first_kv(*done, 1)) {
    std::string const text = from_base64(revoked->value("value", ""));
    Term term = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), term);
    if (!lease.held && error == std::errc()) {
      lease.term = term;
      lease.revoked = true;
      lease.replay = std::string_view(end, text.data() + text.size()) != " 0";
    }
  }
  return lease;
}

vmm::Result<void> EtcdCoordinator::announce(PartRole role, std::string const& address) {
  std::string const key = fmt::format("parts/{}/{}", static_cast<uint32_t>(role), address);
  if (!part_lease_id_.empty()) {
    auto const kept = api_->keep(part_lease_id_);
    if (!kept) return tl::unexpected(kept.error());
    if (*kept && key == part_key_) return {};
  }
  auto const lease = api_->grant(kPartSeconds);
  if (!lease) return tl::unexpected(lease.error());
  auto const put = api_->post("/v3/kv/put", {{"key", api_->key(key)}, {"value", base64(address)}, {"lease", *lease}});
  if (!put) return tl::unexpected(put.error());
  part_lease_id_ = *lease;
  part_key_ = key;
  api_->starting_until = {};
  return {};
}

vmm::Result<void> EtcdCoordinator::withdraw() {
  if (!part_lease_id_.empty()) api_->drop(part_lease_id_);
  part_lease_id_.clear();
  return {};
}

vmm::Result<std::vector<std::string>> EtcdCoordinator::find(PartRole role) {
  std::string const first = fmt::format("parts/{}/", static_cast<uint32_t>(role));
  std::string last = first;
  ++last.back();  // the range's end: the prefix with its last byte one greater
  auto const range = api_->post("/v3/kv/range", {{"key", api_->key(first)}, {"range_end", api_->key(last)}});
  if (!range) return tl::unexpected(range.error());
  std::vector<std::string> found;
  json const kvs = range->value("kvs", json::array());
  for (json const& kv : kvs) found.push_back(from_base64(kv.value("value", "")));
  return found;
}

}  // namespace vmsrs::runtime
