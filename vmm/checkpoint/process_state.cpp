#include "vmm/checkpoint/process_state.hpp"

#include "vmm/system_pages.hpp"

namespace vmm {

template <class A>
void visit(A& a, GuestRange& r) {
  visit_all(a, r.start.value, r.size);
}
template <class A>
void visit(A& a, Vma& v) {
  visit_all(a, v.start.value, v.end.value, v.prot, v.backing, v.name, v.file_offset, v.advised, v.may_write);
}
template <class A>
void visit(A& a, PendingState& p) {
  visit(a, p.signal);
  visit_plain(a, p.info);
  visit_all(a, p.sender_tid, p.of_timer, p.timer_id);
  if (p.signal < 1 || p.signal > kSignals) a.fail();
}
template <class A>
void visit(A& a, TimerState& t) {
  visit_all(a, t.id, t.clock, t.host_clock, t.signal, t.tid, t.value, t.value_is_id, t.interval_timer);
  visit_plain(a, t.left);
  visit(a, t.last_overrun);
}

template <class A>
void visit(A& a, ThreadImage& t) {
  visit_all(a, t.tid, t.vcpu);
  visit_plain(a, t.regs);
  visit_all(a, t.xsave, t.name, t.blocked, t.has_saved_mask, t.saved_mask, t.alt_stack, t.alt_size, t.alt_flags,
            t.trap[0], t.trap[1], t.trap[2]);
  visit(a, t.pending);
  visit_all(a, t.clear_child_tid, t.robust_list, t.in_call, t.call_nr, t.call_result, t.deadline, t.sent);
  if (t.xsave.size() > kXsaveBytes || t.tid <= 0 || t.vcpu >= kMaxVcpus) a.fail();
}

template <class A>
void visit(A& a, ProcessState& s) {
  visit(a, s.version);
  if (s.version != kStateVersion) a.fail();
  visit_all(a, s.window, s.vdso_hash, s.time_page, s.monotonic_ns, s.realtime_ns);
  visit(a, s.layout.vmas);
  visit(a, s.layout.locked);
  visit_all(a, s.layout.brk_start, s.layout.brk);
  visit_plain(a, s.actions);
  visit(a, s.pending);
  visit(a, s.next_timer);
  visit(a, s.timers);
  visit(a, s.threads);
  visit_all(a, s.next_tid, s.exe_path, s.command_name, s.cwd, s.argv, s.envp, s.umask, s.fds);
}

std::vector<std::byte> encode(ProcessState& state) {
  ArchiveWriter writer;
  visit(writer, state);
  return std::move(writer.bytes());
}

Result<ProcessState> decode_process_state(std::span<std::byte const> bytes) {
  ProcessState state;
  ArchiveReader reader(bytes);
  visit(reader, state);
  if (state.version != kStateVersion) {
    return fail(Errc::kBadCheckpoint, "the state of the guest is of version " + std::to_string(state.version) +
                                          ", this vmsrs reads " + std::to_string(kStateVersion));
  }
  if (!reader.ok() || reader.left() != 0) return fail(Errc::kBadCheckpoint, "the state of the guest makes no sense");
  for (FdEntryState const& entry : state.fds.entries) {
    if (entry.object >= state.fds.objects.size() || entry.number < 0) {
      return fail(Errc::kBadCheckpoint, "the guest's descriptors make no sense");
    }
  }
  for (OpenFileState const& file : state.fds.objects) {
    bool good = file.kind <= static_cast<uint8_t>(OpenFile::Kind::kOther) && file.standard < 3;
    good = good && (file.socket.role != SocketRole::kPair || file.socket.peer_object < state.fds.objects.size());
    for (EpollEntry const& entry : file.epoll) good = good && entry.object < state.fds.objects.size();
    if (!good) return fail(Errc::kBadCheckpoint, "one of the guest's open files makes no sense");
  }
  return state;
}

}  // namespace vmm
