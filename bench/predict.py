#!/usr/bin/env python3
"""The predictor on recordings of real trouble: precision, recall, lead time, what it costs, and policies of epochs.

usage: bench/run predict [--recordings FILE.tar.xz|DIR] [--plot FILE.svg] [--live]

Episodes 1 to 14 of each kind and the healthy recording of 15 minutes train, the later ones and the healthy hour judge
(scripts/record-trouble makes them). --plot draws the forecasts over one episode of each kind. --live follows a running
bookstore for two minutes and says what CPU the predictor took.
"""

import argparse
import glob
import json
import os
import re
import resource
import subprocess
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VMSRS = os.path.join(ROOT, "build", "release", "bin", "vmsrs")
KINDS = ("leak", "cpu", "convoy")
TRAINING = 14


def predict(*arguments):
    return subprocess.run([VMSRS, "predict", *arguments], capture_output=True, text=True, check=True).stdout


def number(path):
    return int(re.search(r"-(\d+)\.csv$", path).group(1))


def split(folder):
    """(what trains, what judges)"""
    train, judge = [os.path.join(folder, "healthy-2.csv")], [os.path.join(folder, "healthy-1.csv")]
    for kind in KINDS:
        for path in sorted(glob.glob(os.path.join(folder, f"{kind}-*.csv")), key=number):
            (train if number(path) <= TRAINING else judge).append(path)
    return train, judge


def healthy_cost(folder, model):
    """CPU seconds of a forecast, from the healthy hour, without its reading; and of all of `eval`."""
    path = os.path.join(folder, "healthy-1.csv")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    predict("eval", "--model", model, path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with open(path, encoding="ascii") as f:
        samples = len(f.readlines()) - 2
    print(f"a recorded hour: {samples} forecasts in {seconds:.3f} s of CPU, {1e6 * seconds / samples:.0f} us each, "
          f"reading included")


def live(model):
    """The predictor beside a guest: its own CPU, by the kernel's account of its whole life."""
    guest = subprocess.Popen([VMSRS, "run", "--", os.path.join(os.path.dirname(VMSRS), "bookstore"), "--port", "0"],
                             stdout=subprocess.PIPE)
    guest.stdout.readline()
    try:
        for retrain in ("0", "10"):
            begin = time.time()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            predict("follow", "--model", model, "--pid", str(guest.pid), "--seconds", "60", "--retrain", retrain)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"follow, 1 Hz, retraining every {retrain} s: {cpu:.3f} s of CPU in {time.time() - begin:.0f} s: "
                  f"{100 * cpu / (time.time() - begin):.3f} % of a core, its start included")
    finally:
        guest.terminate()
        guest.wait()


def polyline(points, colour, width=1.2):
    return (f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')


def plot(judge, forecasts, threshold, path):
    """One episode of each kind: the probability of trouble over time, on what the users saw."""
    width, height, gap = 820, 120, 46
    shown = [next(p for p in judge if os.path.basename(p).startswith(kind)) for kind in KINDS]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 90}" height="{len(shown) * (height + gap) + 30}" '
           f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for row, recording in enumerate(shown):
        with open(recording, encoding="ascii") as f:
            samples = [line.split(",") for line in f.read().splitlines()[2:]]
        times = [float(s[0]) for s in samples]
        top, scale = 26 + row * (height + gap), width / times[-1]

        def at(t, value, top=top, scale=scale):
            return 50 + t * scale, top + height * (1 - value)

        for health, colour in (("abnormal", "#fff0cc"), ("failed", "#f6cccc")):
            span = [t for t, s in zip(times, samples) if s[5] == health]
            if span:
                x = at(span[0], 1)[0]
                out.append(f'<rect x="{x:.1f}" y="{top}" width="{at(span[-1], 1)[0] - x:.1f}" height="{height}" fill="{colour}"/>')
        out.append(f'<rect x="50" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
        out.append(f'<text x="50" y="{top - 6}">{os.path.basename(recording)[:-4]}: P(trouble at the next sample); '
                   f'yellow: trouble begun, red: users see failure</text>')
        for value in (0, 0.5, 1):
            out.append(f'<text x="44" y="{at(0, value)[1] + 4:.0f}" text-anchor="end">{value:g}</text>')
        for t in range(0, int(times[-1]) + 1, 20):
            out.append(f'<text x="{at(t, 0)[0]:.0f}" y="{top + height + 14}" text-anchor="middle">{t} s</text>')
        out.append(polyline([at(0, threshold), at(times[-1], threshold)], "#bbb", 1))
        out.append(polyline([at(f["time"], f["trouble"]) for f in forecasts if f["recording"] == recording], "#1a5fb4", 1.6))
    out.append("</svg>")
    with open(path, "w", encoding="ascii") as f:
        f.write("\n".join(out) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recordings", default=os.path.join(ROOT, "bench", "recordings", "trouble.tar.xz"))
    p.add_argument("--plot")
    p.add_argument("--live", action="store_true")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = a.recordings
        if not os.path.isdir(folder):
            folder = os.path.join(work, "recordings")
            with tarfile.open(a.recordings) as archive:
                archive.extractall(folder)
        train, judge = split(folder)
        print(f"{len(train)} recordings train, {len(judge)} judge")
        model = os.path.join(work, "model")
        for start in ("random", "labels"):
            said = json.loads(predict("train", "--start", start, "--model", model, *train))
            print(f"\nstart {start}: {said['rounds']} rounds, log likelihood {said['log_likelihood_first']:.0f} to "
                  f"{said['log_likelihood_last']:.0f}, threshold {said['threshold']}\nstates {', '.join(said['states'])}")
            for past in ("best", "all"):
                print(f"\nstart {start}, past {past}")
                print(predict("eval", "--model", model, "--past", past, *judge), end="")
        threshold = said["threshold"]
        for share in ("0.01", "0.001", "0"):
            print(f"\nepochs, start labels, past all; a checkpoint stops the guest for 1 ms and {share} of its epoch")
            print(predict("simulate", "--model", model, "--share", share, *judge), end="")
        healthy_cost(folder, model)
        if a.plot:
            lines = os.path.join(work, "forecasts")
            predict("eval", "--model", model, "--forecasts", lines, *judge)
            with open(lines, encoding="ascii") as f:
                plot(judge, [json.loads(line) for line in f], threshold, a.plot)
        if a.live:
            live(model)


main()
