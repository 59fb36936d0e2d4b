// The variables of the modules that the compiler wrappers built, and the first thread's stack, as monitored memory.
#include <link.h>
#include <srs/instrument.h>
#include <sys/resource.h>

#include "libsrs/src/monitored.hpp"
#include "libsrs/src/thread.hpp"

extern "C" void* __libc_stack_end;

namespace srs::lib {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t page_up(uint64_t address) {
  return (address + kPage - 1) & ~(kPage - 1);
}

void watch(uint64_t begin, uint64_t end, char const* name) {
  if (begin >= end) return;
  monitored_add(begin, end - begin);
  srs_profile(reinterpret_cast<void const*>(begin), end - begin, name);
}

// Watches the writable segments of the module, but for what the loader makes read-only.
int look(dl_phdr_info* info, size_t, void* argument) {
  auto const address = reinterpret_cast<uint64_t>(argument);
  uint64_t read_only_begin = 0;
  uint64_t read_only_end = 0;
  bool mine = false;
  for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
    ElfW(Phdr) const& p = info->dlpi_phdr[i];
    uint64_t const begin = info->dlpi_addr + p.p_vaddr;
    if (p.p_type == PT_LOAD && address - begin < p.p_memsz) mine = true;
    if (p.p_type == PT_GNU_RELRO) {
      read_only_begin = begin & ~(kPage - 1);
      read_only_end = page_up(begin + p.p_memsz);
    }
  }
  if (!mine) return 0;
  char const* const name = info->dlpi_name != nullptr && *info->dlpi_name != '\0' ? info->dlpi_name : "globals";
  for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
    ElfW(Phdr) const& p = info->dlpi_phdr[i];
    if (p.p_type != PT_LOAD || (p.p_flags & PF_W) == 0) continue;
    uint64_t begin = info->dlpi_addr + p.p_vaddr;
    uint64_t const end = begin + p.p_memsz;
    if (begin >= read_only_begin && begin < read_only_end) begin = read_only_end;
    watch(begin, end, name);
  }
  return 1;
}

// main()'s variables live as long as the program does, and other threads get at them by reference. Not named to the
// host: what system calls write there is the first thread's own, nearly always.
void watch_first_stack() {
  rlimit limit;
  uint64_t size = 8 << 20;
  if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < UINT64_C(1) << 30) size = limit.rlim_cur;
  uint64_t const end = page_up(reinterpret_cast<uint64_t>(__libc_stack_end));
  monitored_add(end - size, size);
}

}  // namespace
}  // namespace srs::lib

extern "C" void srs_monitor_module_(void const* address) {
  srs_init_profile();
  if ((srs_monitor_ & SRS_MONITOR_GLOBALS) == 0) return;
  dl_iterate_phdr(srs::lib::look, const_cast<void*>(address));
  srs::lib::watch_first_stack();
}
