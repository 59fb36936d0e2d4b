// Class 2: libc's functions that write memory or a stream, over logged stores.
#include <srs/srs.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "libsrs/src/thread.hpp"

namespace {

// The text of a format, on the stack if it is short. A bad argument faults here, where no lock is held.
class Text {
 public:
  Text(char const* format, va_list args) {
    va_list again;
    va_copy(again, args);
    size_ = vsnprintf(small_, sizeof small_, format, args);
    if (size_ >= static_cast<int>(sizeof small_)) {
      large_ = static_cast<char*>(srs_malloc(static_cast<size_t>(size_) + 1));
      if (large_ == nullptr) {
        size_ = -1;
      } else {
        size_ = vsnprintf(large_, static_cast<size_t>(size_) + 1, format, again);
      }
    }
    va_end(again);
  }
  ~Text() { srs_free(large_); }
  Text(Text const&) = delete;
  Text& operator=(Text const&) = delete;
  int size() const { return size_; }
  char const* data() const { return large_ != nullptr ? large_ : small_; }

 private:
  char small_[512];
  char* large_ = nullptr;
  int size_;
};

}  // namespace

extern "C" int srs_vprintf(char const* format, va_list args) {
  Text const text(format, args);
  if (text.size() < 0) return -1;
  srs::lib::Critical critical(srs::lib::thread());  // stdio's lock
  auto const n = static_cast<size_t>(text.size());
  return fwrite(text.data(), 1, n, stdout) == n ? text.size() : -1;
}

extern "C" int srs_printf(char const* format, ...) {
  va_list args;
  va_start(args, format);
  int const n = srs_vprintf(format, args);
  va_end(args);
  return n;
}

extern "C" int srs_vsnprintf(char* dst, size_t n, char const* format, va_list args) {
  Text const text(format, args);
  if (text.size() < 0 || n == 0) return text.size();
  size_t const length = static_cast<size_t>(text.size()) < n ? static_cast<size_t>(text.size()) : n - 1;
  srs_memcpy(dst, text.data(), length);
  srs_store8(dst + length, 0);
  return text.size();
}

extern "C" int srs_snprintf(char* dst, size_t n, char const* format, ...) {
  va_list args;
  va_start(args, format);
  int const result = srs_vsnprintf(dst, n, format, args);
  va_end(args);
  return result;
}

extern "C" char* srs_strcpy(char* dst, char const* src) {
  srs_memcpy(dst, src, strlen(src) + 1);
  return dst;
}

extern "C" char* srs_strncpy(char* dst, char const* src, size_t n) {
  size_t const length = strnlen(src, n);
  srs_memcpy(dst, src, length);
  srs_memset(dst + length, 0, n - length);
  return dst;
}

extern "C" char* srs_strcat(char* dst, char const* src) {
  srs_strcpy(dst + strlen(dst), src);
  return dst;
}

extern "C" char* srs_strncat(char* dst, char const* src, size_t n) {
  size_t const length = strnlen(src, n);
  char* const end = dst + strlen(dst);
  srs_memcpy(end, src, length);
  srs_store8(end + length, 0);
  return dst;
}
