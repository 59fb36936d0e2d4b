#include "runtime/store_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>

#include "runtime/store_wire.hpp"
#include "runtime/urgent.hpp"

namespace vmsrs::store {

namespace {

using wire::Kind;

Error failed(Code code, char const* call) {
  int const cause = errno;
  return {code, std::string(call) + ": " + std::strerror(cause)};
}

class Server {
 public:
  explicit Server(Store& store) : store_(store) {}

  // Leaves the answer in answer().
  void handle(wire::Request const& request) {
    if (request.kind == Kind::more) {
      part();
      return;
    }
    words_.clear();
    sent_ = 0;
    code_ = Code::ok;
    dispatch(request);
    part();
  }
  wire::Answer const& answer() const { return answer_; }
  size_t answer_size() const { return sizeof(wire::Header) + answer_.header.words * sizeof(uint64_t); }

 private:
  void put(uint64_t word) { words_.push_back(word); }
  void put(std::vector<uint64_t> const& list) {
    put(list.size());
    words_.insert(words_.end(), list.begin(), list.end());
  }

  void fail(Error const& error) {
    code_ = error.code;
    words_.assign((error.message.size() + 7) / 8, 0);
    std::memcpy(words_.data(), error.message.data(), error.message.size());
  }
  // Puts nothing if it is an error.
  template <typename T>
  bool ok(Result<T> const& result) {
    if (!result) fail(result.error());
    return result.has_value();
  }

  void part() {
    uint64_t const left = words_.size() - sent_;
    uint64_t const now = std::min(left, wire::kWordsPerPart);
    answer_.header = {static_cast<uint32_t>(code_), static_cast<uint32_t>(now), left - now};
    if (now != 0) std::memcpy(answer_.words, words_.data() + sent_, now * sizeof(uint64_t));
    sent_ += now;
  }

  void put_abort(AbortResult const& r) {
    for (uint64_t v :
         {r.outer, r.words_polluted, r.words_restored, r.words_spliced, r.damaged, r.unordered, r.exposed}) {
      put(v);
    }
    put(r.pages);
    put(r.actions.size());
    for (Action const& a : r.actions) {
      put(a.kind);
      put(a.arg);
      put(a.detail);
    }
    put(r.dependents);
    put_wild(r.wild);
  }

  void put_wild(Wild const& wild) {
    put(wild.undone);
    put(wild.left);
    put(wild.addresses);
  }

  void put_stats(Stats const& s) {
    for (uint64_t v :
         {s.records, s.skipped, s.damaged, s.unordered, s.unpublished, s.chains, s.entries, s.live_scopes, s.commits,
          s.aborts, s.polluted_now, s.by_eager, s.by_trap, s.by_overwrite, s.by_sweep, s.strict_stores}) {
      put(v);
    }
  }

  void dispatch(wire::Request const& r) {
    auto const& v = r.v;
    switch (r.kind) {
      case Kind::attach:
        ok(store_.attach_slot({v[0], v[1], v[2], v[3], v[4]}));
        return;
      case Kind::detach:
        ok(store_.detach_slot(v[0]));
        return;
      case Kind::drain:
        ok(store_.drain(v[0]));
        return;
      case Kind::drain_all:
        store_.drain_all();
        return;
      case Kind::pages_of:
        if (auto pages = store_.pages_of(v[0]); ok(pages)) put(*pages);
        return;
      case Kind::abort:
        if (auto result = store_.abort(v[0], v[1] != 0 ? Restore::demand : Restore::eager); ok(result)) {
          put_abort(*result);
        }
        return;
      case Kind::restore_page: {
        auto const reason = v[1] == 1 ? Reason::overwrite : v[1] == 2 ? Reason::sweep : Reason::trap;
        RestoreResult const result = store_.restore_page(v[0], reason, v[2]);
        put(result.restored);
        put(result.overwritten);
        return;
      }
      case Kind::sweep:
        put(store_.sweep());
        return;
      case Kind::store_word:
        ok(store_.store_word(v[0], v[1], static_cast<uint8_t>(v[2]), v[3]));
        return;
      case Kind::fetch_op:
        if (v[2] > SRS_OP_CAS) {
          fail({Code::bad_argument, "fetch_op: unknown operation"});
        } else if (auto old = store_.fetch_op(v[0], v[1], static_cast<srs_fetch_op>(v[2]), v[3], v[4], v[5]); ok(old)) {
          put(*old);
        }
        return;
      case Kind::note:
        ok(store_.note(v[0], {v[1], v[2], v[3], 0}));
        return;
      case Kind::range_begin:
        ok(store_.range_begin(v[0], v[1], v[2]));
        return;
      case Kind::range_done:
        ok(store_.range_done(v[0], v[1]));
        return;
      case Kind::shadow_add:
        ok(store_.shadow_add(v[0], v[1], v[2] != 0));
        return;
      case Kind::shadow_renew:
        store_.shadow_renew();
        return;
      case Kind::shadow_check:
        put_wild(store_.shadow_check());
        return;
      case Kind::take_freed: {
        auto const blocks = store_.take_freed();
        put(blocks.size());
        for (Block const& b : blocks) {
          put(b.address);
          put(b.size);
        }
        return;
      }
      case Kind::live_scopes:
        put(store_.live_scopes());
        return;
      case Kind::save:
        if (auto words = store_.save(); ok(words)) put(*words);
        return;
      case Kind::stats:
        put_stats(store_.stats());
        return;
      case Kind::nothing:
      case Kind::more:
        return;
    }
    fail({Code::bad_argument, "the store process knows no such request"});
  }

  Store& store_;
  Code code_ = Code::ok;
  std::vector<uint64_t> words_;
  uint64_t sent_ = 0;
  wire::Answer answer_{};
};

// Everything but `keep` and the standard streams.
void close_others(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned from = 3;
  for (int fd : keep) {
    if (fd < 3) continue;
    if (static_cast<unsigned>(fd) > from) close_range(from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  close_range(from, ~0u, 0);
}

Result<Memory> map_parts(std::vector<MemoryPart> const& parts) {
  Memory memory;
  for (MemoryPart const& part : parts) {
    void* const at = mmap(nullptr, part.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, part.fd,
                          static_cast<off_t>(part.offset));
    if (at == MAP_FAILED) return tl::unexpected(failed(Code::bad_address, "store process: mmap of guest memory"));
    memory.add({part.guest, part.size, at, part.offset});
  }
  return memory;
}

void send_start(int socket, Code code, std::string const& message) {
  wire::Answer answer{};
  answer.header.code = static_cast<uint32_t>(code);
  size_t const size = std::min(message.size(), sizeof answer.words);
  std::memcpy(answer.words, message.data(), size);
  answer.header.words = static_cast<uint32_t>((size + 7) / 8);
  // If this fails the monitor is gone, and so are we.
  (void)!send(socket, &answer, sizeof answer.header + answer.header.words * sizeof(uint64_t), MSG_NOSIGNAL);
}

[[noreturn]] void child(ProcessConfig const& config, int socket, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);  // it died before the line above
  prctl(PR_SET_NAME, "vmsrs-store");
  prctl(PR_SET_DUMPABLE, 0);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM}) {
    std::signal(signal, SIG_IGN);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);

  std::vector<int> keep{socket};
  for (MemoryPart const& part : config.parts) keep.push_back(part.fd);
  close_others(keep);
  auto memory = map_parts(config.parts);
  if (!memory) {
    send_start(socket, memory.error().code, memory.error().message);
    _exit(1);
  }
  close_others({socket});
  runtime::make_urgent();
  // The inherited streams: nothing is read or written there, and the other ends must see them close.
  int const null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int stream = 0; null >= 0 && stream < 3; ++stream) {
    if (stream != socket) dup2(null, stream);
  }
  if (null >= 3) close(null);
  Config store_config;
  store_config.tag_base = config.tag_base;
  store_config.address_mask = config.address_mask;
  store_config.page_size = config.page_size;
  store_config.barrier = barrier_everywhere;
  if (config.wrote) {
    WriteMarks::instance().mark = [ranges = *memory, &config](void const* host) {
      uint64_t offset = 0;
      if (ranges.offset_of(host, offset)) config.wrote(offset);
    };
  }
  Store store(std::move(store_config), std::move(*memory));
  if (!config.saved.empty()) {
    if (auto loaded = store.go_on_from(config.saved); !loaded) {
      send_start(socket, loaded.error().code, loaded.error().message);
      _exit(1);
    }
  }
  send_start(socket, Code::ok, "");
  _exit(serve(store, socket) == 0 ? 0 : 1);
}

}  // namespace

namespace {

// Rings are drained before they are full, so that no guest thread has to leave for it: once one did ask, all are looked
// at from time to time, as often as they fill; when they no longer do, nobody looks.
class Watch {
 public:
  void begin() {
    if (wait_us_ == 0) wait_us_ = kFirst;
  }
  // Until there is something to read.
  void between_requests(Store& store, int socket) {
    while (wait_us_ != 0) {
      pollfd readable{socket, POLLIN, 0};
      timespec const wait{0, static_cast<long>(wait_us_) * 1000};
      if (ppoll(&readable, 1, &wait, nullptr) != 0) return;
      uint64_t const fullest = store.drain_filled();
      if (fullest >= 128) {
        wait_us_ = std::max(kShortest, wait_us_ / 2);
      } else if (fullest < Store::kDrainFrom) {  // nothing was drained: what little lies there may stay for ever
        wait_us_ = wait_us_ * 2 <= kLongest ? wait_us_ * 2 : 0;
      }
    }
  }

 private:
  static constexpr unsigned kFirst = 400, kShortest = 100, kLongest = 8000;
  unsigned wait_us_ = 0;  // 0: nobody looks
};

}  // namespace

int serve(Store& store, int socket) {
  auto server = std::make_unique<Server>(store);
  wire::Request request{};
  Watch watch;
  for (;;) {
    watch.between_requests(store, socket);
    ssize_t const got = recv(socket, &request, sizeof request, 0);
    if (got == 0) return 0;
    if (got < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (got != static_cast<ssize_t>(sizeof request)) return EPROTO;
    server->handle(request);
    if (request.kind == Kind::drain) watch.begin();
    if (send(socket, &server->answer(), server->answer_size(), MSG_NOSIGNAL) < 0) {
      return errno == EPIPE ? 0 : errno;
    }
  }
}

Result<Process> start_process(ProcessConfig const& config) {
  if (auto registered = register_for_barrier(); !registered) return tl::unexpected(registered.error());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return tl::unexpected(failed(Code::channel, "store process: socketpair"));
  }
  pid_t const parent = getpid();
  pid_t const pid = fork();
  if (pid == 0) child(config, ends[1], parent);
  close(ends[1]);
  if (pid < 0) {
    Error const error = failed(Code::channel, "store process: fork");
    close(ends[0]);
    return tl::unexpected(error);
  }
  wire::Answer answer{};
  ssize_t got;
  do {
    got = recv(ends[0], &answer, sizeof answer, 0);
  } while (got < 0 && errno == EINTR);
  if (got < static_cast<ssize_t>(sizeof answer.header) || answer.header.code != 0) {
    Error error{Code::gone, "the store process ended before it was ready"};
    if (got >= static_cast<ssize_t>(sizeof answer.header)) {
      error.code = static_cast<Code>(answer.header.code);
      error.message.assign(reinterpret_cast<char const*>(answer.words), answer.header.words * sizeof(uint64_t));
      error.message = error.message.c_str();
    }
    close(ends[0]);
    waitpid(pid, nullptr, 0);
    return tl::unexpected(error);
  }
  return Process{pid, ends[0]};
}

}  // namespace vmsrs::store
