#include "runtime/detect/cluster_roles.hpp"

#include <fmt/format.h>
#include <pthread.h>

#include "runtime/detect/proc.hpp"

namespace vmsrs::runtime::detect {
namespace {

constexpr std::string_view kEtcd = "etcd://";

}  // namespace

vmm::Result<std::unique_ptr<ClusterRoles>> ClusterRoles::create(std::string const& url, uint64_t lease_ms,
                                                                std::function<bool()> eligible,
                                                                std::function<void(Change const&)> changed) {
  size_t const slash = url.find('/', kEtcd.size());
  if (!url.starts_with(kEtcd) || slash == std::string::npos || slash + 1 == url.size()) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--coordinator {}: etcd://HOST:PORT/NAME is needed", url));
  }
  std::unique_ptr<ClusterRoles> roles(new ClusterRoles);
  for (auto const& [lease, suffix] :
       {std::pair{&roles->master_, "-detect-master"}, {&roles->backup_, "-detect-backup"}}) {
    auto opened = open_coordinator(url + suffix);
    if (!opened) return tl::unexpected(opened.error());
    *lease = std::move(*opened);
  }
  roles->lease_ms_ = lease_ms;
  roles->eligible_ = std::move(eligible);
  roles->changed_ = std::move(changed);
  roles->thread_ = std::thread([r = roles.get()] { r->run(); });
  return roles;
}

ClusterRoles::~ClusterRoles() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool ClusterRoles::is_master() const noexcept {
  return role_.load() == Role::kMaster && now_ns() < until_ns_.load();
}

void ClusterRoles::run() {
  pthread_setname_np(pthread_self(), "cluster-roles");
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    round();
    lock.lock();
    wake_.wait_for(lock, std::chrono::milliseconds(lease_ms_ / 4), [this] { return stopping_; });
  }
  lock.unlock();
  give_back();
}

void ClusterRoles::enter(Role role, Term term, bool predecessor_lost) {
  bool const changed = role_.exchange(role) != role;
  term_ = term;
  if (changed) changed_({role, term, predecessor_lost});
}

// False: the lease is another's now. No answer is no verdict: it is held as long as it was bought.
bool ClusterRoles::renew(Coordinator& lease) {
  uint64_t const asked = now_ns();
  auto const held = lease.renew(term_, std::chrono::milliseconds(lease_ms_));
  if (held && *held) until_ns_ = asked + lease_ms_ * 1'000'000;
  return held ? *held : now_ns() < until_ns_.load();
}

void ClusterRoles::give_back() {
  if (role_.load() == Role::kMaster) (void)master_->revoke(term_, false);
  if (role_.load() == Role::kBackup) (void)backup_->revoke(term_, false);
  until_ns_ = 0;
  role_ = Role::kFollower;
}

void ClusterRoles::round() {
  if (!eligible_()) {
    if (role_.load() == Role::kFollower) return;
    give_back();
    changed_({});
    return;
  }
  std::chrono::milliseconds const time(lease_ms_);
  if (role_.load() == Role::kMaster) {
    if (!renew(*master_)) enter(Role::kFollower, 0);
    return;
  }
  if (role_.load() == Role::kBackup && !renew(*backup_)) enter(Role::kFollower, 0);
  auto const master = master_->look();
  if (!master) return;
  if (master->held) seen_ = master->term;
  auto const backup = role_.load() == Role::kBackup ? vmm::Result<Coordinator::Lease>{} : backup_->look();
  bool const may_be_master = role_.load() == Role::kBackup || (backup && !backup->held);
  if (!master->held && may_be_master) {
    uint64_t const asked = now_ns();
    auto const won = master_->acquire(time);
    if (won && *won) {
      if (role_.load() == Role::kBackup) (void)backup_->revoke(term_, false);
      until_ns_ = asked + lease_ms_ * 1'000'000;
      enter(Role::kMaster, **won, seen_ != 0 && !(master->revoked && master->term == seen_));
      return;
    }
  }
  if (role_.load() == Role::kFollower) {
    uint64_t const asked = now_ns();
    auto const won = backup_->acquire(time);
    if (won && *won) {
      until_ns_ = asked + lease_ms_ * 1'000'000;
      enter(Role::kBackup, **won);
    }
  }
}

}  // namespace vmsrs::runtime::detect
