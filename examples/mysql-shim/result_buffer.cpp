#include "examples/mysql-shim/result_buffer.hpp"

#include <sys/mman.h>

namespace mysql_shim {
namespace {

constexpr size_t kBytes = 64 << 10, kGuard = 64 << 10;

struct Region {
  char* begin = nullptr;
  ~Region() {
    if (begin != nullptr) munmap(begin, kBytes + kGuard);
  }
};
thread_local Region region;

}  // namespace

char* result_buffer(size_t size) {
  if (size > kBytes) return nullptr;
  if (region.begin == nullptr) {
    void* const p = mmap(nullptr, kBytes + kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    if (mprotect(p, kBytes, PROT_READ | PROT_WRITE) != 0) {
      munmap(p, kBytes + kGuard);
      return nullptr;
    }
    region.begin = static_cast<char*>(p);
  }
  return region.begin + (kBytes - size);
}

}  // namespace mysql_shim
