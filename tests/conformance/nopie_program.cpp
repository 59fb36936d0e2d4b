// A program linked at fixed addresses: its data, brk above it, exceptions, a thread.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <thread>

namespace {
int data = 11;
}

int main() {
  bool const low = reinterpret_cast<uintptr_t>(&data) < 0x40000000;
  auto* const before = static_cast<char*>(sbrk(1 << 20));
  before[(1 << 20) - 1] = 3;
  auto* const after = static_cast<char*>(sbrk(0));
  std::thread([] { data++; }).join();
  try {
    throw std::runtime_error("thrown");
  } catch (std::exception const& e) {
    std::printf("%s: low %d, data %d, brk %d\n", e.what(), low, data, after >= before + (1 << 20));
  }
  return data;
}
