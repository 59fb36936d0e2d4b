/* libsrs: the library of a program that runs under the VMSRS monitor (paper 004, section 4.7).
 *
 * What is written through this library inside a request scope (srs_request) is put right again if
 * the code of that scope faults; everybody else keeps being served. Outside the monitor everything
 * here is a plain memory operation, srs_active() is 0, and a fault kills the process as it would
 * without this library.
 *
 * Every function may be called by any thread at any time, in and outside of scopes; none but the
 * noted ones may be called from a signal handler. Stores, atomics and loads may be called from a
 * signal handler too. Pointers are borrowed for the call only, unless a comment says otherwise. */
#ifndef SRS_SRS_H
#define SRS_SRS_H

#include <pthread.h>
#include <srs/abi.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SRS_API __attribute__((visibility("default")))
#define SRS_PRINTF(at, first) __attribute__((format(printf, at, first)))
#else
#error "libsrs needs GCC or Clang on x86-64"
#endif

/* ---- The hot path's state: not for programs. ---- */

struct srs_thread {
  uint64_t key;          /* srs_tag_make(owner of the innermost scope, 0, 0xff) */
  struct srs_slot* slot; /* NULL until the thread's first logged store, and outside the monitor */
  /* The innermost scope's stack, of which instrumented code logs nothing; size 0 outside scopes. */
  uint64_t stack_low, stack_size;
  /* A block that the innermost scope allocated: its stores are not logged either. Only while key is still this one. */
  uint64_t fresh_low, fresh_size, fresh_key;
};
struct srs_process {
  uint64_t tag_base;
  uint64_t tag_mask; /* address_mask & ~7; 0 with tag_base at a word of our own outside the monitor */
  uint32_t active;
  uint32_t strict;
};
extern SRS_API __thread struct srs_thread srs_thread_ __attribute__((tls_model("initial-exec")));
extern SRS_API struct srs_process srs_process_;

SRS_API void srs_store8_slow_(void* p, uint8_t value);
SRS_API void srs_store16_slow_(void* p, uint16_t value);
SRS_API void srs_store32_slow_(void* p, uint32_t value);
SRS_API void srs_store64_slow_(void* p, uint64_t value);
SRS_API void srs_store_slow_(void* p, uint64_t value, unsigned size);
SRS_API uint64_t srs_fetch_add_slow_(void* p, uint64_t addend, unsigned size);
SRS_API uint64_t srs_exchange_slow_(void* p, uint64_t value, unsigned size);
SRS_API uint64_t srs_cas_slow_(void* p, uint64_t expected, uint64_t desired, unsigned size);

/* 1 if the innermost scope has logged these bytes of the word already: then a store is just a
 * store. Outside the monitor the tag is a constant that always says so. */
static inline int srs_owned_(uint64_t address, uint64_t mask) {
  uint64_t const tag = *(uint64_t const volatile*)(srs_process_.tag_base + (address & srs_process_.tag_mask));
  return ((tag ^ srs_thread_.key) & ((~UINT64_C(0) << SRS_TAG_OWNER_SHIFT) | mask)) == 0;
}

typedef uint8_t __attribute__((may_alias)) srs_u8_;
typedef uint16_t __attribute__((may_alias, aligned(1))) srs_u16_;
typedef uint32_t __attribute__((may_alias, aligned(1))) srs_u32_;
typedef uint64_t __attribute__((may_alias, aligned(1))) srs_u64_;
typedef uint32_t __attribute__((may_alias)) srs_word32_;
typedef uint64_t __attribute__((may_alias)) srs_word64_;

/* ---- Class 1: plain accesses. Any alignment; bytes of a word-crossing value are logged word by
 * word. ---- */

/* 1 under the monitor, else 0. */
static inline int srs_active(void) {
  return (int)srs_process_.active;
}

static inline uint8_t srs_load8(void const* p) {
  return *(srs_u8_ const volatile*)p;
}
static inline uint16_t srs_load16(void const* p) {
  return *(srs_u16_ const volatile*)p;
}
static inline uint32_t srs_load32(void const* p) {
  return *(srs_u32_ const volatile*)p;
}
static inline uint64_t srs_load64(void const* p) {
  return *(srs_u64_ const volatile*)p;
}

static inline void srs_store8(void* p, uint8_t value) {
  if (__builtin_expect(srs_owned_((uintptr_t)p, UINT64_C(1) << ((uintptr_t)p & 7)), 1))
    *(srs_u8_ volatile*)p = value;
  else
    srs_store8_slow_(p, value);
}
static inline void srs_store16(void* p, uint16_t value) {
  if (__builtin_expect(((uintptr_t)p & 1) == 0 && srs_owned_((uintptr_t)p, UINT64_C(3) << ((uintptr_t)p & 7)), 1))
    *(srs_u16_ volatile*)p = value;
  else
    srs_store16_slow_(p, value);
}
static inline void srs_store32(void* p, uint32_t value) {
  if (__builtin_expect(((uintptr_t)p & 3) == 0 && srs_owned_((uintptr_t)p, UINT64_C(15) << ((uintptr_t)p & 7)), 1))
    *(srs_u32_ volatile*)p = value;
  else
    srs_store32_slow_(p, value);
}
static inline void srs_store64(void* p, uint64_t value) {
  if (__builtin_expect(((uintptr_t)p & 7) != 0, 0))
    srs_store_slow_(p, value, 8);
  else if (__builtin_expect(srs_owned_((uintptr_t)p, 0xff), 1))
    *(srs_u64_ volatile*)p = value;
  else
    srs_store64_slow_(p, value);
}

/* Copies n bytes; the regions must not overlap. Returns dst. */
SRS_API void* srs_assign(void* dst, void const* src, size_t n);

/* Atomics, sequentially consistent, on naturally aligned words (else a fault of kind
 * SRS_FAULT_ALIGNMENT). srs_fetch_add is logged as an addend and undone by its inverse: it commutes
 * with everybody else's. Each returns the value before; srs_cas has stored `desired` if that equals
 * `expected`. */
static inline uint32_t srs_fetch_add32(void* p, uint32_t addend) {
  if (!srs_active() && ((uintptr_t)p & 3) == 0) return __atomic_fetch_add((srs_word32_*)p, addend, __ATOMIC_SEQ_CST);
  return (uint32_t)srs_fetch_add_slow_(p, addend, 4);
}
static inline uint64_t srs_fetch_add64(void* p, uint64_t addend) {
  if (!srs_active() && ((uintptr_t)p & 7) == 0) return __atomic_fetch_add((srs_word64_*)p, addend, __ATOMIC_SEQ_CST);
  return srs_fetch_add_slow_(p, addend, 8);
}
static inline uint32_t srs_exchange32(void* p, uint32_t value) {
  return (uint32_t)srs_exchange_slow_(p, value, 4);
}
static inline uint64_t srs_exchange64(void* p, uint64_t value) {
  return srs_exchange_slow_(p, value, 8);
}
static inline uint32_t srs_cas32(void* p, uint32_t expected, uint32_t desired) {
  return (uint32_t)srs_cas_slow_(p, expected, desired, 4);
}
static inline uint64_t srs_cas64(void* p, uint64_t expected, uint64_t desired) {
  return srs_cas_slow_(p, expected, desired, 8);
}

/* ---- Class 2: access functions. As their namesakes of libc; what they write is logged. ---- */

/* A bad argument faults before any lock of stdio is taken. */
SRS_API int srs_printf(char const* format, ...) SRS_PRINTF(1, 2);
SRS_API int srs_vprintf(char const* format, va_list args) SRS_PRINTF(1, 0);
SRS_API int srs_snprintf(char* dst, size_t n, char const* format, ...) SRS_PRINTF(3, 4);
SRS_API int srs_vsnprintf(char* dst, size_t n, char const* format, va_list args) SRS_PRINTF(3, 0);
SRS_API char* srs_strcpy(char* dst, char const* src);
SRS_API char* srs_strncpy(char* dst, char const* src, size_t n);
SRS_API char* srs_strcat(char* dst, char const* src);
SRS_API char* srs_strncat(char* dst, char const* src, size_t n);

/* ---- Class 3: memory. ---- */

/* Blocks of an arena of their own, 16-byte aligned, to be freed by srs_free only. What a scope
 * allocates is freed if it aborts; what it frees is freed when it commits. NULL with errno ENOMEM
 * when there is no memory. */
SRS_API void* srs_malloc(size_t size);
SRS_API void* srs_calloc(size_t count, size_t size);
SRS_API void* srs_realloc(void* block, size_t size);
SRS_API void* srs_aligned_alloc(size_t alignment, size_t size);
SRS_API void srs_free(void* block);
/* 1 if the address lies in this heap, in a live block or not: for a program that has another heap besides. */
SRS_API int srs_heap_contains(void const* address);

SRS_API void* srs_memcpy(void* dst, void const* src, size_t n);
SRS_API void* srs_memmove(void* dst, void const* src, size_t n);
SRS_API void* srs_memset(void* dst, int byte, size_t n);

/* ---- Class 4: pointers. ---- */

/* p + n bytes. The result must lie in the object of p (a block of srs_malloc or a range of
 * srs_profile) or just behind its end; else the scope faults (SRS_FAULT_POINTER) before any access.
 * Outside the monitor: abort(). */
SRS_API void* srs_ptr_add(void const* p, ptrdiff_t n);
/* p, if [p, p + n) lies in one object; else as srs_ptr_add. */
SRS_API void* srs_ptr_check(void const* p, size_t n);

/* ---- Class 5: service. ---- */

/* Attaches to the monitor if that did not happen yet (it does by itself at start-up). Returns
 * srs_active(). */
SRS_API int srs_init_profile(void);
/* Names a range of shared memory that is not from srs_malloc: for reports and pointer checks. The
 * name is copied. 0, or -1 with errno EINVAL (empty or wrapping range) or ENOSPC (more than 4096
 * ranges). */
SRS_API int srs_profile(void const* address, size_t length, char const* name);

/* From now on every store to the range goes through this library (or srs-c++): what changes it otherwise is a wild
 * write, and is put back when a scope faults. To be called outside scopes, after the range was filled, by the thread
 * that filled it. Whole words count; 64 MiB in all. 0, or -1 with errno EINVAL (empty or wrapping range) or ENOMEM. */
SRS_API int srs_logged(void const* address, size_t length);

/* The program's own word that this scope has failed. Outside the monitor: a message and abort().
 * Returns only where the scope's policy is SRS_RUN. */
SRS_API void srs_crash_suppression_os(enum srs_fault_kind kind);

enum srs_status {
  SRS_OK = 0,      /* fn returned; what it did is committed */
  SRS_FAULTED = 1, /* fn faulted; what it did is undone; srs_last_fault() has the details */
  SRS_REFUSED = 2  /* fn did not run; errno: EINVAL (options), E2BIG (SRS_MAX_DEPTH nested), ENOMEM (stack) */
};

/* After a fault, before srs_request returns. CLOSE: shutdown() of the connection, both ways (close() stays the
 * program's). ANSWER: the answer is sent; if it cannot be at once, or part of another one had left, as CLOSE. */
enum srs_client { SRS_CLIENT_KEEP = 0, SRS_CLIENT_CLOSE = 1, SRS_CLIENT_ANSWER = 2 };

#define SRS_DEFAULT (-1)
struct srs_options {
  int32_t isolation;     /* enum srs_isolation, or SRS_DEFAULT: as the monitor was told */
  int32_t policy;        /* enum srs_policy, or SRS_DEFAULT. SRS_UNWIND: an access that faults runs the destructors of a
                            frame only if that was compiled with -fnon-call-exceptions (calls: with exceptions on) */
  uint64_t deadline_ms;  /* the scope faults when it runs for longer; 0: no limit */
  uint64_t user;         /* the caller's id of the user served, for the report */
  int commit_on_send;    /* 1: the scope's first output to its client commits it */
  size_t stack_size;     /* bytes; 0: 256 KiB. Rounded up to pages; 16 KiB to 64 MiB */
  uint64_t memory_limit; /* bytes that the scope may allocate here before it gets ENOMEM (std::bad_alloc); 0: any
                            number. What it frees counts still, as that takes effect at the commit */
  int32_t on_fault;      /* enum srs_client: what becomes of the client if the scope faults */
  int32_t client_fd;     /* its connection */
  void const* answer;    /* SRS_CLIENT_ANSWER: these bytes; they must outlive the call */
  size_t answer_size;
};
#define SRS_OPTIONS_INIT \
  { SRS_DEFAULT, SRS_DEFAULT, 0, 0, 0, 0, 0, 0, -1, 0, 0 }

/* Runs fn(arg) as one user's unit of work, on a stack of its own; options NULL: the defaults.
 * Scopes nest up to SRS_MAX_DEPTH. fn must return: pthread_exit in it and an exception
 * out of it are faults; longjmp out of it is not supported. Outside the monitor fn is just called, on the caller's
 * stack. */
SRS_API enum srs_status srs_request(void (*fn)(void*), void* arg, struct srs_options const* options);

/* The last fault that this thread came back from: 1 and *info, or 0 if there was none. */
SRS_API int srs_last_fault(struct srs_fault_info* info);

/* For locks that are not pthread mutexes or rwlocks: say when one is taken (1) and when it is given
 * up (0). Noted locks are reported and make dependencies visible; the monitor cannot unlock one. */
SRS_API void srs_lock_note(void const* lock, int taken);

/* What the scope owes others if it should be aborted: then the waiters of `cond` are woken, or `value` is written to
 * the eventfd. (Wake-ups and events that the scope itself used up are given back without this.) */
SRS_API void srs_owe_wakeup(pthread_cond_t* cond);
SRS_API void srs_owe_event(int event_fd, uint64_t value);

/* What scopes write to the file open as fd (write, writev, pwrite, pwritev, ftruncate, by any fd of this open file
 * description). SRS_FILE_UNDO: an abort puts back the bytes and the length that were there, unless others have written
 * the same range or the end since: then the report names it. At most 16 MiB per thread are kept. SRS_FILE_PLAIN (the
 * default): the report names what was written. 0, or -1 with errno: EBADF, EINVAL (not a regular file), EACCES or
 * another error of opening it for reading and writing. Outside the monitor: 0, and nothing happens. */
SRS_API int srs_file(int fd, enum srs_file_mode mode);

/* Returns when every earlier abort's words are back in memory. */
SRS_API void srs_sync(void);

#ifdef __cplusplus
}
#endif
#endif
