// The heap of instrumented code: srs_malloc's, if SRS_MONITOR names it. What other code allocates by malloc stays in
// the C library's heap (a library's own state is not undone, so its blocks must not be either); free() and realloc() of
// the whole process know both kinds.
#include <malloc.h>
#include <srs/instrument.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" void __libc_free(void* block);
extern "C" void* __libc_realloc(void* block, size_t size);
extern "C" {
char srs_i_heap_ = 0;  // named by the wrappers' link line
}

namespace {

bool monitored() {
  return (srs_monitor_ & SRS_MONITOR_HEAP) != 0;
}
bool ours(void const* block) {
  return srs_monitor_ != 0 && srs_heap_contains(block) != 0;
}
// A block of the C library's moves to the monitored heap.
void* move_in(void* block, size_t size) {
  void* const fresh = srs_malloc(size);
  if (fresh == nullptr) return nullptr;
  size_t const old = malloc_usable_size(block);
  srs_memcpy(fresh, block, old < size ? old : size);
  srs_free_foreign_(block, __libc_free);
  return fresh;
}

}  // namespace

extern "C" {

void* srs_i_malloc(size_t size) {
  return monitored() ? srs_malloc(size) : malloc(size);
}
void* srs_i_calloc(size_t count, size_t size) {
  return monitored() ? srs_calloc(count, size) : calloc(count, size);
}
void srs_i_free(void* block) {
  if (block == nullptr) return;
  if (ours(block)) {
    srs_free(block);
  } else {
    srs_free_foreign_(block, __libc_free);
  }
}
void* srs_i_realloc(void* block, size_t size) {
  if (block == nullptr) return srs_i_malloc(size);
  if (size == 0) {
    srs_i_free(block);
    return nullptr;
  }
  if (ours(block)) return srs_realloc(block, size);
  return monitored() ? move_in(block, size) : __libc_realloc(block, size);
}
void* srs_i_reallocarray(void* block, size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) {
    errno = ENOMEM;
    return nullptr;
  }
  return srs_i_realloc(block, total);
}
void* srs_i_aligned_alloc(size_t alignment, size_t size) {
  return monitored() ? srs_aligned_alloc(alignment, size) : aligned_alloc(alignment, size);
}
void* srs_i_memalign(size_t alignment, size_t size) {
  return srs_i_aligned_alloc(alignment, size);
}
int srs_i_posix_memalign(void** block, size_t alignment, size_t size) {
  srs_will_store_(reinterpret_cast<uint64_t>(block), sizeof *block);
  if (!monitored()) return posix_memalign(block, alignment, size);
  int const saved = errno;
  void* const fresh = srs_aligned_alloc(alignment, size);
  int const error = errno;
  errno = saved;
  if (fresh == nullptr) return error;
  *block = fresh;
  return 0;
}
char* srs_i_strndup(char const* text, size_t n) {
  size_t const length = strnlen(text, n);
  auto* const copy = static_cast<char*>(srs_i_malloc(length + 1));
  if (copy == nullptr) return nullptr;
  srs_memcpy(copy, text, length);
  srs_store8(copy + length, 0);
  return copy;
}
char* srs_i_strdup(char const* text) {
  return srs_i_strndup(text, strlen(text));
}
int srs_i_vasprintf(char** out, char const* format, va_list args) {
  va_list again;
  va_copy(again, args);
  int const length = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (length < 0) return length;
  auto* const text = static_cast<char*>(srs_i_malloc(static_cast<size_t>(length) + 1));
  if (text == nullptr) return -1;
  srs_will_store_(reinterpret_cast<uint64_t>(text), static_cast<size_t>(length) + 1);
  vsnprintf(text, static_cast<size_t>(length) + 1, format, args);
  srs_will_store_(reinterpret_cast<uint64_t>(out), sizeof *out);
  *out = text;
  return length;
}
int srs_i_asprintf(char** out, char const* format, ...) {
  va_list args;
  va_start(args, format);
  int const result = srs_i_vasprintf(out, format, args);
  va_end(args);
  return result;
}

// What code of others gives back or resizes.
SRS_API void free(void* block) {
  if (block == nullptr) return;
  if (ours(block)) {
    srs_free(block);
  } else {
    __libc_free(block);
  }
}
SRS_API void* realloc(void* block, size_t size) {
  if (block == nullptr || !ours(block)) return __libc_realloc(block, size);
  return srs_i_realloc(block, size);
}
}
