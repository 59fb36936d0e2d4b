// The library's private copy of jemalloc: the archive that Debian ships, its symbols renamed at build time
// (libsrs/jemalloc.cmake), so that the program keeps the malloc it has.
#ifndef SRS_SRC_JEMALLOC_HPP
#define SRS_SRC_JEMALLOC_HPP

#include <cstddef>

extern "C" {
void* vje_mallocx(size_t size, int flags);
void vje_dallocx(void* block, int flags);
size_t vje_sallocx(void const* block, int flags);
size_t vje_nallocx(size_t size, int flags);
int vje_mallctl(char const* name, void* old, size_t* old_size, void* fresh, size_t fresh_size);
}

// As jemalloc's own macros.
constexpr int kJeLgAlign(unsigned lg) {
  return static_cast<int>(lg);
}
constexpr int kJeZero = 0x40;
constexpr int kJeTcacheNone = (-1 + 2) << 8;
constexpr int kJeArena(unsigned a) {
  return static_cast<int>((a + 1) << 20);
}

#endif
