/* What code built by srs-c++ and srs-cc calls: not for programs. docs/compiler-wrappers.md.
 *
 * Thread-safe; may be called from a signal handler, but for srs_monitor_module_. */
#ifndef SRS_INSTRUMENT_H
#define SRS_INSTRUMENT_H

#include <srs/srs.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What instrumented code is to watch: bits, from the environment's SRS_MONITOR; 0 outside the monitor. */
#define SRS_MONITOR_HEAP 1u
#define SRS_MONITOR_GLOBALS 2u
extern SRS_API uint32_t srs_monitor_;

/* The bytes [address, address + size) are about to be stored by this thread: what of them lies in monitored memory and
 * is not the innermost scope's yet is logged. Touches no vector register. */
SRS_API void srs_will_store_(uint64_t address, uint64_t size);
/* Whether stores at this address are logged. */
SRS_API int srs_watched_(void const* address);
/* The module that holds this address (a program or a shared library) has its variables watched, if SRS_MONITOR says so.
 */
SRS_API void srs_monitor_module_(void const* address);
/* As srs_free, for a block of another heap: `release` gets it at once, or when the scope commits. */
SRS_API void srs_free_foreign_(void* block, void (*release)(void*));

#ifdef __cplusplus
}
#endif
#endif
