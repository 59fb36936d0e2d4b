// The guest's descriptors as data: open files as typed objects, and the numbers that name them.
#pragma once

#include <sys/socket.h>
#include <sys/timerfd.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/checkpoint/archive.hpp"
#include "vmm/error.hpp"
#include "vmm/fd_table.hpp"

namespace vmm {

class Process;

struct SocketName {
  sockaddr_storage address{};
  uint32_t size = 0;
};

enum class SocketRole : uint8_t {
  kPlain,  // not connected; bound if it has a name
  kListening,
  kPair,     // the other end is the guest's too (Unix)
  kClaimed,  // somebody outside owns the connection and attaches it again
  kGone,     // connected to somebody outside: reset when the guest goes on
};

struct SocketState {
  int domain = 0, type = 0, protocol = 0;
  SocketRole role = SocketRole::kPlain;
  SocketName local, peer;
  int backlog = 0;
  bool read_shut = false, write_shut = false;
  uint64_t claimed_id = 0, read = 0, written = 0;
  uint32_t peer_object = 0;                    // kPair: index of the other end
  bool datagrams = false;                      // kPair: the parts are messages
  std::vector<std::vector<std::byte>> unread;  // kPair: what lies in this end's queue
  struct OptionValue {
    int level = 0, name = 0;
    std::vector<std::byte> value;
  };
  std::vector<OptionValue> options;
};

struct EpollEntry {
  uint32_t object = 0;
  int number = 0;  // of the guest
  uint32_t events = 0;
  uint64_t data = 0;
};

struct FileLock {
  bool posix = false;  // else flock
  bool write = false;
  int64_t start = 0, end = -1;  // inclusive; -1: to the end of the file
};

struct OpenFileState {
  uint8_t kind = 0;  // OpenFile::Kind
  std::string path;
  int flags = 0;  // F_GETFL
  int64_t offset = 0;
  bool record_locks = false, socket_timeout = false, accepted = false, read_only = false;
  int standard = -1;  // 0, 1, 2: the stream of that number that the monitor was started with
  std::vector<int> epoll_numbers;
  // kFile
  uint64_t device = 0, inode = 0, size = 0;
  int64_t mtime_ns = 0;
  bool deleted = false;
  bool has_content = false;
  std::vector<std::byte> content;  // of a deleted file, a memfd, a pipe, a synthetic file
  std::vector<FileLock> locks;
  int seals = 0;
  // kPipe
  uint64_t pipe_id = 0;  // both ends have it
  bool write_end = false, other_end_here = false;
  int capacity = 0;
  // kEventFd, kSignalFd, kTimerFd
  uint64_t count = 0;
  bool semaphore = false;
  uint64_t mask = 0;
  int clock = 0, timer_flags = 0;
  itimerspec left{};
  std::vector<EpollEntry> epoll;
  SocketState socket;
};

struct FdEntryState {
  int number = 0;
  uint32_t object = 0;
  bool cloexec = false;
};

struct FdState {
  std::vector<OpenFileState> objects;
  std::vector<FdEntryState> entries;
  uint64_t limit = 0;
};

// What the layer above knows of sockets to the outside.
struct SocketHooks {
  // At a checkpoint: whose connection it is; nothing: nobody's. May fill in more.
  struct Claim {
    uint64_t id = 0;
    uint64_t read_before = 0, written_before = 0;  // by connections that this one stands for
  };
  std::function<std::optional<Claim>(SocketName const& local, SocketName const& peer)> claim;
  // At a restore: a connected socket in its place, negative: gone.
  std::function<int(SocketState const&, std::vector<int> const& numbers)> attach;
  std::function<SocketName(SocketName const&)> listen_at;
  std::function<void(SocketName const& original, SocketName const& actual)> listening;
};

// With the guest standing at its gates. Errc::kNotCheckpointable names the descriptor and why.
Result<FdState> capture_fds(Process& process, SocketHooks const& hooks);
// Into an empty table. What could not be put back as it was, but is no error, is told by `note`: one sentence each.
Result<void> restore_fds(Process& process, FdState const& state, SocketHooks const& hooks,
                         std::function<void(std::string const&)> const& note);

// Of sockets (socket_state.cpp).
Result<void> capture_socket(int host_fd, OpenFileState& state, SocketHooks const& hooks);
// The host fd, or -errno with the call named in `what`. Not for kPair.
int restore_socket(OpenFileState const& state, std::vector<int> const& numbers, SocketHooks const& hooks,
                   std::string& what);
// Two ends that are the guest's own.
int restore_socket_pair(OpenFileState const& first, OpenFileState const& second, int (&ends)[2], std::string& what);

template <class A>
void visit(A& a, SocketName& s) {
  visit_plain(a, s.address);
  visit(a, s.size);
  if (s.size > sizeof s.address) a.fail();
}
template <class A>
void visit(A& a, SocketState::OptionValue& s) {
  visit_all(a, s.level, s.name, s.value);
}
template <class A>
void visit(A& a, SocketState& s) {
  visit_all(a, s.domain, s.type, s.protocol, s.role, s.local, s.peer, s.backlog, s.read_shut, s.write_shut,
            s.claimed_id, s.read, s.written, s.peer_object, s.datagrams, s.unread, s.options);
}
template <class A>
void visit(A& a, EpollEntry& s) {
  visit_all(a, s.object, s.number, s.events, s.data);
}
template <class A>
void visit(A& a, FileLock& s) {
  visit_all(a, s.posix, s.write, s.start, s.end);
}
template <class A>
void visit(A& a, OpenFileState& s) {
  visit_all(a, s.kind, s.path, s.flags, s.offset, s.record_locks, s.socket_timeout, s.accepted, s.read_only, s.standard,
            s.epoll_numbers, s.device, s.inode, s.size, s.mtime_ns, s.deleted, s.has_content, s.content, s.locks,
            s.seals, s.pipe_id, s.write_end, s.other_end_here, s.capacity, s.count, s.semaphore, s.mask, s.clock,
            s.timer_flags);
  visit_plain(a, s.left);
  visit_all(a, s.epoll, s.socket);
}
template <class A>
void visit(A& a, FdEntryState& s) {
  visit_all(a, s.number, s.object, s.cloexec);
}
template <class A>
void visit(A& a, FdState& s) {
  visit_all(a, s.objects, s.entries, s.limit);
}

}  // namespace vmm
