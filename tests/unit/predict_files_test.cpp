// links: vmsrs_predict
// Recordings and models as files: what is written is read again, and each kind of damage is named. And the sampler that
// recordings come from.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "runtime/predict/metrics_sampler.hpp"
#include "runtime/predict/model.hpp"

namespace vmsrs::predict {
namespace {

std::string const kHead = "# vmsrs recording 1\ntime,cpu,memory,network,disk,health,load\n";

std::string complaint(std::string const& text) {
  auto const parsed = parse_recording(text, "it");
  return parsed ? "none" : parsed.error().message;
}

TEST(PredictRecording, WhatIsWrittenIsReadAgain) {
  Sample a;
  a.time = 12.5;
  a.metrics = {0.25, 73400320, 51234, 4096};
  a.health = Health::kAbnormal;
  a.load = Load::kHigh;
  Sample b = a;
  b.time = 13.5;
  b.health.reset();
  b.load.reset();
  auto const read = parse_recording(recording_header() + line_of(a) + line_of(b), "it");
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->samples.size(), 2U);
  EXPECT_EQ(read->samples[0].time, 12.5);
  EXPECT_EQ(read->samples[0].metrics, a.metrics);
  EXPECT_EQ(read->samples[0].health, Health::kAbnormal);
  EXPECT_EQ(read->samples[0].load, Load::kHigh);
  EXPECT_FALSE(read->samples[1].health);
  EXPECT_FALSE(read->samples[1].load);
  EXPECT_EQ(recording_header(), kHead);
  EXPECT_TRUE(
      parse_recording("# vmsrs recording 1\r\ntime,cpu,memory,network,disk,health,load\r\n1,2,3,4,5,-,-\r\n", "it"));
}

TEST(PredictRecording, EachDamageIsNamed) {
  EXPECT_EQ(complaint(""), "it: no recording: its first line is not \"# vmsrs recording N\"");
  EXPECT_EQ(complaint("# vmsrs recording 2\n"), "it: version \"2\"; this program reads version 1");
  EXPECT_EQ(complaint("# vmsrs recording 1\ncpu\n"),
            "it:2: the columns are not time,cpu,memory,network,disk,health,load");
  EXPECT_EQ(complaint(kHead), "it: no sample in it");
  EXPECT_EQ(complaint(kHead + "1,2,3\n"),
            "it:3: 3 fields where 7 are needed: time,cpu,memory,network,disk,health,load");
  EXPECT_EQ(complaint(kHead + "1,x,3,4,5,-,-\n"), "it:3: cpu: \"x\" is no number");
  EXPECT_EQ(complaint(kHead + "1,nan,3,4,5,-,-\n"), "it:3: cpu: \"nan\" is no number");
  EXPECT_EQ(complaint(kHead + "1,1,inf,4,5,-,-\n"), "it:3: memory: \"inf\" is no number");
  EXPECT_EQ(complaint(kHead + "1,1,3,-4,5,-,-\n"), "it:3: network: \"-4\" is negative");
  EXPECT_EQ(complaint(kHead + "1,1,3,4,5,ill,-\n"), "it:3: health: \"ill\" is none of normal, abnormal, failed, -");
  EXPECT_EQ(complaint(kHead + "1,1,3,4,5,-,full\n"), "it:3: load: \"full\" is none of low, medium, high, -");
  EXPECT_EQ(complaint(kHead + "1,2,3,4,5,-,-\n1,2,3,4,5,-,-\n"), "it:4: time does not grow");
  EXPECT_EQ(complaint(kHead + "1,\x01,3,4,5,-,-\n"), "it:3: cpu: \"?\" is no number");
  auto const missing = read_recording("/nonexistent/recording");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().sys_errno, ENOENT);
  EXPECT_EQ(missing.error().message, "/nonexistent/recording: No such file or directory");
  EXPECT_NE(read_recording("/").error().message.find("directory"), std::string::npos);
}

Model some_model() {
  Model model;
  for (size_t m = 0; m < kMetrics; ++m)
    model.scales[m] = {m == 3 ? 2 : 3, 10.0 * static_cast<double>(m + 1), 1, 0.5, 2};
  Rng rng(1);
  model.hmm = random_hmm(kStates, 54, rng);
  model.meaning = Eigen::MatrixXd::Identity(kStates, kStates);
  model.threshold = 0.25;
  return model;
}

TEST(PredictModel, WhatIsWrittenIsReadAgain) {
  Model const model = some_model();
  auto const path = std::filesystem::temp_directory_path() / ("vmsrs-model-" + std::to_string(getpid()));
  ASSERT_TRUE(write_model(model, path));
  auto const read = read_model(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->hmm.transition, model.hmm.transition);
  EXPECT_EQ(read->hmm.emission, model.hmm.emission);
  EXPECT_EQ(read->hmm.initial, model.hmm.initial);
  EXPECT_EQ(read->meaning, model.meaning);
  EXPECT_EQ(read->threshold, 0.25);
  EXPECT_EQ(read->scales[3].levels, 2);
  EXPECT_EQ(read->scales[2].mean, 30);
  EXPECT_EQ(to_json(*read), to_json(model));
  EXPECT_FALSE(write_model(model, "/nonexistent/model"));
}

// The text with the first `from` replaced by `to`.
std::string changed(std::string text, std::string const& from, std::string const& to) {
  size_t const at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string model_complaint(std::string const& text) {
  auto const parsed = parse_model(text, "it");
  return parsed ? "none" : parsed.error().message;
}

TEST(PredictModel, EachDamageIsNamed) {
  std::string const good = to_json(some_model());
  ASSERT_EQ(model_complaint(good), "none");
  EXPECT_EQ(model_complaint(""), "it: no model: it is not JSON");
  EXPECT_EQ(model_complaint("[]"), "it: no model: \"format\" is missing");
  EXPECT_EQ(model_complaint(changed(good, "vmsrs predictor", "another")),
            "it: no model: \"format\" is not \"vmsrs predictor\"");
  EXPECT_EQ(model_complaint(changed(good, "\"version\":1", "\"version\":2")),
            "it: no model: version 2; this program reads version 1");
  EXPECT_EQ(model_complaint(changed(good, "\"network\"", "\"net\"")), "it: no model: \"network\" is missing");
  EXPECT_EQ(model_complaint(changed(good, "\"levels\":3", "\"levels\":4")),
            "it: no model: metric cpu: \"levels\" is neither 2 nor 3");
  EXPECT_EQ(model_complaint(changed(good, "\"levels\":3", "\"levels\":2")),
            "it: no model: \"emission\" is no matrix of 9 x 36 numbers");
  EXPECT_EQ(model_complaint(changed(good, "\"low\":0.5", "\"low\":-0.5")),
            "it: no model: metric cpu: \"low\" is negative");
  EXPECT_EQ(model_complaint(changed(good, "\"mean\":10.0", "\"mean\":\"ten\"")),
            "it: no model: metric cpu: \"mean\" is no number");
  EXPECT_EQ(model_complaint(changed(good, "\"threshold\":0.25", "\"threshold\":1.5")),
            "it: no model: the threshold is not between 0 and 1");
  EXPECT_EQ(model_complaint(changed(good, "\"meaning\":[[1.0", "\"meaning\":[[2.0")),
            "it: no model: \"meaning\" has a row that is no distribution: not negative, sum 1");
  EXPECT_EQ(model_complaint(changed(good, "\"meaning\":[[1.0,", "\"meaning\":[[")),
            "it: no model: \"meaning\" is no matrix of 9 x 9 numbers");
  EXPECT_NE(model_complaint(changed(good, "\"transition\":[[", "\"transition\":[[1")), "none");
  EXPECT_EQ(read_model("/nonexistent/model").error().message, "/nonexistent/model: No such file or directory");
  EXPECT_FALSE(read_model("/"));
}

double seconds_of_cpu() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

TEST(PredictSampler, SeesTheCpuAndTheMemoryOfAProcess) {
  auto sampler = MetricsSampler::open(getpid());
  ASSERT_TRUE(sampler) << sampler.error().message;
  double const cpu_before = seconds_of_cpu();
  auto const begin = std::chrono::steady_clock::now();
  std::vector<char> block(64 << 20, 1);
  while (seconds_of_cpu() - cpu_before < 0.2) {
    for (size_t i = 0; i < block.size(); i += 4096) ++block[i];
  }
  auto const read = sampler->sample();
  double const used = seconds_of_cpu() - cpu_before;
  std::chrono::duration<double> const passed = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(read && *read);
  EXPECT_NEAR((*read)->metrics[0], used / passed.count(), 0.05);
  EXPECT_GT((*read)->metrics[1], 64e6);
  EXPECT_FALSE((*read)->health);
}

TEST(PredictSampler, LeavesOutWhatReplicationUses) {
  std::atomic<bool> over = false;
  auto const spin = [&over] {
    while (!over) {
    }
  };
  std::jthread replication(spin), guest;
  pthread_setname_np(replication.native_handle(), "replication");
  auto sampler = MetricsSampler::open(getpid());
  ASSERT_TRUE(sampler) << sampler.error().message;
  // Two busy threads may have one processor: what each gets is asked of its own clock.
  clockid_t clock{};
  pthread_getcpuclockid(replication.native_handle(), &clock);
  guest = std::jthread(spin);
  clockid_t guest_clock{};
  pthread_getcpuclockid(guest.native_handle(), &guest_clock);
  auto const used = [](clockid_t c) {
    timespec t{};
    clock_gettime(c, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  };
  double const left_out = used(clock), of_guest = used(guest_clock);
  auto const began = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  auto const sample = sampler->sample();
  double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  double const guest_used = used(guest_clock) - of_guest;
  EXPECT_GT(used(clock) - left_out, 0.05) << "replication used nothing";
  over = true;
  ASSERT_TRUE(sample && *sample);
  EXPECT_NEAR((*sample)->metrics[0], guest_used / seconds, 0.15 * guest_used / seconds + 0.02);
}

TEST(PredictSampler, AProcessThatHasEndedIsNoError) {
  EXPECT_EQ(MetricsSampler::open(0x7ffffff0).error().message, "no process 2147483632");
  pid_t const child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  auto sampler = MetricsSampler::open(child);
  ASSERT_TRUE(sampler) << sampler.error().message;
  auto const alive = sampler->sample();
  ASSERT_TRUE(alive);
  EXPECT_TRUE(alive->has_value());
  kill(child, SIGKILL);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  auto const zombie = sampler->sample();
  ASSERT_TRUE(zombie) << zombie.error().message;
  EXPECT_FALSE(zombie->has_value());
  waitpid(child, nullptr, 0);
  auto const gone = sampler->sample();
  ASSERT_TRUE(gone) << gone.error().message;
  EXPECT_FALSE(gone->has_value());
}

}  // namespace
}  // namespace vmsrs::predict
