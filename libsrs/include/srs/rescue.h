/* Rescue points (docs/rescue.md): what the monitor and libsrs_rescue.so, preloaded into an unmodified server, agree on;
 * and how a server's adapter, a library of its own that links libsrs_rescue.so, tells of that server.
 *
 * Layouts: little endian, x86-64. What lies in guest memory the monitor copies and checks. */
#ifndef SRS_RESCUE_H
#define SRS_RESCUE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SRS_RESCUE_VERSION 1
#define SRS_RESCUE_HOLDS 32
#define SRS_RESCUE_NAMES 256 /* at most so many names in an adapter's list, 128 bytes each */

/* Hypercalls, in the range of enum srs_hypercall (srs/abi.h) behind its last. */
enum srs_rescue_hypercall {
  SRS_HC_RESCUE_ATTACH = 0x535280, /* (struct srs_rescue_attach*): whole process, once; 0 or -errno */
  SRS_HC_RESCUE_THREAD,            /* (struct srs_rescue_holds*): this thread's; 0 */
  SRS_HC_RESCUE_ADAPTER,           /* (struct srs_rescue_adapter*): 0 or -errno */
  SRS_HC_RESCUE_DONE               /* (): the pad has cleaned up; does not return */
};

struct srs_rescue_attach {
  uint32_t version, size;
  uint64_t pad; /* void pad(uint64_t release): bit i: give held[i] back. Entered as a function would be. */
};

enum srs_rescue_kind { SRS_RESCUE_MUTEX = 1, SRS_RESCUE_READ, SRS_RESCUE_WRITE, SRS_RESCUE_SPIN };
enum srs_rescue_step { SRS_RESCUE_NOTHING, SRS_RESCUE_LOCKING, SRS_RESCUE_UNLOCKING };

struct srs_rescue_hold {
  uint64_t lock; /* guest address of the pthread_mutex_t, pthread_rwlock_t or pthread_spinlock_t */
  uint64_t kind; /* enum srs_rescue_kind */
};

/* One thread's locks. `step`, `now` are the intent: set before the lock word may change, cleared when `held` says so.
 */
struct srs_rescue_holds {
  uint64_t step;
  struct srs_rescue_hold now;
  uint64_t count; /* in the order of taking */
  uint64_t lost;  /* more were held than there is room for: what is held is not known */
  struct srs_rescue_hold held[SRS_RESCUE_HOLDS];
};

/* What a server's adapter knows of it. Strings and lists stay the adapter's and must not change. */
struct srs_rescue_adapter {
  uint32_t version, size;
  char const* name;
  /* Null-terminated list of beginnings of function names (as c++filt prints them): a fault below one of them is not
   * rescued. */
  char const* const* critical;
  /* Not 0: so is one in functions without a name that lie in a stretch of so many bytes, or more, without any name:
   * where an engine hides its symbols. */
  uint64_t critical_stretch;
  /* Run on the rescued thread after its locks were released, before its read returns ECONNRESET. May be null. */
  void (*clean_up)(void);
  /* The health probe's question to a fresh connection ("": none) and how the answer begins ("": any). */
  char const* probe_send;
  char const* probe_expect;
};

/* In libsrs_rescue.so: from the adapter's constructor. 0, or -errno (-ENOSYS: not under `vmsrs run --rescue`). */
int srs_rescue_register(struct srs_rescue_adapter const* adapter);

#ifdef __cplusplus
}
#endif

#endif
