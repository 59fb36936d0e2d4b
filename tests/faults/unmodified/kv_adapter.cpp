// What rescue points need to know of kv_server: as an adapter for a real server tells it.
#include <dlfcn.h>
#include <srs/rescue.h>

namespace {

long* cleaned;

constexpr char const* kCritical[] = {"engine_", nullptr};

__attribute__((constructor)) void tell() {
  cleaned = static_cast<long*>(dlsym(RTLD_DEFAULT, "kv_cleaned"));
  if (cleaned == nullptr) return;
  srs_rescue_adapter const adapter{.version = SRS_RESCUE_VERSION,
                                   .size = sizeof adapter,
                                   .name = "kv_server",
                                   .critical = kCritical,
                                   .critical_stretch = 0,
                                   .clean_up = [] { __atomic_fetch_add(cleaned, 1, __ATOMIC_RELAXED); },
                                   .probe_send = "get probe\n",
                                   .probe_expect = "none\n"};
  srs_rescue_register(&adapter);
}

}  // namespace
