// The C library's functions that store to the program's memory, as instrumented code calls them: what they will store
// is logged, then they do it. Calls from code that was not built by the wrappers go to the C library as ever.
#include <srs/instrument.h>
#include <sys/time.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

void log(void const* p, size_t size) {
  srs_will_store_(reinterpret_cast<uint64_t>(p), size);
}

}  // namespace

extern "C" {

char* srs_i_strcpy(char* dst, char const* src) {
  log(dst, strlen(src) + 1);
  return strcpy(dst, src);
}
char* srs_i_stpcpy(char* dst, char const* src) {
  log(dst, strlen(src) + 1);
  return stpcpy(dst, src);
}
char* srs_i_strncpy(char* dst, char const* src, size_t n) {
  log(dst, n);
  return strncpy(dst, src, n);
}
char* srs_i_stpncpy(char* dst, char const* src, size_t n) {
  log(dst, n);
  return stpncpy(dst, src, n);
}
char* srs_i_strcat(char* dst, char const* src) {
  log(dst + strlen(dst), strlen(src) + 1);
  return strcat(dst, src);
}
char* srs_i_strncat(char* dst, char const* src, size_t n) {
  log(dst + strlen(dst), strnlen(src, n) + 1);
  return strncat(dst, src, n);
}

int srs_i_vsnprintf(char* dst, size_t n, char const* format, va_list args) {
  if (n != 0 && srs_watched_(dst)) {
    va_list again;
    va_copy(again, args);
    int const length = vsnprintf(nullptr, 0, format, again);
    va_end(again);
    if (length >= 0) log(dst, static_cast<size_t>(length) < n ? static_cast<size_t>(length) + 1 : n);
  }
  return vsnprintf(dst, n, format, args);
}
int srs_i_snprintf(char* dst, size_t n, char const* format, ...) {
  va_list args;
  va_start(args, format);
  int const result = srs_i_vsnprintf(dst, n, format, args);
  va_end(args);
  return result;
}
int srs_i_vsprintf(char* dst, char const* format, va_list args) {
  if (srs_watched_(dst)) {
    va_list again;
    va_copy(again, args);
    int const length = vsnprintf(nullptr, 0, format, again);
    va_end(again);
    if (length >= 0) log(dst, static_cast<size_t>(length) + 1);
  }
  return vsprintf(dst, format, args);
}
int srs_i_sprintf(char* dst, char const* format, ...) {
  va_list args;
  va_start(args, format);
  int const result = srs_i_vsprintf(dst, format, args);
  va_end(args);
  return result;
}

// The comparison is the program's and is logged by itself.
void srs_i_qsort(void* base, size_t n, size_t size, int (*compare)(void const*, void const*)) {
  log(base, n * size);
  qsort(base, n, size, compare);
}
void srs_i_qsort_r(void* base, size_t n, size_t size, int (*compare)(void const*, void const*, void*), void* argument) {
  log(base, n * size);
  qsort_r(base, n, size, compare, argument);
}

size_t srs_i_fread(void* dst, size_t size, size_t n, FILE* file) {
  log(dst, size * n);
  return fread(dst, size, n, file);
}
char* srs_i_fgets(char* dst, int n, FILE* file) {
  if (n > 0) log(dst, static_cast<size_t>(n));
  return fgets(dst, n, file);
}

// The clock is read without a system call that the monitor would see.
int srs_i_clock_gettime(clockid_t clock, timespec* at) {
  log(at, sizeof *at);
  return clock_gettime(clock, at);
}
int srs_i_gettimeofday(timeval* at, void* zone) {
  if (at != nullptr) log(at, sizeof *at);
  return gettimeofday(at, static_cast<struct timezone*>(zone));
}
time_t srs_i_time(time_t* at) {
  if (at != nullptr) log(at, sizeof *at);
  return time(at);
}
tm* srs_i_localtime_r(time_t const* at, tm* out) {
  log(out, sizeof *out);
  return localtime_r(at, out);
}
tm* srs_i_gmtime_r(time_t const* at, tm* out) {
  log(out, sizeof *out);
  return gmtime_r(at, out);
}
}
