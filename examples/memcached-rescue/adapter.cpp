// What rescue points need to know of memcached: a question to ask (docs/rescue.md).
#include <srs/rescue.h>

namespace {

__attribute__((constructor)) void tell() {
  srs_rescue_adapter const adapter{.version = SRS_RESCUE_VERSION,
                                   .size = sizeof adapter,
                                   .name = "memcached",
                                   .critical = nullptr,
                                   .critical_stretch = 0,
                                   .clean_up = nullptr,
                                   .probe_send = "version\r\n",
                                   .probe_expect = "VERSION "};
  srs_rescue_register(&adapter);
}

}  // namespace
