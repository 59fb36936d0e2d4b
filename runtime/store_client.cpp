#include "runtime/store_client.hpp"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace vmsrs::store {

namespace {

using wire::Kind;

// Takes an answer apart; a word or list that is not there makes the whole answer bad.
class Reader {
 public:
  explicit Reader(std::vector<uint64_t> const& words) : words_(words) {}
  uint64_t word() {
    if (at_ < words_.size()) return words_[at_++];
    bad_ = true;
    return 0;
  }
  // How many elements of `each` words follow.
  uint64_t count(uint64_t each) {
    uint64_t const n = word();
    if (n <= (words_.size() - at_) / each) return n;
    bad_ = true;
    return 0;
  }
  std::vector<uint64_t> list() {
    uint64_t const n = count(1);
    auto const from = words_.begin() + static_cast<ptrdiff_t>(at_);
    at_ += n;
    return {from, from + static_cast<ptrdiff_t>(n)};
  }
  template <typename T>
  Result<T> done(T value) const {
    if (bad_ || at_ != words_.size()) {
      return tl::unexpected(Error{Code::channel, "store process: an answer of the wrong shape"});
    }
    return value;
  }

 private:
  std::vector<uint64_t> const& words_;
  size_t at_ = 0;
  bool bad_ = false;
};

}  // namespace

Result<std::unique_ptr<StoreClient>> StoreClient::start(ProcessConfig const& config) {
  auto process = start_process(config);
  if (!process) return tl::unexpected(process.error());
  return std::unique_ptr<StoreClient>(new StoreClient(*process));
}

StoreClient::~StoreClient() {
  close(process_.socket);
  if (process_.pid > 0) waitpid(process_.pid, nullptr, 0);
}

// Says how the process ended, if it did.
Error StoreClient::broken(char const* call, int cause) {
  int status = 0;
  pid_t ended = 0;
  // The socket closes a moment before the process can be waited for.
  for (int tries = 0; tries < 200 && ended == 0 && process_.pid > 0; ++tries) {
    ended = waitpid(process_.pid, &status, WNOHANG);
    if (ended == 0) usleep(1000);
  }
  alive_.store(false, std::memory_order_relaxed);
  if (ended == process_.pid && process_.pid > 0) {
    std::string const who = "the store process (pid " + std::to_string(process_.pid) + ") ";
    how_it_ended_ = WIFSIGNALED(status) ? who + "was killed by signal " + std::to_string(WTERMSIG(status)) + " (" +
                                              strsignal(WTERMSIG(status)) + ")"
                                        : who + "ended with status " + std::to_string(WEXITSTATUS(status));
    process_.pid = -1;
    return {Code::gone, how_it_ended_};
  }
  how_it_ended_ =
      std::string("the store process: ") + call + ": " + (cause == 0 ? "it closed the channel" : std::strerror(cause));
  return {Code::gone, how_it_ended_};
}

// Most answers come within 20 us: looking for them that long is cheaper than to sleep and be woken.
ssize_t StoreClient::receive() {
  constexpr int kLooks = 60;
  for (int look = 0;; ++look) {
    ssize_t const got = recv(process_.socket, &answer_, sizeof answer_, look < kLooks ? MSG_DONTWAIT : 0);
    if (got >= 0 || (errno != EINTR && errno != EAGAIN)) return got;
  }
}

Result<std::vector<uint64_t>> StoreClient::ask(Kind kind, uint64_t v0, uint64_t v1, uint64_t v2, uint64_t v3,
                                               uint64_t v4, uint64_t v5) {
  std::lock_guard const lock(mutex_);
  if (!alive()) return tl::unexpected(Error{Code::gone, how_it_ended_});
  wire::Request request{kind, 0, {v0, v1, v2, v3, v4, v5}};
  std::vector<uint64_t> words;
  for (;;) {
    while (send(process_.socket, &request, sizeof request, MSG_NOSIGNAL) < 0) {
      if (errno != EINTR) return tl::unexpected(broken("send", errno));
    }
    ssize_t const got = receive();
    if (got < 0) return tl::unexpected(broken("recv", errno));
    if (got == 0) return tl::unexpected(broken("recv", 0));
    auto const size = static_cast<size_t>(got);
    if (size < sizeof answer_.header || answer_.header.words > wire::kWordsPerPart ||
        size != sizeof answer_.header + answer_.header.words * sizeof(uint64_t)) {
      return tl::unexpected(Error{Code::channel, "store process: an answer of the wrong size"});
    }
    words.insert(words.end(), answer_.words, answer_.words + answer_.header.words);
    if (answer_.header.left == 0) break;
    request.kind = Kind::more;
  }
  if (answer_.header.code != static_cast<uint32_t>(Code::ok)) {
    std::string text(reinterpret_cast<char const*>(words.data()), words.size() * sizeof(uint64_t));
    return tl::unexpected(Error{static_cast<Code>(answer_.header.code), text.c_str()});
  }
  return words;
}

Result<void> StoreClient::order(Kind kind, uint64_t v0, uint64_t v1, uint64_t v2, uint64_t v3, uint64_t v4) {
  auto answer = ask(kind, v0, v1, v2, v3, v4);
  if (!answer) return tl::unexpected(answer.error());
  return {};
}

Result<void> StoreClient::attach_slot(SlotConfig const& s) {
  return order(Kind::attach, s.index, s.address, s.ring, s.records, s.key);
}
Result<void> StoreClient::detach_slot(uint64_t index) {
  return order(Kind::detach, index);
}
Result<void> StoreClient::drain(uint64_t index) {
  return order(Kind::drain, index);
}
Result<void> StoreClient::drain_all() {
  return order(Kind::drain_all);
}
Result<void> StoreClient::ping() {
  return order(Kind::nothing);
}
Result<void> StoreClient::store_word(uint64_t slot, uint64_t address, uint8_t mask, uint64_t value) {
  return order(Kind::store_word, slot, address, mask, value);
}
Result<void> StoreClient::note(uint64_t slot, srs_record const& r) {
  return order(Kind::note, slot, r.what, r.a, r.b);
}
Result<void> StoreClient::range_begin(uint64_t slot, uint64_t address, uint64_t size) {
  return order(Kind::range_begin, slot, address, size);
}
Result<void> StoreClient::range_done(uint64_t slot, uint64_t written) {
  return order(Kind::range_done, slot, written);
}

Result<std::vector<uint64_t>> StoreClient::pages_of(Owner scope) {
  auto answer = ask(Kind::pages_of, scope);
  if (!answer) return answer;
  Reader r(*answer);
  auto pages = r.list();
  return r.done(std::move(pages));
}

Result<std::vector<uint64_t>> StoreClient::save() {
  auto answer = ask(Kind::save);
  if (!answer) return answer;
  Reader r(*answer);
  auto words = r.list();
  return r.done(std::move(words));
}

Result<std::vector<uint64_t>> StoreClient::sweep() {
  auto answer = ask(Kind::sweep);
  if (!answer) return answer;
  Reader r(*answer);
  auto pages = r.list();
  return r.done(std::move(pages));
}

Result<std::vector<Owner>> StoreClient::live_scopes() {
  auto answer = ask(Kind::live_scopes);
  if (!answer) return answer;
  Reader r(*answer);
  auto scopes = r.list();
  return r.done(std::move(scopes));
}

namespace {
Wild read_wild(Reader& r) {
  Wild wild;
  wild.undone = r.word();
  wild.left = r.word();
  wild.addresses = r.list();
  return wild;
}
}  // namespace

Result<void> StoreClient::shadow_add(uint64_t address, uint64_t size, bool strict) {
  return order(Kind::shadow_add, address, size, strict ? 1 : 0);
}
Result<void> StoreClient::shadow_renew() {
  return order(Kind::shadow_renew);
}
Result<Wild> StoreClient::shadow_check() {
  auto answer = ask(Kind::shadow_check);
  if (!answer) return tl::unexpected(answer.error());
  Reader r(*answer);
  Wild wild = read_wild(r);
  return r.done(std::move(wild));
}

Result<AbortResult> StoreClient::abort(Owner scope, Restore restore) {
  auto answer = ask(Kind::abort, scope, static_cast<uint64_t>(restore));
  if (!answer) return tl::unexpected(answer.error());
  Reader r(*answer);
  AbortResult result;
  for (uint64_t* v : {&result.outer, &result.words_polluted, &result.words_restored, &result.words_spliced,
                      &result.damaged, &result.unordered, &result.exposed}) {
    *v = r.word();
  }
  result.pages = r.list();
  for (uint64_t n = r.count(3); n > 0; --n) {
    auto const kind = static_cast<srs_action_kind>(r.word());
    uint64_t const arg = r.word();
    result.actions.push_back({kind, arg, r.word()});
  }
  result.dependents = r.list();
  result.wild = read_wild(r);
  return r.done(std::move(result));
}

Result<RestoreResult> StoreClient::restore_page(uint64_t page, Reason reason, uint64_t word) {
  auto answer = ask(Kind::restore_page, page, static_cast<uint64_t>(reason), word);
  if (!answer) return tl::unexpected(answer.error());
  Reader r(*answer);
  RestoreResult result;
  result.restored = r.word();
  result.overwritten = r.word();
  return r.done(result);
}

Result<uint64_t> StoreClient::fetch_op(uint64_t slot, uint64_t address, srs_fetch_op op, uint64_t operand,
                                       uint64_t width, uint64_t expected) {
  auto answer = ask(Kind::fetch_op, slot, address, op, operand, width, expected);
  if (!answer) return tl::unexpected(answer.error());
  Reader r(*answer);
  uint64_t const old = r.word();
  return r.done(old);
}

Result<std::vector<Block>> StoreClient::take_freed() {
  auto answer = ask(Kind::take_freed);
  if (!answer) return tl::unexpected(answer.error());
  Reader r(*answer);
  std::vector<Block> blocks;
  for (uint64_t n = r.count(2); n > 0; --n) {
    uint64_t const address = r.word();
    blocks.push_back({address, r.word()});
  }
  return r.done(std::move(blocks));
}

Result<Stats> StoreClient::stats() {
  auto answer = ask(Kind::stats);
  if (!answer) return tl::unexpected(answer.error());
  Reader r(*answer);
  Stats s;
  for (uint64_t* v : {&s.records, &s.skipped, &s.damaged, &s.unordered, &s.unpublished, &s.chains, &s.entries,
                      &s.live_scopes, &s.commits, &s.aborts, &s.polluted_now, &s.by_eager, &s.by_trap, &s.by_overwrite,
                      &s.by_sweep, &s.strict_stores}) {
    *v = r.word();
  }
  return r.done(s);
}

}  // namespace vmsrs::store
