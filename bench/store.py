#!/usr/bin/env python3
"""What a scope's first store of a word costs: plain, in libsrs's log, in the paper's design (strict), in libitm's.

  bench/run store [--repetitions N] [--json FILE]

One run: the hot-path benchmark (bench/hotpath_bench.cpp) without the monitor, under it, and under it with --store=strict,
in turns, so that each row has had the same neighbours. A scope stores each of 1,024 words once; begin and commit are in
the figure. "log, nobody drains" is the guest's part alone: its ring is emptied by the program itself. Prints a table: one
thread, and two threads that store to every other word of the same cache lines. The least of the turns is the machine's
own figure; the median says how much others disturbed. Processor time is the storing thread's; the clock also has the
waits for the store process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HOTPATH = "build/release/bench/hotpath"
VMSRS = ["build/release/bin/vmsrs", "run", "--memory", "2G"]
# row -> (before the program, one thread's benchmark, two threads')
ROWS = {
    "native": ([], "plain_store", "plain_store_shared_lines"),
    "log, nobody drains": ([], "first_store/1024", "first_store_shared_lines"),
    "log": ([*VMSRS, "--"], "first_store/1024", "first_store_shared_lines"),
    "strict": ([*VMSRS, "--store=strict", "--"], "first_store/1024", "first_store_shared_lines"),
    "libitm": ([], "libitm_first", "libitm_shared_lines"),
}


def measure(before, benchmarks, scratch):
    """Nanoseconds a store, by benchmark: (on the clock, of the guest's processor time)."""
    out = os.path.join(scratch, "out.json")
    wanted = "|".join(f"{name}(/real_time.*)?" for name in benchmarks)
    command = [*before, HOTPATH, f"--benchmark_filter=^({wanted})$", f"--benchmark_out={out}", "--benchmark_min_time=0.05"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    with open(out, encoding="utf-8") as file:
        found = json.load(file)["benchmarks"]
    figures = {}
    for entry in found:
        name = next(b for b in benchmarks if entry["name"] == b or entry["name"].startswith(b + "/real_time"))
        stores = 512 if "shared_lines" in name else 1024
        figures[name] = (entry["real_time"] * entry["threads"] / stores, entry["cpu_time"] / (stores / entry["threads"]))
        if before and "monitor" not in entry.get("label", "monitor"):
            sys.exit(f"{name}: not under the monitor")
    return figures


def main():
    parser = argparse.ArgumentParser(prog="bench/run store", description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10, metavar="N", help="turns")
    parser.add_argument("--json", metavar="FILE", default="store.json")
    options = parser.parse_args()
    found = {(row, n): [] for row in ROWS for n in (1, 2)}
    with tempfile.TemporaryDirectory(prefix="bench-store-") as scratch:
        for _ in range(options.repetitions):
            for row, (before, one, two) in ROWS.items():
                figures = measure(before, (one, two), scratch)
                found[row, 1].append(figures[one])
                found[row, 2].append(figures[two])
    result = {"unit": "ns a store", "load_average": os.getloadavg()[0], "repetitions": options.repetitions, "rows": {}}
    print("| ns a store | one thread, processor: least | clock: least | median | two threads, clock: least | median |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        clock = {n: [turn[0] for turn in found[row, n]] for n in (1, 2)}
        figures = [min(turn[1] for turn in found[row, 1])]
        figures += [f(clock[n]) for n in (1, 2) for f in (min, statistics.median)]
        print(f"| {row} | " + " | ".join(f"{value:.1f}" if value < 1000 else f"{value:,.0f}" for value in figures) + " |")
        result["rows"][row] = {
            name: [{"clock": turn[0], "processor": turn[1]} for turn in found[row, n]]
            for name, n in (("one_thread", 1), ("two_threads", 2))
        }
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
