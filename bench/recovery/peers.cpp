// Requests without sockets (bench/wrapped/work.cpp) of which some crash, and what is left to recover: nothing of its
// own
// (`serve`: for a run under the monitor), checkpoints by fork(), or a restart from nothing. Knows nothing of VMSRS.
//
// usage: peers serve|fork|restart SECONDS CRASHES_PER_SECOND INTERVAL_MS STATE_MB
// INTERVAL_MS: between checkpoints; with `restart` the pause before it (systemd's RestartSec). STATE_MB is memory that
// the server holds besides. Prints JSON.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench/recovery/crash.hpp"
#include "bench/wrapped/work.hpp"

namespace {

constexpr int kBuckets = 4096;  // of 10 ms
struct Shared {                 // outlives every crash
  double start, end, period, next_crash, crashed_at;
  double checkpoint_seconds, recovery_seconds, longest_recovery;
  unsigned long done, rolled_back, crashes, checkpoints;
  pid_t active, checkpoint;
  unsigned buckets[kBuckets];
};
Shared* shared;
double interval;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void recovered() {
  double const took = now() - shared->crashed_at;
  shared->recovery_seconds += took;
  if (took > shared->longest_recovery) shared->longest_recovery = took;
}

// Returns in the process that goes on: this one, or, after a crash, the copy made here.
void checkpoint(unsigned long* done_here) {
  double const begun = now();
  pid_t const old = shared->checkpoint;
  *done_here = shared->done;
  pid_t const copy = fork();
  if (copy == 0) {
    raise(SIGSTOP);
    shared->rolled_back += shared->done - *done_here;
    shared->done = *done_here;
    shared->checkpoint = 0;
    shared->active = getpid();
    recovered();
    return checkpoint(done_here);
  }
  if (copy < 0) {
    std::perror("peers: fork");
    _exit(1);
  }
  shared->checkpoint = copy;
  if (old != 0) {
    kill(old, SIGKILL);
    waitpid(old, nullptr, 0);  // not ours if it is the one that we come from: the supervisor takes it then
  }
  shared->checkpoints++;
  shared->checkpoint_seconds += now() - begun;
}

void serve(bool forks) {
  Mix* const mix = new_mix();
  unsigned long done_here = 0;
  if (forks) checkpoint(&done_here);
  double last = now();
  for (;;) {
    double const t = now();
    if (t >= shared->end) return;
    if (forks && t >= last + interval) {
      checkpoint(&done_here);
      last = now();
    }
    auto const bucket = static_cast<int>((t - shared->start) * 100);
    for (int i = 0; i < 16; ++i) run_request(mix, static_cast<int>(shared->done++ % 1000000));
    if (bucket >= 0 && bucket < kBuckets) shared->buckets[bucket] += 16;
    if (t >= shared->next_crash) {
      shared->next_crash += shared->period;
      shared->crashes++;
      shared->crashed_at = now();
      run_crashing(mix, static_cast<int>(shared->done % 1000000));
      recovered();  // under the monitor only
    }
  }
}

// Waits for the serving process; after each crash another goes on.
void supervise(bool forks) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (;;) {
    unsigned long const begun_with = shared->done;
    pid_t const first = fork();
    if (first == 0) {
      shared->active = getpid();
      if (shared->crashes != 0) recovered();
      serve(forks);
      _exit(0);
    }
    shared->active = first;
    for (;;) {
      int status = 0;
      pid_t const ended = waitpid(-1, &status, 0);
      if (ended < 0) return;
      if (ended != shared->active) continue;
      if (WIFEXITED(status)) {
        if (shared->checkpoint != 0) kill(shared->checkpoint, SIGKILL);
        while (waitpid(-1, nullptr, 0) > 0) {
        }
        return;
      }
      if (!forks) break;
      pid_t const next = shared->checkpoint;
      while (shared->active != next) {  // it may be on its way to its stop still
        kill(next, SIGCONT);
        usleep(20);
      }
    }
    shared->rolled_back += shared->done - begun_with;  // with its memory all it had done is gone
    usleep(static_cast<useconds_t>(interval * 1e6));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  rlimit const no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  bool const alone = std::strcmp(argv[1], "serve") == 0;
  double const seconds = std::atof(argv[2]), rate = std::atof(argv[3]);
  interval = std::atof(argv[4]) / 1e3;
  size_t const state = static_cast<size_t>(std::atof(argv[5]) * 1048576);
  shared = static_cast<Shared*>(
      mmap(nullptr, sizeof *shared, PROT_READ | PROT_WRITE, (alone ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS, -1, 0));
  char volatile* const held = static_cast<char*>(std::malloc(state + 1));
  for (size_t i = 0; i < state; i += 4096) held[i] = 1;
  shared->start = now();
  shared->end = shared->start + seconds;
  shared->period = rate > 0 ? 1 / rate : 1e9;
  shared->next_crash = shared->start + shared->period;
  if (alone) {
    serve(false);
  } else {
    supervise(std::strcmp(argv[1], "fork") == 0);
  }
  std::printf(
      "{\"done\":%lu,\"rolled_back\":%lu,\"crashes\":%lu,\"checkpoints\":%lu,\"checkpoint_us\":%.1f,"
      "\"recovery_us\":%.1f,\"longest_recovery_us\":%.1f,\"seconds\":%.3f,\"per_10ms\":[",
      shared->done, shared->rolled_back, shared->crashes, shared->checkpoints,
      shared->checkpoints != 0 ? shared->checkpoint_seconds / static_cast<double>(shared->checkpoints) * 1e6 : 0,
      shared->crashes != 0 ? shared->recovery_seconds / static_cast<double>(shared->crashes) * 1e6 : 0,
      shared->longest_recovery * 1e6, now() - shared->start);
  for (int i = 0; i < kBuckets && i < seconds * 100; ++i) std::printf("%s%u", i == 0 ? "" : ",", shared->buckets[i]);
  std::printf("]}\n");
}
