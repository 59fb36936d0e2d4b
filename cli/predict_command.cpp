// `vmsrs predict`: the predictor of guest failures (docs/predictor.md), and what it learns from.
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <ctime>
#include <fstream>
#include <iostream>

#include "cli/commands.hpp"
#include "cli/predict_print.hpp"
#include "runtime/predict/metrics_sampler.hpp"
#include "runtime/predict/training.hpp"

namespace vmsrs::cli {
namespace {

int fail(predict::Error const& error) {
  fmt::print(stderr, "vmsrs: {}\n", error.message);
  return kUsageError;
}

int fail(std::string const& message) {
  return fail(predict::Error{message, 0});
}

// Standard output or a file; null if it cannot be opened, errno says why.
std::ostream* open_output(std::string const& path, std::ofstream& file) {
  if (path == "-") return &std::cout;
  file.open(path, std::ios::trunc);
  return file ? &file : nullptr;
}

volatile sig_atomic_t g_end = 0;

void end_on_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { g_end = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

// Ticks of an even clock: a tick that was missed is left out. False when a signal asks to end.
class Ticks {
 public:
  explicit Ticks(uint64_t every_ms) : every_ns_(every_ms * 1'000'000) { clock_gettime(CLOCK_MONOTONIC, &next_); }

  bool wait() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    do {
      uint64_t const ns = static_cast<uint64_t>(next_.tv_nsec) + every_ns_;
      next_.tv_sec += static_cast<time_t>(ns / 1'000'000'000);
      next_.tv_nsec = static_cast<long>(ns % 1'000'000'000);
    } while (next_.tv_sec < now.tv_sec || (next_.tv_sec == now.tv_sec && next_.tv_nsec < now.tv_nsec));
    while (g_end == 0 && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next_, nullptr) == EINTR) {
    }
    return g_end == 0;
  }

 private:
  uint64_t every_ns_;
  timespec next_{};
};

struct RecordOptions {
  pid_t pid = 0;
  std::string out = "-", health = "-", load = "-";
  uint64_t every_ms = 1000, seconds = 0, linger = 0;
};

int record(RecordOptions const& options) {
  auto sampler = predict::MetricsSampler::open(options.pid);
  if (!sampler) return fail(sampler.error());
  std::ofstream file;
  std::ostream* const out = open_output(options.out, file);
  if (out == nullptr) return fail(fmt::format("--out {}: {}", options.out, std::strerror(errno)));
  *out << predict::recording_header() << std::flush;
  end_on_signals();
  Ticks ticks(options.every_ms);
  uint64_t const most = options.seconds * 1000 / options.every_ms,
                 most_after = options.linger * 1000 / options.every_ms;
  uint64_t after = 0;
  for (uint64_t n = 0; (most == 0 || n < most) && ticks.wait(); ++n) {
    predict::Sample sample;
    if (after == 0) {
      auto const read = sampler->sample();
      if (!read) return fail(read.error());
      if (*read) sample = **read;
    }
    if (sample.time == 0) {  // it has ended: it uses nothing
      if (after++ == most_after) break;
      sample.time = static_cast<double>(std::chrono::system_clock::now().time_since_epoch().count()) * 1e-9;
    }
    sample.health = predict::health_named(options.health);
    sample.load = predict::load_named(options.load);
    *out << predict::line_of(sample) << std::flush;
    if (!*out) return fail(fmt::format("{}: {}", options.out, std::strerror(errno)));
  }
  return 0;
}

Command add_record(CLI::App& app) {
  auto options = std::make_shared<RecordOptions>();
  app.description("Records what a process uses, a line each time: CPU, memory, network, disk. Ends with the process");
  app.add_option("--pid", options->pid, "the process: a guest's monitor, or any other")
      ->required()
      ->check(CLI::PositiveNumber);
  app.add_option("--out", options->out, "where to write (-: standard output)")->capture_default_str();
  app.add_option("--every", options->every_ms, "milliseconds from sample to sample")
      ->check(CLI::Range(10, 3'600'000))
      ->capture_default_str();
  app.add_option("--seconds", options->seconds, "how long; 0: until the process ends or SIGINT or SIGTERM comes")
      ->check(CLI::Range(0, 31'536'000))
      ->capture_default_str();
  app.add_option("--linger", options->linger, "seconds that are recorded after the process's end, when it uses nothing")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  app.add_option("--health", options->health, "label of all samples: normal, abnormal, failed, or - (unknown)")
      ->check(CLI::IsMember({"normal", "abnormal", "failed", "-"}));
  app.add_option("--load", options->load, "label of all samples: low, medium, high, or - (unknown)")
      ->check(CLI::IsMember({"low", "medium", "high", "-"}));
  return [options] { return record(*options); };
}

predict::Result<std::vector<predict::Recording>> read_all(std::vector<std::string> const& paths) {
  std::vector<predict::Recording> recordings;
  for (std::string const& path : paths) {
    auto recording = predict::read_recording(path);
    if (!recording) return tl::unexpected(recording.error());
    recordings.push_back(std::move(*recording));
  }
  return recordings;
}

void add_recordings(CLI::App& app, std::vector<std::string>& to) {
  app.add_option("recordings", to, "files that vmsrs predict record wrote, with labels (-: standard input)")
      ->required();
}

struct TrainCommandOptions {
  std::vector<std::string> recordings;
  std::string model, levels = "3,3,3,3", start = "labels";
  double stop_percent = 1;
  predict::TrainingOptions training;
};

int train(TrainCommandOptions options) {
  auto const recordings = read_all(options.recordings);
  if (!recordings) return fail(recordings.error());
  std::string_view const l = options.levels;
  bool fits = l.size() == 2 * predict::kMetrics - 1;
  for (size_t m = 0; fits && m < predict::kMetrics; ++m) {
    fits = (l[2 * m] == '2' || l[2 * m] == '3') && (m == 0 || l[2 * m - 1] == ',');
    options.training.levels[m] = l[2 * m] - '0';
  }
  if (!fits) return fail(fmt::format("--levels {}: four numbers, each 2 or 3, are needed, for example 3,3,2,2", l));
  options.training.start = options.start == "random" ? predict::Start::kRandom : predict::Start::kLabels;
  options.training.stop = options.stop_percent / 100;
  auto const outcome = predict::train_model(*recordings, options.training);
  if (!outcome) return fail(outcome.error());
  if (auto const written = predict::write_model(outcome->model, options.model); !written) return fail(written.error());
  fmt::print("{}\n", predict_json(*outcome).dump(1));
  return 0;
}

Command add_train(CLI::App& app) {
  auto options = std::make_shared<TrainCommandOptions>();
  predict::TrainingOptions& t = options->training;
  app.description("Learns a model from labelled recordings, each a sequence of its own; says what as JSON");
  add_recordings(app, options->recordings);
  app.add_option("--model", options->model, "the file to write")->required();
  app.add_option("--levels", options->levels, "of CPU, memory, network and disk: 2 or 3 each")->capture_default_str();
  app.add_option("--start", options->start,
                 "labels: Baum-Welch starts from what the labels count; random: from random parameters, the likeliest "
                 "of --restarts is kept, and labels only name its states")
      ->check(CLI::IsMember({"labels", "random"}))
      ->capture_default_str();
  app.add_option("--restarts", t.restarts, "--start random: how often")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--seed", t.seed, "--start random: of what is random")->capture_default_str();
  app.add_option("--stop", options->stop_percent, "percent: ends when no parameter changes by more")
      ->check(CLI::Range(1e-9, 100.0))
      ->capture_default_str();
  app.add_option("--rounds", t.most_rounds, "of Baum-Welch, at most")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--prior", t.prior_weight, "imagined visits of each state, so that nothing becomes impossible")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  return [options] { return train(*options); };
}

struct ForecastOptions {
  std::string model, past = "all";
  double threshold = 0;
  predict::PredictorOptions predictor;
};

void add_forecast(CLI::App& app, ForecastOptions& options) {
  app.add_option("--model", options.model, "what vmsrs predict train wrote")->required();
  app.add_option("--threshold", options.threshold,
                 "probability of trouble that is worth an alarm (default: the model's)")
      ->check(CLI::Range(0.001, 0.999));
  app.add_option("--ahead", options.predictor.ahead, "samples ahead that are forecast")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app.add_option("--past", options.past,
                 "all: the past is the sum over all paths; best: the likeliest path alone, as the paper has it")
      ->check(CLI::IsMember({"all", "best"}))
      ->capture_default_str();
  app.add_option("--confirm", options.predictor.confirm, "forecasts of trouble in a row that raise the alarm")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--clear", options.predictor.clear, "forecasts without trouble in a row that end it")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
}

predict::PredictorOptions predictor_of(ForecastOptions const& options) {
  auto predictor = options.predictor;
  predictor.past = options.past == "best" ? predict::Past::kBestPath : predict::Past::kAllPaths;
  predictor.threshold = options.threshold;
  return predictor;
}

struct EvalOptions {
  std::vector<std::string> recordings;
  ForecastOptions forecast;
  std::string forecasts;
  bool json = false;
};

int eval(EvalOptions const& options) {
  auto const model = predict::read_model(options.forecast.model);
  if (!model) return fail(model.error());
  auto const recordings = read_all(options.recordings);
  if (!recordings) return fail(recordings.error());
  auto const predictor = predictor_of(options.forecast);
  if (!options.forecasts.empty()) {
    std::ofstream file;
    std::ostream* const out = open_output(options.forecasts, file);
    if (out == nullptr) return fail(fmt::format("--forecasts {}: {}", options.forecasts, std::strerror(errno)));
    write_forecasts(*model, *recordings, predictor, *out);
    if (!out->flush()) return fail(fmt::format("--forecasts {}: {}", options.forecasts, std::strerror(errno)));
  }
  print_scores(*model, *recordings, predictor, options.json);
  return 0;
}

Command add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  app.description("Judges a model on labelled recordings: precision, recall, lead time, with intervals at 95 %");
  add_recordings(app, options->recordings);
  add_forecast(app, options->forecast);
  app.add_flag("--json", options->json, "as JSON, each recording too");
  app.add_option("--forecasts", options->forecasts, "a file for the forecast after each sample, as lines of JSON");
  return [options] { return eval(*options); };
}

struct FollowOptions {
  ForecastOptions forecast;
  pid_t pid = 0;
  uint64_t every_ms = 1000, seconds = 0, retrain = 0;
};

int follow(FollowOptions const& options) {
  auto model = predict::read_model(options.forecast.model);
  if (!model) return fail(model.error());
  auto sampler = predict::MetricsSampler::open(options.pid);
  if (!sampler) return fail(sampler.error());
  predict::Predictor predictor(std::move(*model), predictor_of(options.forecast));
  end_on_signals();
  Ticks ticks(options.every_ms);
  uint64_t const most = options.seconds * 1000 / options.every_ms;
  uint64_t const retrain = options.retrain * 1000 / options.every_ms;
  for (uint64_t n = 1; (most == 0 || n <= most) && ticks.wait(); ++n) {
    auto const sample = sampler->sample();
    if (!sample) return fail(sample.error());
    if (!*sample) break;
    auto line = predict_json(predictor.observe(**sample));
    line["time"] = (*sample)->time;
    if (retrain != 0 && n % retrain == 0) {
      auto const change = predictor.retrain();
      if (!change) return fail(change.error());
      line["retrained"] = *change;
    }
    fmt::print("{}\n", line.dump());
    std::fflush(stdout);
  }
  return 0;
}

Command add_follow(CLI::App& app) {
  auto options = std::make_shared<FollowOptions>();
  app.description("Forecasts a running process, a line of JSON each time. Ends with the process");
  add_forecast(app, options->forecast);
  app.add_option("--pid", options->pid, "the process: a guest's monitor, or any other")
      ->required()
      ->check(CLI::PositiveNumber);
  app.add_option("--every", options->every_ms, "milliseconds from sample to sample; as the model was trained")
      ->check(CLI::Range(10, 3'600'000))
      ->capture_default_str();
  app.add_option("--seconds", options->seconds, "how long; 0: until the process ends or SIGINT or SIGTERM comes")
      ->check(CLI::Range(0, 31'536'000))
      ->capture_default_str();
  app.add_option("--retrain", options->retrain, "seconds between trainings on what was seen; 0: never")
      ->check(CLI::Range(0, 31'536'000))
      ->capture_default_str();
  return [options] { return follow(*options); };
}

struct SimulateOptions {
  std::vector<std::string> recordings;
  ForecastOptions forecast;
  EpochOptions epochs;
};

int simulate(SimulateOptions const& options) {
  if (options.epochs.shortest_ms > options.epochs.longest_ms) return fail("--shortest is longer than --longest");
  auto const model = predict::read_model(options.forecast.model);
  if (!model) return fail(model.error());
  auto const recordings = read_all(options.recordings);
  if (!recordings) return fail(recordings.error());
  print_epochs(*model, *recordings, predictor_of(options.forecast), options.epochs);
  return 0;
}

Command add_simulate(CLI::App& app) {
  auto options = std::make_shared<SimulateOptions>();
  EpochOptions& e = options->epochs;
  app.description(
      "Plays policies of replication epochs through on recordings: what they would cost and lose. Nothing is "
      "replicated");
  add_recordings(app, options->recordings);
  add_forecast(app, options->forecast);
  CLI::Validator positive = CLI::Range(1e-3, 1e9);
  positive.description("");
  app.add_option("--cost", e.cost_ms, "milliseconds that each checkpoint stops the guest")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--share", e.share, "and so much of its epoch besides, for what was dirtied")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--shortest", e.shortest_ms, "milliseconds of an adaptive epoch, at least")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--longest", e.longest_ms, "milliseconds of an adaptive epoch, at most")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--mtbf", e.mtbf_s, "seconds between failures in good health")->check(positive)->capture_default_str();
  app.add_option("--trouble-mtbf", e.trouble_mtbf_s, "seconds to a failure in trouble")
      ->check(positive)
      ->capture_default_str();
  app.add_flag("--json", e.json, "as JSON");
  return [options] { return simulate(*options); };
}

}  // namespace

Command add_predict(CLI::App& app) {
  app.description("Forecasts failures of a guest from its CPU, memory, network and disk use (docs/predictor.md)");
  app.require_subcommand(1);
  std::vector<std::pair<CLI::App*, Command>> commands;
  auto const add = [&](char const* name, auto adder) {
    CLI::App* const sub = app.add_subcommand(name);
    commands.emplace_back(sub, adder(*sub));
  };
  add("record", add_record);
  add("train", add_train);
  add("eval", add_eval);
  add("follow", add_follow);
  add("simulate", add_simulate);
  return [commands] {
    for (auto const& [sub, command] : commands) {
      if (sub->parsed()) return command();
    }
    return kUsageError;
  };
}

}  // namespace vmsrs::cli
