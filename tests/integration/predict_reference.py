#!/usr/bin/env python3
"""`vmsrs predict` against another implementation: this one, in logarithms instead of scaled probabilities, from the paper's
formulas alone. Recordings of real trouble, from bench/recordings.

usage: predict_reference.py VMSRS RECORDINGS.tar.xz
"""

import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile

VMSRS, RECORDINGS = sys.argv[1:3]
METRICS = ("cpu", "memory", "network", "disk")
LABELS = [(h, l) for h in ("normal", "abnormal", "failed") for l in ("low", "medium", "high")]
NONE = -math.inf
USED = ("leak-1.csv", "cpu-1.csv", "convoy-1.csv")


def log(x):
    return math.log(x) if x > 0 else NONE


def log_sum(values):
    values = list(values)
    most = max(values)
    return NONE if most == NONE else most + math.log(sum(math.exp(v - most) for v in values))


def run(*arguments, status=0):
    done = subprocess.run([VMSRS, "predict", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != status:
        sys.exit(f"vmsrs predict {' '.join(arguments)}: status {done.returncode}, not {status}: {done.stderr}")
    return done.stdout if status == 0 else done.stderr


def read_recording(path):
    with open(path, encoding="ascii") as f:
        lines = f.read().splitlines()[2:]
    return [([float(x) for x in fields[1:5]], fields[5], fields[6]) for fields in (line.split(",") for line in lines)]


class Reference:
    """A model file, and what follows from it."""

    def __init__(self, path):
        with open(path, encoding="ascii") as f:
            self.file = json.load(f)
        self.a = [[log(x) for x in row] for row in self.file["transition"]]
        self.b = [[log(x) for x in row] for row in self.file["emission"]]
        self.pi = [log(x) for x in self.file["initial"][0]]
        self.n = len(self.pi)

    def symbols(self, recording, healthy):
        """healthy(t, symbol): how much the sample counts for the history; called in order."""
        scales = [self.file["metrics"][m] for m in METRICS]
        means = [s["mean"] for s in scales]
        seen = 20.0
        result = []
        for t, (values, _, _) in enumerate(recording):
            index = 0
            for s, mean, value in zip(scales, means, values):
                if s["levels"] == 2:
                    level = int(value >= mean)
                else:
                    level = 1 + (value > mean + s["high"] * s["deviation"]) - (value < mean - s["low"] * s["deviation"])
                index = index * s["levels"] + level
            result.append(index)
            weight = healthy(t, index)
            seen = min(seen + weight, 300.0)
            means = [mean + weight / seen * (value - mean) for mean, value in zip(means, values)]
        return result

    def forecasts(self, recording):
        """P(trouble) of the next sample, after each."""
        alpha = []
        out = []
        meaning = self.file["meaning"]

        def trouble(log_p):
            total = log_sum(log_p)
            return 1 - sum(math.exp(p - total) * sum(meaning[i][:3]) for i, p in enumerate(log_p))

        def step(_, symbol):
            before = [self.pi[j] if not alpha else log_sum(alpha[-1][i] + self.a[i][j] for i in range(self.n))
                      for j in range(self.n)]
            alpha.append([before[j] + self.b[j][symbol] for j in range(self.n)])
            out.append(trouble([log_sum(alpha[-1][i] + self.a[i][j] for i in range(self.n)) for j in range(self.n)]))
            return min(max(1 - trouble(alpha[-1]), 0.0), 1.0)

        self.symbols(recording, step)
        return out

    def round(self, sequences, prior):
        """One round of Baum-Welch: (log likelihood before it, initial, transition, emission after it)."""
        n, m = self.n, len(self.b[0])
        likelihood = 0.0
        initial = [prior / n] * n
        transition = [[prior / n] * n for _ in range(n)]
        emission = [[prior / m] * m for _ in range(n)]
        for o in sequences:
            alpha = [[self.pi[i] + self.b[i][o[0]] for i in range(n)]]
            for symbol in o[1:]:
                alpha.append([log_sum(alpha[-1][i] + self.a[i][j] for i in range(n)) + self.b[j][symbol] for j in range(n)])
            beta = [[0.0] * n]
            for symbol in reversed(o[1:]):
                beta.append([log_sum(self.a[i][j] + self.b[j][symbol] + beta[-1][j] for j in range(n)) for i in range(n)])
            beta.reverse()
            total = log_sum(alpha[-1])
            likelihood += total
            for t, symbol in enumerate(o):
                for i in range(n):
                    gamma = math.exp(alpha[t][i] + beta[t][i] - total)
                    emission[i][symbol] += gamma
                    if t == 0:
                        initial[i] += gamma
                    if t + 1 < len(o):
                        for j in range(n):
                            transition[i][j] += math.exp(
                                alpha[t][i] + self.a[i][j] + self.b[j][o[t + 1]] + beta[t + 1][j] - total)

        def normal(row):
            return [x / sum(row) for x in row]

        return likelihood, normal(initial), [normal(r) for r in transition], [normal(r) for r in emission]


def worst(a, b):
    if isinstance(a, list):
        return max(worst(x, y) for x, y in zip(a, b, strict=True))
    return abs(a - b)


def expect(what, difference, most):
    print(f"{what}: differs by {difference:.2e}")
    if not difference <= most:
        sys.exit(f"{what}: more than {most}")


def main():
    with tempfile.TemporaryDirectory() as work:
        with tarfile.open(RECORDINGS) as archive:
            for name in USED:
                archive.extract(name, work)
        paths = [os.path.join(work, name) for name in USED]
        recordings = [read_recording(p) for p in paths]
        model = [os.path.join(work, f"model-{rounds}.json") for rounds in (1, 2)]

        # Training: a round more of vmsrs is a round of the reference.
        for start in ("labels", "random"):
            said = [json.loads(run("train", "--start", start, "--restarts", "1", "--rounds", str(rounds), "--stop", "1e-9",
                                   "--prior", "0.5", "--model", model[rounds - 1], *paths)) for rounds in (1, 2)]
            first, second = (Reference(m) for m in model)
            sequences = [first.symbols(r, lambda t, _, r=r: 1.0 if r[t][1] in ("normal", "-") else 0.0) for r in recordings]
            likelihood, initial, transition, emission = first.round(sequences, 0.5)
            expect(f"{start}: log likelihood", abs(likelihood - said[1]["log_likelihood_last"]), 1e-7)
            expect(f"{start}: initial", worst([initial], second.file["initial"]), 1e-9)
            expect(f"{start}: transition", worst(transition, second.file["transition"]), 1e-9)
            expect(f"{start}: emission", worst(emission, second.file["emission"]), 1e-9)

        # Forecasting.
        run("train", "--model", model[0], *paths)
        lines = os.path.join(work, "forecasts")
        scores = json.loads(run("eval", "--json", "--model", model[0], "--forecasts", lines, *paths))
        with open(lines, encoding="ascii") as f:
            forecasts = [json.loads(line) for line in f]
        reference = Reference(model[0])
        expected = [x for r in recordings for x in reference.forecasts(r)]
        expect("forecast", worst(expected, [f["trouble"] for f in forecasts]), 1e-9)
        expect("its states", max(abs(sum(f["states"].values()) - 1) for f in forecasts), 1e-9)
        said = [f["trouble"] >= reference.file["threshold"] for f in forecasts]
        at = hits = wrong = 0
        for r in recordings:
            for t in range(len(r) - 1):
                ill = r[t + 1][1] != "normal"
                hits += ill and said[at + t]
                wrong += said[at + t] and not ill
            at += len(r)
        expect("precision by sample", abs(scores["all"]["sample_precision"] - hits / max(hits + wrong, 1)), 1e-12)
        if scores["all"]["failures"] != 3:
            sys.exit(f"{scores['all']['failures']} failures in three recordings of one each")

        # Recording and following a process, to its end and beyond.
        sleeper = subprocess.Popen(["sleep", "0.6"])
        out = os.path.join(work, "recorded.csv")
        with subprocess.Popen([VMSRS, "predict", "record", "--pid", str(sleeper.pid), "--out", out, "--every", "100",
                               "--linger", "1", "--health", "failed", "--load", "low"]) as recorder:
            said = run("follow", "--model", model[0], "--pid", str(sleeper.pid), "--every", "100", "--seconds", "1",
                       "--retrain", "1") if sleeper.poll() is None else ""
            sleeper.wait()
        followed = [json.loads(line) for line in said.splitlines()]
        recorded = read_recording(out)
        alive = [r for r in recorded if r[0][1] > 0]
        if recorder.returncode != 0 or not alive or len(recorded) - len(alive) < 8 or not followed:
            sys.exit(f"recorded {len(recorded)} samples, {len(alive)} alive, status {recorder.returncode}; "
                     f"followed {len(followed)}")
        if {(r[1], r[2]) for r in recorded} != {("failed", "low")}:
            sys.exit("the labels are not those that were asked for")

        # What is wrong is said, with status 2.
        for arguments, message in (
                (("eval", "--model", "/nonexistent", *paths), "/nonexistent: No such file or directory"),
                (("eval", "--model", paths[0], *paths), "no model: it is not JSON"),
                (("train", "--model", model[0], model[1]), "no recording: its first line is not"),
                (("train", "--model", model[0], "--levels", "3,3,4,3", *paths), "four numbers, each 2 or 3"),
                (("train", "--model", "/nonexistent/model", *paths), "/nonexistent/model.new: No such file or directory"),
                (("record", "--pid", "2147483632"), "no process 2147483632"),
                (("simulate", "--model", model[0], "--shortest", "2000", *paths), "--shortest is longer than --longest"),
                (("eval", "--model", model[0], "--ahead", "0", *paths), "--ahead"),
                ((), "subcommand")):
            said = run(*arguments, status=2)
            if message not in said:
                sys.exit(f"{arguments}: {message!r} is not said: {said}")
    print("ok")


main()
