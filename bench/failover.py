#!/usr/bin/env python3
"""What protection costs the bookstore and redis, and how long a failover takes: docs/failover.md.

  bench/run failover [--rounds N] [--users U] [--requests R] [--failovers F] [--json FILE]

One row for no protection and for each mode and longest epoch, alternating in N rounds of one run: requests a second, its
ratio to no protection, answers' mean, median and 99th percentile, epochs a second and their bytes. The bookstore has U
users; redis gets SETs of 100 bytes to 10,000 keys from as many connections (redis-benchmark). Then F failovers of the
bookstore (scripts/failover-campaign): the wait that a client saw.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "servers"))
sys.dont_write_bytecode = True
import programs  # noqa: E402

BIN = os.path.join(ROOT, "build", "release", "bin")
ROWS = [(server, mode, epoch) for server in ("bookstore", "redis")
        for mode, epoch in [("none", 0)] + [(mode, epoch) for mode in ("strict", "relaxed") for epoch in (25, 100, 1000)]]
REDIS_REQUESTS = 50  # for each of the bookstore's


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def load_bookstore(options, prefix, scratch):
    load = os.path.join(scratch, "load.json")
    run([f"{BIN}/bookstore-load", "--users", str(options.users), "--requests", str(options.requests), "--seconds", "120", "--json", load,
         "--spawn", "--", *prefix, f"{BIN}/bookstore", "--port", "0", "--threads", str(options.users + 4)])
    with open(load, encoding="utf-8") as file:
        result = json.load(file)
    latency = result["latency_ms"]
    return {"rate": result["requests_per_second"], "mean_ms": 1000 * options.users / result["requests_per_second"],
            "p50_ms": latency["p50"], "p99_ms": latency["p99"], "seconds": result["seconds"]}


def load_redis(options, prefix, scratch):
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=scratch) as folder, programs.Redis(folder, prefix) as server:
        ask = ["redis-benchmark", "-p", str(server.port), "-t", "set", "-c", str(options.users), "-d", "100", "-r", "10000", "--csv", "-n"]
        run([*ask, "2000"])
        said = run([*ask, str(options.users * options.requests * REDIS_REQUESTS // 10)])
        server.stop()
    _, rate, mean, _, p50, _, p99, _ = (word.strip('"') for word in said.splitlines()[-1].split(","))
    return {"rate": float(rate), "mean_ms": float(mean), "p50_ms": float(p50), "p99_ms": float(p99), "seconds": time.monotonic() - begin}


def measure(options, server, mode, epoch, scratch):
    events = os.path.join(scratch, "events")
    if os.path.exists(events):
        os.remove(events)
    protect = [] if mode == "none" else [f"--protect={mode}", "--epoch", str(epoch), "--events", events]
    load = load_bookstore if server == "bookstore" else load_redis
    figures = load(options, [f"{BIN}/vmsrs", "run", *protect, "--"], scratch)
    figures.update({"epochs_per_second": 0.0, "bytes_per_second": 0.0})
    seconds = figures.pop("seconds")
    if mode != "none":
        with open(events, encoding="utf-8") as file:
            sent = re.search(r"(\d+) epochs, (\d+) bytes", file.read())
        figures["epochs_per_second"] = int(sent[1]) / seconds
        figures["bytes_per_second"] = int(sent[2]) / seconds
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--requests", type=int, default=300, help="of each user")
    parser.add_argument("--failovers", type=int, default=20)
    parser.add_argument("--json")
    options = parser.parse_args()
    found = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.rounds):
            for row in ROWS if number % 2 == 0 else reversed(ROWS):
                found[row].append(measure(options, *row, scratch))
        rows = []
        for (server, mode, epoch), runs in found.items():
            rows.append({"server": server, "mode": mode, "epoch_ms": epoch,
                         **{key: statistics.median(run[key] for run in runs) for key in runs[0]}})
        print(f"{'server':<11}{'mode':<9}{'epoch ms':>9}{'requests/s':>12}{'of none':>9}{'mean ms':>9}{'p50 ms':>8}{'p99 ms':>8}"
              f"{'epochs/s':>10}{'MB/s':>8}")
        for row in rows:
            row["of_none"] = row["rate"] / next(r["rate"] for r in rows if r["server"] == row["server"] and r["mode"] == "none")
            print(f"{row['server']:<11}{row['mode']:<9}{row['epoch_ms']:>9}{row['rate']:>12.0f}{row['of_none']:>9.2f}{row['mean_ms']:>9.2f}"
                  f"{row['p50_ms']:>8.2f}{row['p99_ms']:>8.2f}{row['epochs_per_second']:>10.1f}{row['bytes_per_second'] / 1e6:>8.2f}",
                  flush=True)
        failovers = None
        if options.failovers > 0:
            name = os.path.join(scratch, "failovers.json")
            done = subprocess.run(["scripts/failover-campaign", "--failovers", str(options.failovers), "--users",
                                   str(options.users), "--json", name], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
            with open(name, encoding="utf-8") as file:
                failovers = json.load(file)
            print(f"{failovers['failovers']} failovers: a client waited {failovers['pause_ms']['p50']} ms (median), "
                  f"{failovers['pause_ms']['max']} ms (longest); wrong answers {failovers['wrong_answers']}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"rows": rows, "failovers": failovers}, file, indent=1)
            file.write("\n")


main()
