// links: srs_hosted
// SRS_SCOPE=thread: every thread of the program is one scope.
#define SRS_FAKE_THREAD_SCOPES
#include <gtest/gtest.h>
#include <pthread.h>

#include <srs/srs.hpp>
#include <string>

#include "tests/unit/srs_fake_host.hpp"

namespace {

uint64_t x;
std::string trace;
struct Traced {
  ~Traced() { trace += 'd'; }
};

[[gnu::noinline]] void crash() {
  auto* volatile nowhere = reinterpret_cast<int*>(16);
  *nowhere = 1;
}

void* run(void* (*fn)(void*)) {
  fake::install_handlers(false);
  pthread_t t;
  void* result = nullptr;
  EXPECT_EQ(pthread_create(&t, nullptr, fn, &x), 0);
  EXPECT_EQ(pthread_join(t, &result), 0);
  return result;
}

}  // namespace

TEST(SrsThreadScope, CommitsAtTheThreadsEnd) {
  x = 1;
  EXPECT_EQ(run([](void* p) -> void* {
              EXPECT_EQ(fake::my_slot()->depth, 1u);
              srs_store64(p, 2);
              return p;
            }),
            &x);
  EXPECT_EQ(x, 2u);
}

TEST(SrsThreadScope, AFaultUndoesTheWholeThread) {
  x = 1;
  EXPECT_EQ(run([](void* p) -> void* {
              srs_store64(p, 2);
              crash();
              return p;
            }),
            nullptr);
  EXPECT_EQ(x, 1u);
}

TEST(SrsThreadScope, PthreadExitRunsDestructorsAndCommits) {
  x = 1;
  trace.clear();
  EXPECT_EQ(run([](void* p) -> void* {
              Traced const traced;
              srs_store64(p, 3);
              pthread_exit(p);
            }),
            &x);
  EXPECT_EQ(x, 3u);
  EXPECT_EQ(trace, "d");
}

TEST(SrsThreadScope, PthreadExitInARequestIsAFault) {
  x = 1;
  EXPECT_EQ(run([](void* p) -> void* {
              srs_store64(p, 2);
              EXPECT_EQ(srs_request(
                            [](void* q) {
                              srs_store64(q, 3);
                              pthread_exit(nullptr);
                            },
                            p, nullptr),
                        SRS_FAULTED);
              return p;
            }),
            &x);
  EXPECT_EQ(x, 2u);
}
