#include "runtime/lease/coordinator.hpp"

#include <fmt/format.h>

#include "runtime/lease/etcd_coordinator.hpp"
#include "runtime/lease/shared_coordinator.hpp"

namespace vmsrs::runtime {

vmm::Result<std::unique_ptr<Coordinator>> open_coordinator(std::string const& url) {
  constexpr std::string_view kShared = "shm:", kEtcd = "etcd://";
  if (url.starts_with(kShared)) return SharedCoordinator::open(url.substr(kShared.size()));
  if (url.starts_with(kEtcd)) return EtcdCoordinator::open(url.substr(kEtcd.size()));
  return vmm::fail(vmm::Errc::kBadOption,
                   fmt::format("--coordinator {}: shm:NAME or etcd://HOST:PORT/NAME is needed", url));
}

}  // namespace vmsrs::runtime
