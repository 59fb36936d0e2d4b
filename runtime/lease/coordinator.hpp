// Who is the primary, and where the parts are: one lease, one registry, kept where every part sees the same.
//
//   shm:NAME                          shared memory of one host (Boost.Interprocess); shared_coordinator.hpp
//   etcd://HOST:PORT[,HOST:PORT…]/NAME  etcd's v3 API over its JSON gateway; etcd_coordinator.hpp
//
// Each acquisition of the lease has a *term*, greater than all before it: the fencing token. It is checked where
// effects happen (the gateway; the primary before its own): an older term's have none. Safety does not rest on the
// lease's time, which may run out while its holder sleeps: it rests on the term.
//
// Calls may take as long as a network's time-out (etcd); one thread at a time per object.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/error.hpp"

namespace vmsrs::runtime {

using Term = uint64_t;

enum class PartRole : uint32_t { kGateway = 1, kBackup = 2, kPrimary = 3 };

class Coordinator {
 public:
  struct Lease {
    Term term = 0;       // the last one given; 0: none yet
    bool held = false;   // and its time has not run out
    bool replay = true;  // what revoke() said
    bool revoked = false;
  };
  virtual ~Coordinator() = default;

  // The new term; nothing: somebody holds the lease.
  virtual vmm::Result<std::optional<Term>> acquire(std::chrono::milliseconds time) = 0;
  // Holds it `time` from now on. False: the term is over, and nothing that its holder does may have an effect.
  virtual vmm::Result<bool> renew(Term term, std::chrono::milliseconds time) = 0;
  // Ends this term, by whoever knows that its holder is gone. `replay`: what the next primary is to do with the input
  // that no epoch covers.
  virtual vmm::Result<void> revoke(Term term, bool replay) = 0;
  virtual vmm::Result<Lease> look() = 0;

  // Makes a part known until its process ends (shm) or it stops calling (etcd: again at least every second).
  virtual vmm::Result<void> announce(PartRole role, std::string const& address) = 0;
  virtual vmm::Result<void> withdraw() = 0;
  virtual vmm::Result<std::vector<std::string>> find(PartRole role) = 0;
};

vmm::Result<std::unique_ptr<Coordinator>> open_coordinator(std::string const& url);

}  // namespace vmsrs::runtime
