#!/usr/bin/env python3
"""Epochs as long as the forecast allows, against epochs of one length: what they cost in good health and what a failure
loses (docs/predictor.md).

  bench/run adaptive [--data DIR] [--train N] [--episodes N] [--seconds N] [--jobs N] [--json FILE]        needs root

Records episodes of trouble under protection (scripts/record-trouble, --train of each kind at 25 ms and as many at 1 s),
trains a model of them, records half as many with epochs as that one sets them, and trains the model that is judged, of
all: an epoch's length shows in what the guest uses, and the model must know both lengths and the change between them.
Then each policy in relaxed and strict mode gets healthy stretches of --seconds, which end with a kill that nothing
announces, and the two that matter --episodes of each kind of trouble, at whose end the guest's process is lost (hazard,
and the strict ones: one each). What DIR holds already is not recorded again.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VMSRS = os.path.join(ROOT, "build", "release", "bin", "vmsrs")
KINDS = ("leak", "cpu", "convoy")
CORES, LOAD = 0.6, 2  # of the small machine, and times record-trouble's usual load
LONGEST = 1000  # milliseconds


def policies(model):
    adaptive = ["--epoch", "25", "--predict", model, "--longest-epoch", str(LONGEST), "--epoch-policy"]
    return {"fixed-25": ["--epoch", "25"], "fixed-100": ["--epoch", "100"], "fixed-1000": ["--epoch", "1000"],
            "young-daly": [*adaptive, "young-daly"], "threshold": [*adaptive, "threshold"], "hazard": [*adaptive, "hazard"]}


def record(folder, kind, seed, seconds, mode, more):
    """One episode, unless the folder has it; what its JSON says."""
    result = os.path.join(folder, f"{kind}-{seed}.json")
    if not os.path.exists(result):
        protect = ["--protect", mode] if mode else []
        done = subprocess.run([os.path.join(ROOT, "scripts", "record-trouble"), kind, "--out", folder, "--seed", str(seed), "--seconds",
                               str(seconds), "--cores", str(CORES), "--load", str(LOAD), *protect, *(["--", *more] if more else [])], capture_output=True, text=True, check=False)
        print(os.path.relpath(folder, ROOT), (done.stdout + done.stderr).strip(), flush=True)
        if done.returncode != 0:
            return None
    with open(result, encoding="ascii") as file:
        return json.load(file)


def record_all(options, jobs):
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        return list(pool.map(lambda job: record(*job), jobs))


def train_jobs(options, name, seeds, more):
    folder = os.path.join(options.data, f"train-{name}")
    return [(folder, "healthy", 1, 300, "relaxed", more), *((folder, kind, seed, 0, "relaxed", more) for seed in seeds for kind in KINDS)]


def learn(options, name, folders):
    """The model's path."""
    model = os.path.join(options.data, name)
    if not os.path.exists(model):
        recordings = sorted(path for folder in folders for path in glob.glob(os.path.join(options.data, f"train-{folder}", "*.csv")))
        done = subprocess.run([VMSRS, "predict", "train", "--model", model, *recordings], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(done.stderr)
    return model


def train(options):
    """The model's path."""
    seeds = range(1, options.train + 1)
    record_all(options, [job for epoch in ("25", "1000") for job in train_jobs(options, epoch, seeds, ["--epoch", epoch])])
    first = learn(options, "first.model", ("25", "1000"))
    more = policies(first)["threshold"]
    record_all(options, train_jobs(options, "adaptive", range(21, 21 + (options.train + 1) // 2), more))
    return learn(options, "guest.model", ("25", "1000", "adaptive"))


def judge(options, model):
    """{(mode, policy): [episode …]}"""
    seeds = range(101, 101 + options.healthy)
    healthy = [("none", "none", "healthy", seed, []) for seed in seeds]
    trouble = []
    for mode in ("relaxed", "strict"):
        for name, more in policies(model).items():
            healthy += [(mode, name, "healthy", seed, more) for seed in (seeds if mode == "relaxed" else seeds[:1])]
            matters = name in ("fixed-25", "threshold")
            episodes = options.episodes if mode == "relaxed" and matters else 1 if matters or (mode == "relaxed" and name == "hazard") else 0
            trouble += [(mode, name, kind, seed, more) for kind in KINDS for seed in range(101, 101 + episodes)]

    def one(job):
        mode, name, kind, seed, more = job
        return record(os.path.join(options.data, f"{mode}-{name}"), kind, seed, options.seconds, None if mode == "none" else mode, more)

    # What answers cost is measured one at a time, so that a policy's load is not its neighbour's; the seeds outermost, so
    # that what the machine does meanwhile falls on all.
    healthy.sort(key=lambda job: job[3])
    trouble.sort(key=lambda job: job[3])
    results = [one(job) for job in healthy]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results += pool.map(one, trouble)
    found = {}
    for job, episode in zip(healthy + trouble, results):
        if episode is not None:
            found.setdefault(job[:2], []).append(episode)
    return found


def mean(values):
    values = [v for v in values if v is not None]
    return statistics.mean(values) if values else None


def summary(found):
    none = mean(e["answers_ms"]["mean"] for e in found[("none", "none")])
    rows = []
    for (mode, name), episodes in found.items():
        healthy = [e for e in episodes if e["kind"] == "healthy"]
        answers = mean(e["answers_ms"]["mean"] for e in healthy)
        row = {"mode": mode, "policy": name, "answer_ms": answers, "added_ms": answers - none,
               "p99_ms": mean(e["answers_ms"]["p99"] for e in healthy), "epochs_per_second": mean(e.get("healthy_epochs_per_second") for e in healthy),
               "sudden_lost_ms": mean(e.get("lost_ms") for e in healthy)}
        for kind in KINDS:
            of_kind = [e for e in episodes if e["kind"] == kind]
            row[f"{kind}_n"] = len(of_kind)
            row[f"{kind}_lost_ms"] = mean(e.get("lost_ms") for e in of_kind)
            row[f"{kind}_expected_ms"] = mean(e.get("expected_lost_ms") for e in of_kind)
        rows.append(row)
    return rows


def show(value, width, digits=1):
    return f"{'-' if value is None else f'{value:.{digits}f}':>{width}}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.path.join(ROOT, "build", "adaptive"))
    parser.add_argument("--train", type=int, default=4, help="episodes of each kind at each of two lengths")
    parser.add_argument("--episodes", type=int, default=4, help="of each kind for the two policies that matter")
    parser.add_argument("--healthy", type=int, default=2, help="stretches for each policy")
    parser.add_argument("--seconds", type=int, default=45)
    parser.add_argument("--jobs", type=int, default=2, help="episodes at once in training")
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    os.makedirs(options.data, exist_ok=True)
    model = train(options)
    if options.only_train:
        return
    rows = summary(judge(options, model))
    print(f"{'mode':<9}{'policy':<12}{'answer ms':>10}{'added':>8}{'p99':>8}{'epochs/s':>10}{'sudden':>9}" +
          "".join(f"{kind + ' lost':>13}{'expected':>10}" for kind in KINDS))
    for row in rows:
        print(f"{row['mode']:<9}{row['policy']:<12}{show(row['answer_ms'], 10, 2)}{show(row['added_ms'], 8, 2)}{show(row['p99_ms'], 8)}"
              f"{show(row['epochs_per_second'], 10)}{show(row['sudden_lost_ms'], 9)}" +
              "".join(show(row[f"{kind}_lost_ms"], 13) + show(row[f"{kind}_expected_ms"], 10) for kind in KINDS))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
            file.write("\n")


main()
