// Class 3 without the heap: copies and fills of monitored memory, word by word.
#include <srs/srs.h>

#include <cstring>

#include "libsrs/src/store.hpp"

namespace srs::lib {
namespace {

// One store of whole bytes of a word, logged if the scope has not logged them yet.
void put(Thread* t, uint64_t word, uint64_t mask, uint64_t value) {
  if (mask == 0xff) {
    srs_store64(reinterpret_cast<void*>(word), value);
  } else {
    put_word(t, word, mask, value);
  }
}

// `count` bytes of a word, from byte `at` of it, with source(i) = the bytes from dst + i on in the low end.
uint64_t some(unsigned char const* src, unsigned count) {
  uint64_t value = 0;
  memcpy(&value, src, count);
  return value;
}

void copy_forward(Thread* t, uint64_t dst, unsigned char const* src, size_t n) {
  while (n > 0) {
    unsigned const at = static_cast<unsigned>(dst & 7);
    unsigned const count = n < 8 - at ? static_cast<unsigned>(n) : 8 - at;
    put(t, dst - at, ((UINT64_C(1) << count) - 1) << at, some(src, count) << at * 8);
    dst += count;
    src += count;
    n -= count;
  }
}

void copy_backward(Thread* t, uint64_t dst, unsigned char const* src, size_t n) {
  while (n > 0) {
    uint64_t const end = dst + n;
    unsigned const in_word = (end & 7) == 0 ? 8 : static_cast<unsigned>(end & 7);
    unsigned const count = n < in_word ? static_cast<unsigned>(n) : in_word;
    unsigned const at = in_word - count;
    put(t, end - in_word, ((UINT64_C(1) << count) - 1) << at, some(src + n - count, count) << at * 8);
    n -= count;
  }
}

}  // namespace
}  // namespace srs::lib

using namespace srs::lib;

extern "C" void* srs_assign(void* dst, void const* src, size_t n) {
  return srs_memcpy(dst, src, n);
}

extern "C" void* srs_memcpy(void* dst, void const* src, size_t n) {
  Thread* const t = thread();
  if (t == nullptr) return memcpy(dst, src, n);
  copy_forward(t, reinterpret_cast<uint64_t>(dst), static_cast<unsigned char const*>(src), n);
  return dst;
}

extern "C" void* srs_memmove(void* dst, void const* src, size_t n) {
  Thread* const t = thread();
  if (t == nullptr) return memmove(dst, src, n);
  auto const d = reinterpret_cast<uint64_t>(dst);
  auto const s = reinterpret_cast<uint64_t>(src);
  if (d - s < n) {
    copy_backward(t, d, static_cast<unsigned char const*>(src), n);
  } else {
    copy_forward(t, d, static_cast<unsigned char const*>(src), n);
  }
  return dst;
}

extern "C" void* srs_memset(void* dst, int byte, size_t n) {
  Thread* const t = thread();
  if (t == nullptr) return memset(dst, byte, n);
  uint64_t const value = static_cast<unsigned char>(byte) * UINT64_C(0x0101010101010101);
  auto d = reinterpret_cast<uint64_t>(dst);
  while (n > 0) {
    unsigned const at = static_cast<unsigned>(d & 7);
    unsigned const count = n < 8 - at ? static_cast<unsigned>(n) : 8 - at;
    put(t, d - at, ((UINT64_C(1) << count) - 1) << at, value);
    d += count;
    n -= count;
  }
  return dst;
}
