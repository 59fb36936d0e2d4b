// What the parts of AddressSpace share about the host mappings behind the guest's memory.
#pragma once

#include <sys/mman.h>

#include <cstdint>

namespace vmm {

// The guest's PROT_* as the host mapping's: KVM needs no host execute permission, and x86 cannot write without reading.
constexpr int host_prot(int prot) {
  int host = PROT_NONE;
  if (prot & (PROT_READ | PROT_EXEC | PROT_WRITE)) host |= PROT_READ;
  if (prot & PROT_WRITE) host |= PROT_WRITE;
  return host;
}

inline void* at(uint64_t addr) {
  return reinterpret_cast<void*>(addr);
}

// A host call failed (errno) half-way through a change that nobody can be told of: the guest would see memory that is
// not its own, or miss memory that is. Nothing right can follow.
[[noreturn]] void broken(char const* what, uint64_t start, uint64_t size);

}  // namespace vmm
