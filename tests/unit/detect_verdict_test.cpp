// links: vmsrs_detect
// From evidence to a verdict: pure functions.
#include <gtest/gtest.h>

#include <csignal>
#include <set>
#include <string>

#include "runtime/detect/verdict.hpp"

namespace {

using namespace vmsrs::runtime::detect;

EndOfRun ended(int code, int signal = 0) {
  EndOfRun end;
  end.ended = true;
  end.code = code, end.signal = signal;
  return end;
}

void expect(Verdict const& verdict, FailureClass failure, Cause cause) {
  EXPECT_STREQ(name_of(verdict.failure), name_of(failure)) << verdict.evidence;
  EXPECT_STREQ(name_of(verdict.cause), name_of(cause)) << verdict.evidence;
}

TEST(DetectVerdict, EveryCauseHasANameOfItsOwn) {
  std::set<std::string> names;
  for (unsigned i = 0; i < kCauses; ++i) names.insert(name_of(static_cast<Cause>(i)));
  EXPECT_EQ(names.size(), kCauses);
  EXPECT_FALSE(names.contains("damaged"));
  EXPECT_STREQ(name_of(static_cast<Cause>(kCauses)), "damaged");
}

TEST(DetectVerdict, AnEndIsAFailureUnlessItWasWanted) {
  expect(judge_end(ended(0), false), FailureClass::kStopped, Cause::kFinished);
  expect(judge_end(ended(3), false), FailureClass::kCrashStop, Cause::kExit);
  expect(judge_end(ended(0, SIGSEGV), false), FailureClass::kCrashStop, Cause::kSignal);
  expect(judge_end(ended(1), true), FailureClass::kCrashStop, Cause::kMemory);
  EndOfRun service = ended(0);
  service.service = true;
  expect(judge_end(service, false), FailureClass::kCrashStop, Cause::kExit);
}

TEST(DetectVerdict, AnOperatorsStopIsNoFailure) {
  EndOfRun wanted = ended(0, SIGSEGV);
  wanted.wanted = true;
  expect(judge_end(wanted, false), FailureClass::kStopped, Cause::kOperator);
  EndOfRun asked = ended(1);
  asked.stop_signal = SIGTERM, asked.service = true;
  expect(judge_end(asked, false), FailureClass::kStopped, Cause::kOperator);
  asked = ended(0, SIGTERM);
  asked.stop_signal = SIGTERM;
  expect(judge_end(asked, false), FailureClass::kStopped, Cause::kOperator);
  // It crashed on its way out.
  asked = ended(0, SIGSEGV);
  asked.stop_signal = SIGTERM;
  expect(judge_end(asked, false), FailureClass::kCrashStop, Cause::kSignal);
}

AppEvidence silent() {
  AppEvidence e;
  e.ever_answered = true;
  e.probe = ProbeOutcome::kNoAnswer;
  e.waited_ms = 1000;
  return e;
}

TEST(DetectVerdict, AnAnswerIsHealthyWhateverElseIsKnown) {
  AppEvidence e = silent();
  e.probe = ProbeOutcome::kAnswered;
  e.spinning = "thread 1", e.queue_full = e.memory_refused = e.fds_refused = e.all_blocked = true;
  e.lock_cycle = "thread 1 waits for thread 2";
  Verdict const verdict = judge_app(e);
  expect(verdict, FailureClass::kHealthy, Cause::kNone);
  EXPECT_NE(verdict.evidence.find("waits"), std::string::npos);
}

TEST(DetectVerdict, SilenceIsNoResponseAndEvidenceSaysWhy) {
  expect(judge_app(silent()), FailureClass::kNoResponse, Cause::kSilent);
  AppEvidence e = silent();
  e.queue_full = true;
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kConnections);
  e.all_blocked = true;  // a full queue is its consequence
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kDeadlock);
  e.all_blocked = false, e.spinning = "thread 1000 computes";
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kSpinning);
  e.unacknowledged = true;
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kHalfOpen);
  e.fds_refused = true;
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kDescriptors);
  e.memory_refused = true;
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kMemory);
  e.lock_cycle = "a proof";
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kDeadlock);
  e.end = ended(0, SIGKILL);
  expect(judge_app(e), FailureClass::kCrashStop, Cause::kMemory);
}

TEST(DetectVerdict, AStartMayTakeItsTime) {
  AppEvidence e = silent();
  e.ever_answered = false;
  e.probe = ProbeOutcome::kRefused;
  expect(judge_app(e), FailureClass::kUnknown, Cause::kNone);
  e.start_over = true;
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kRefused);
}

TEST(DetectVerdict, WithoutAProbeOnlyAProofCounts) {
  AppEvidence e;
  e.all_blocked = true;  // it may wait for a signal
  expect(judge_app(e), FailureClass::kHealthy, Cause::kNone);
  e.lock_cycle = "a proof";
  expect(judge_app(e), FailureClass::kNoResponse, Cause::kDeadlock);
}

TEST(DetectVerdict, OneThatWasAskedToEndNeedNotAnswer) {
  AppEvidence e = silent();
  e.end.stop_signal = SIGTERM;
  expect(judge_app(e), FailureClass::kStopped, Cause::kOperator);
}

TEST(DetectVerdict, AVmByItsProcessAndItsHeartbeat) {
  VmEvidence e;
  e.timeout_ms = 1000;
  expect(judge_vm(e), FailureClass::kHealthy, Cause::kNone);
  e.beat_age_ms = 1000;
  expect(judge_vm(e), FailureClass::kHealthy, Cause::kNone);
  e.beat_age_ms = 1001;
  e.process_state = 'T';
  expect(judge_vm(e), FailureClass::kNoResponse, Cause::kSuspended);
  e.process_state = 'R';
  expect(judge_vm(e), FailureClass::kNoResponse, Cause::kStarved);
  e.process_state = 'D';
  expect(judge_vm(e), FailureClass::kNoResponse, Cause::kHung);
  // The detector was late itself: the heartbeat gets as much more time.
  e.late_ms = 500;
  expect(judge_vm(e), FailureClass::kHealthy, Cause::kNone);
  e.process_there = false;
  expect(judge_vm(e), FailureClass::kCrashStop, Cause::kVmLost);
  e.end.wanted = true;
  expect(judge_vm(e), FailureClass::kStopped, Cause::kOperator);
  e.end = ended(0, SIGSEGV);
  expect(judge_vm(e), FailureClass::kStopped, Cause::kFinished);
}

TEST(DetectVerdict, AHostByIcmpAndItsPower) {
  HostEvidence e;
  e.power = Power::kOff;  // a controller that is wrong: an answer is an answer
  expect(judge_host(e), FailureClass::kHealthy, Cause::kNone);
  e.answered = false;
  expect(judge_host(e), FailureClass::kCrashStop, Cause::kPowerOff);
  e.power = Power::kOn;
  expect(judge_host(e), FailureClass::kNoResponse, Cause::kUnreachable);
  e.power = Power::kUnknown;
  expect(judge_host(e), FailureClass::kNoResponse, Cause::kUnreachable);
}

TEST(DetectVerdict, ADetectorByTheLayerBelow) {
  expect(judge_detector({true, 1000, 1000}), FailureClass::kHealthy, Cause::kNone);
  expect(judge_detector({true, 1001, 1000}), FailureClass::kNoResponse, Cause::kDetectorSilent);
  expect(judge_detector({false, 0, 1000}), FailureClass::kCrashStop, Cause::kDetectorLost);
}

TEST(DetectVerdict, OnlyAChangeIsNews) {
  SharedVerdict shared;
  Verdict const lost{FailureClass::kCrashStop, Cause::kVmLost, "gone"};
  EXPECT_TRUE(publish(shared, {FailureClass::kHealthy, Cause::kNone, "answered in 1 ms"}, 10));
  EXPECT_FALSE(publish(shared, {FailureClass::kHealthy, Cause::kNone, "answered in 2 ms"}, 20));
  EXPECT_EQ(read(shared).evidence, "answered in 2 ms");
  EXPECT_EQ(shared.since_ns.load(), 10u);
  EXPECT_TRUE(publish(shared, lost, 30));
  EXPECT_TRUE(read(shared).same(lost));
  EXPECT_EQ(shared.since_ns.load(), 30u);
}

}  // namespace
