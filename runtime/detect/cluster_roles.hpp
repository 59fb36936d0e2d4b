// Master, backup and followers among the detectors of several hosts: who may watch the hosts. Two leases of a
// coordinator that all hosts see (runtime/lease, etcd): its holder is master, or backup. The backup takes the master's
// lease when that runs out, a follower the backup's; a follower takes the master's only where there is no backup. Each
// host enters the master of its own board (roles.hpp).
//
// A master acts only within the time that its last renewal bought, counted from before it was asked for: a host whose
// way to the coordinator was cut stops to act before another may begin.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "runtime/detect/roles.hpp"
#include "runtime/lease/coordinator.hpp"

namespace vmsrs::runtime::detect {

class ClusterRoles {
 public:
  struct Change {
    Role role = Role::kFollower;
    Term term = 0;                  // of the lease that it holds; a follower: 0
    bool predecessor_lost = false;  // the master before did not give its lease back
  };
  // `url`: etcd://HOST:PORT[,HOST:PORT…]/NAME. `eligible` is asked before each round; `changed` is called on the thread
  // of its own. Errc::kBadOption: the URL.
  static vmm::Result<std::unique_ptr<ClusterRoles>> create(std::string const& url, uint64_t lease_ms,
                                                           std::function<bool()> eligible,
                                                           std::function<void(Change const&)> changed);
  ~ClusterRoles();  // gives its lease back
  ClusterRoles(ClusterRoles const&) = delete;
  ClusterRoles& operator=(ClusterRoles const&) = delete;

  [[nodiscard]] bool is_master() const noexcept;  // any thread

 private:
  ClusterRoles() = default;
  void run();
  void round();
  void enter(Role role, Term term, bool predecessor_lost = false);
  bool renew(Coordinator& lease);
  void give_back();

  std::unique_ptr<Coordinator> master_, backup_;
  uint64_t lease_ms_ = 0;
  std::function<bool()> eligible_;
  std::function<void(Change const&)> changed_;
  std::atomic<Role> role_{Role::kFollower};
  std::atomic<uint64_t> until_ns_{0};
  Term term_ = 0;
  Term seen_ = 0;  // the last one under which another held the master's lease
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace vmsrs::runtime::detect
