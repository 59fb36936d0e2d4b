#include "examples/bookstore/load/report.hpp"

#include <algorithm>

namespace bookstore::load {
namespace {

using nlohmann::json;

struct Totals {
  std::uint64_t requests = 0, crashed = 0, lost = 0, lost_healthy = 0, disturbed = 0, gave_up = 0;
  std::uint64_t purchases = 0, sold_out = 0, out_of_time = 0, delivered = 0;
  std::vector<double> latencies;

  explicit Totals(Run const& run) {
    for (auto const& u : run.users) {
      requests += u.answered;
      purchases += u.purchases;
      sold_out += u.sold_out;
      disturbed += u.disturbed;
      gave_up += u.gave_up;
      out_of_time += u.out_of_time;
      lost += u.lost;
      bool const own = u.fault && u.fault->status == 0;
      lost_healthy += u.lost - (own && u.lost > 0 ? 1 : 0);
      crashed += u.fault && (u.fault->status == 0 || u.fault->status == 500);
      delivered += u.fault.has_value();
      latencies.insert(latencies.end(), u.latencies.begin(), u.latencies.end());
    }
    std::sort(latencies.begin(), latencies.end());
  }
  double percentile(double p) const {
    if (latencies.empty()) return 0;
    return latencies[static_cast<std::size_t>(p * static_cast<double>(latencies.size() - 1))];
  }
};

json or_null(std::optional<bool> const& value) {
  return value ? json(*value) : json(nullptr);
}

bool server_died(Run const& run) {
  return !run.alive || (run.exit && run.exit->by_itself);
}

}  // namespace

bool passed(Run const& run) {
  Totals const t(run);
  bool const clean_exit = !run.exit || (run.exit->status == 0 && !run.exit->killed);
  return run.finding.finished && run.finding.wrong_answers == 0 && run.finding.lost_updates == 0 && !server_died(run) &&
         run.restarts == 0 && t.lost_healthy == 0 && t.disturbed == 0 && t.gave_up == 0 && t.out_of_time == 0 &&
         clean_exit && (!run.pair || run.pair->met);
}

json to_json(Run const& run) {
  Totals const t(run);
  json faults = json::array();
  for (auto const& u : run.users) {
    if (!u.fault) continue;
    faults.push_back({{"user", u.user},
                      {"kind", name_of(u.fault->fault.kind)},
                      {"at", name_of(u.fault->fault.at)},
                      {"status", u.fault->status},
                      {"told_committed", or_null(u.fault->committed)},
                      {"order_found", or_null(u.fault->found)}});
  }
  json by_kind = json::object();
  for (std::size_t i = 0; i < kWrongKinds; ++i)
    by_kind[std::string(name_of(static_cast<Wrong>(i)))] = run.finding.wrong[i];
  json first = json::array();
  for (auto const& w : run.finding.first)
    first.push_back({{"kind", name_of(w.kind)}, {"user", w.user}, {"what", w.text}});

  json j = {{"passed", passed(run)},
            {"users", run.users.size()},
            {"seed", run.seed},
            {"crashed", t.crashed},
            {"wrong_answers", run.finding.wrong_answers},
            {"wrong_by_kind", by_kind},
            {"lost_updates", run.finding.lost_updates},
            {"first_wrong", first},
            {"judged_to_the_end", run.finding.finished},
            {"server_died", server_died(run)},
            {"server_restarts", run.restarts},
            {"connections_lost", t.lost},
            {"connections_lost_without_fault", t.lost_healthy},
            {"disturbed", t.disturbed},
            {"users_given_up", t.gave_up},
            {"out_of_time", t.out_of_time},
            {"faults_sent", t.delivered},
            {"faults", faults},
            {"purchases", t.purchases},
            {"sold_out", t.sold_out},
            {"told_not_committed", run.finding.denied},
            {"unknown", run.finding.unknown},
            {"unknown_committed", run.finding.unknown_committed},
            {"requests", t.requests},
            {"seconds", run.seconds},
            {"requests_per_second", run.seconds > 0 ? static_cast<double>(t.requests) / run.seconds : 0},
            {"latency_ms", {{"p50", t.percentile(0.5)}, {"p99", t.percentile(0.99)}}}};
  if (!run.end_error.empty()) j["end_error"] = run.end_error;
  if (run.exit)
    j["server_exit"] = {{"status", run.exit->status},
                        {"signal", run.exit->signal},
                        {"by_itself", run.exit->by_itself},
                        {"killed", run.exit->killed},
                        {"cpu_seconds", run.exit->cpu_seconds}};
  if (run.pair)
    j["pair"] = {{"met", run.pair->met},
                 {"others_begun", run.pair->others_begun},
                 {"others_done", run.pair->others_done},
                 {"waited_ms", run.pair->waited_ms}};
  return j;
}

void print(Run const& run, std::FILE* out) {
  Totals const t(run);
  auto const n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
  std::fprintf(out, "users %zu, crashed %llu, requests %llu in %.2f s: %.0f/s, p50 %.2f ms, p99 %.2f ms\n",
               run.users.size(), n(t.crashed), n(t.requests), run.seconds,
               run.seconds > 0 ? static_cast<double>(t.requests) / run.seconds : 0, t.percentile(0.5),
               t.percentile(0.99));
  std::fprintf(out, "purchases %llu, sold out %llu, told \"not committed\" %llu, unknown %llu (committed %llu)\n",
               n(t.purchases), n(t.sold_out), n(run.finding.denied), n(run.finding.unknown),
               n(run.finding.unknown_committed));
  for (auto const& u : run.users) {
    if (!u.fault) continue;
    auto const& f = *u.fault;
    std::fprintf(out, "fault of user %llu: %s at %s: %s%s%s\n", n(u.user), std::string(name_of(f.fault.kind)).c_str(),
                 std::string(name_of(f.fault.at)).c_str(),
                 f.status == 0 ? "connection lost" : ("status " + std::to_string(f.status)).c_str(),
                 !f.committed   ? ""
                 : *f.committed ? ", told committed"
                                : ", told not committed",
                 !f.found   ? ""
                 : *f.found ? ", order found"
                            : ", order not found");
  }
  if (run.pair)
    std::fprintf(out, "pair: %s; others begun %llu, done %llu, in %llu ms\n", run.pair->met ? "met" : "did not meet",
                 n(run.pair->others_begun), n(run.pair->others_done), n(run.pair->waited_ms));
  std::fprintf(out,
               "connections lost %llu (%llu without a fault of their own), disturbed %llu, users out of time %llu\n",
               n(t.lost), n(t.lost_healthy), n(t.disturbed), n(t.out_of_time));
  if (run.exit) std::fprintf(out, "server: %s\n", run.exit->text().c_str());
  if (server_died(run)) std::fprintf(out, "THE SERVER DIED\n");
  if (run.restarts != 0) std::fprintf(out, "THE SERVER WAS RESTARTED\n");
  if (!run.finding.finished) std::fprintf(out, "the final state could not be judged: %s\n", run.end_error.c_str());
  std::fprintf(out, "wrong answers %llu, lost updates %llu\n", n(run.finding.wrong_answers),
               n(run.finding.lost_updates));
  for (auto const& w : run.finding.first)
    std::fprintf(out, "  %s (user %llu): %s\n", std::string(name_of(w.kind)).c_str(), n(w.user), w.text.c_str());
  std::fprintf(out, "%s\n", passed(run) ? "passed" : "FAILED");
}

}  // namespace bookstore::load
