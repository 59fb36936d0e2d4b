// What rescue points need to know of MariaDB 10.11 (docs/rescue.md): preloaded behind libsrs_rescue.so, which
// `vmsrs run --rescue=guarded --rescue-adapter …` does.
#include <dlfcn.h>
#include <srs/rescue.h>

class THD;

namespace {

THD* (*current)();
void (*close_tables)(THD*);
bool (*roll_back)(THD*);

// The tables that the statement had open hang on the thread's THD, and its ending statement is nobody's: both would be
// the next user's of the thread.
void clean_up() {
  THD* const thd = current();
  if (thd == nullptr) return;
  roll_back(thd);
  close_tables(thd);
}

// Where a storage engine is entered, and what threads share without a lock of pthread's. InnoDB and Aria hide their own
// functions' names: whatever lies in a long stretch without one is theirs.
constexpr char const* kCritical[] = {"handler::",
                                     "ha_",
                                     "lf_",
                                     "MDL_",
                                     "tdc_",
                                     "tc_",
                                     "TC_LOG",
                                     "MYSQL_BIN_LOG",
                                     "Query_cache",
                                     "THD::~THD",
                                     "unlink_thd",
                                     "close_connection",
                                     "close_thread_tables(",
                                     "trans_rollback_stmt(",
                                     "trans_commit",
                                     "trans_rollback(",
                                     nullptr};
constexpr uint64_t kStretch = 48 << 10;

template <class F>
bool find(F& function, char const* name) {
  function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}

// It greets by itself; the fifth byte of that is the protocol's version.
__attribute__((constructor)) void tell() {
  if (!find(current, "_current_thd") || !find(close_tables, "_Z19close_thread_tablesP3THD") ||
      !find(roll_back, "_Z19trans_rollback_stmtP3THD")) {
    return;  // no MariaDB
  }
  srs_rescue_adapter const adapter{.version = SRS_RESCUE_VERSION,
                                   .size = sizeof adapter,
                                   .name = "MariaDB",
                                   .critical = kCritical,
                                   .critical_stretch = kStretch,
                                   .clean_up = clean_up,
                                   .probe_send = "",
                                   .probe_expect = ""};
  srs_rescue_register(&adapter);
}

}  // namespace
