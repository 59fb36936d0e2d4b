// The test process as if it were a guest: its mappings from /proc/self/maps, its bytes by process_vm_readv, so that a
// bad address is an answer. Bytes can be laid over, to damage what is read without damaging the process.
#pragma once

#include <sys/uio.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>

#include "runtime/guest_view.hpp"

namespace vmsrs::runtime {

class OwnView : public GuestView {
 public:
  OwnView() {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      Mapping m;
      char prot[5] = {};
      int name_at = 0;
      if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &m.start, &m.end, prot,
                      &m.file_offset, &name_at) < 4) {
        continue;
      }
      if (name_at > 0) m.file = line.substr(static_cast<size_t>(name_at));
      m.readable = prot[0] == 'r';
      m.executable = prot[2] == 'x';
      mappings_.push_back(m);
    }
  }

  [[nodiscard]] bool read(uint64_t addr, void* to, size_t size) const override {
    iovec const local{to, size};
    iovec const remote{reinterpret_cast<void*>(addr), size};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != static_cast<ssize_t>(size)) return false;
    if (overlay.empty()) return true;
    for (auto it = overlay.lower_bound(addr); it != overlay.end() && it->first < addr + size; ++it) {
      static_cast<uint8_t*>(to)[it->first - addr] = it->second;
    }
    return true;
  }
  [[nodiscard]] std::vector<Mapping> const& mappings() const override { return mappings_; }

  std::map<uint64_t, uint8_t> overlay;

 private:
  std::vector<Mapping> mappings_;
};

}  // namespace vmsrs::runtime
