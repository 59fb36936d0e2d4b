// operator new and delete of a program that srs-c++ built; a program's own take their place.
#include <srs/instrument.h>

#include <cstdlib>
#include <new>

extern "C" void* srs_i_malloc(size_t size);
extern "C" void* srs_i_aligned_alloc(size_t alignment, size_t size);
extern "C" void srs_i_free(void* block);
extern "C" {
char srs_i_new_ = 0;  // named by the wrappers' link line
}

#define SRS_WEAK __attribute__((weak, visibility("default")))

namespace {

void* take(size_t size, size_t alignment) {
  for (;;) {
    void* const block = alignment == 0 ? srs_i_malloc(size) : srs_i_aligned_alloc(alignment, size);
    if (block != nullptr) return block;
    std::new_handler const handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}
void* try_take(size_t size, size_t alignment) noexcept {
  try {
    return take(size, alignment);
  } catch (std::bad_alloc const&) {
    return nullptr;
  }
}
size_t number(std::align_val_t alignment) {
  return static_cast<size_t>(alignment);
}

}  // namespace

SRS_WEAK void* operator new(size_t size) {
  return take(size, 0);
}
SRS_WEAK void* operator new[](size_t size) {
  return take(size, 0);
}
SRS_WEAK void* operator new(size_t size, std::nothrow_t const&) noexcept {
  return try_take(size, 0);
}
SRS_WEAK void* operator new[](size_t size, std::nothrow_t const&) noexcept {
  return try_take(size, 0);
}
SRS_WEAK void* operator new(size_t size, std::align_val_t a) {
  return take(size, number(a));
}
SRS_WEAK void* operator new[](size_t size, std::align_val_t a) {
  return take(size, number(a));
}
SRS_WEAK void* operator new(size_t size, std::align_val_t a, std::nothrow_t const&) noexcept {
  return try_take(size, number(a));
}
SRS_WEAK void* operator new[](size_t size, std::align_val_t a, std::nothrow_t const&) noexcept {
  return try_take(size, number(a));
}
SRS_WEAK void operator delete(void* block) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete[](void* block) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete(void* block, size_t) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete[](void* block, size_t) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete(void* block, std::nothrow_t const&) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete[](void* block, std::nothrow_t const&) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete(void* block, std::align_val_t) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete[](void* block, std::align_val_t) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete(void* block, size_t, std::align_val_t) noexcept {
  srs_i_free(block);
}
SRS_WEAK void operator delete[](void* block, size_t, std::align_val_t) noexcept {
  srs_i_free(block);
}
