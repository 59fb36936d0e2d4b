// The one file that knows of request scopes: it stands in front of serve_one (ld's --wrap).
#include <srs/srs.h>

struct Session;
extern "C" int __real_serve_one(Session* session);

namespace {

struct Call {
  Session* session;
  int result;
};
void run(void* raw) {
  auto* const call = static_cast<Call*>(raw);
  call->result = __real_serve_one(call->session);
}

}  // namespace

extern "C" int __wrap_serve_one(Session* session) {
  Call call{session, -1};
  return srs_request(run, &call, nullptr) == SRS_OK ? call.result : -1;
}
