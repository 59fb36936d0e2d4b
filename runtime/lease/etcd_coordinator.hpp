// The coordinator of several hosts: etcd's v3 API over its JSON gateway (etcd's manual, "gRPC gateway"). Nothing of an
// election is ours: the lease is a key bound to an etcd lease, made by a transaction that demands that it be absent,
// and its term is the key's create revision, which only grows.
//
//   /vmsrs/NAME/primary              the lease
//   /vmsrs/NAME/revoked              "TERM REPLAY" of the last revoke()
//   /vmsrs/NAME/parts/ROLE/ADDRESS   the registry, each bound to a lease of its part
//
// A member that does not answer is passed over for the next. etcd's shortest lease is 2 s with its usual settings.
#pragma once

#include "runtime/lease/coordinator.hpp"

namespace vmsrs::runtime {

class EtcdCoordinator : public Coordinator {
 public:
  // "HOST:PORT[,HOST:PORT…][/NAME]"
  static vmm::Result<std::unique_ptr<Coordinator>> open(std::string const& where);
  ~EtcdCoordinator() override;

  vmm::Result<std::optional<Term>> acquire(std::chrono::milliseconds time) override;
  vmm::Result<bool> renew(Term term, std::chrono::milliseconds time) override;
  vmm::Result<void> revoke(Term term, bool replay) override;
  vmm::Result<Lease> look() override;
  vmm::Result<void> announce(PartRole role, std::string const& address) override;
  vmm::Result<void> withdraw() override;
  vmm::Result<std::vector<std::string>> find(PartRole role) override;

 private:
  struct Api;
  explicit EtcdCoordinator(std::unique_ptr<Api> api);
  std::unique_ptr<Api> api_;
  std::string lease_id_, part_lease_id_, part_key_;
  Term held_ = 0;
};

}  // namespace vmsrs::runtime
