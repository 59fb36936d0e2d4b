#!/usr/bin/env python3
"""What recovery costs the bookstore: throughput with --recovery on against off, in alternating pairs of one run.

  bench/run bookstore [--pairs N] [--slices N] [--users U] [--requests R] [--buyers P] [--json FILE]

A pair is N short runs of each (--slices), in turns, whose rates are averaged: this machine changes speed by a sixth
within seconds, which pairs of one long run each do not even out. Prints one row a pair, the mean ratio with its 95 %
confidence interval (Student's t over the pairs), the same of the server's processor time a request, exits a request,
and what logging costs a request: records counted by the store times the nanoseconds of one, measured by the hot-path
benchmark just before. --native adds a run without the monitor to each pair.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from common.pairs import MOST_PAIRS, mean_ratio

BIN = "build/release/bin"


def measure(options, host, scratch):
    result, stats = os.path.join(scratch, "load.json"), os.path.join(scratch, "stats.json")
    host = [word.replace("{stats}", stats) for word in host]
    command = [f"{BIN}/bookstore-load", "--users", str(options.users), "--requests", str(options.requests), "--seconds", "120",
               "--buyers", ",".join(str(i) for i in range(1, options.users + 1, options.every)), "--json", result, "--spawn",
               "--", *host, f"{BIN}/bookstore", "--port", "0", "--threads", str(options.users + 4)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    with open(result, encoding="utf-8") as file:
        load = json.load(file)
    figures = {"rate": load["requests_per_second"], "requests": load["requests"],
               "cpu_us": load["server_exit"]["cpu_seconds"] * 1e6 / load["requests"]}
    if host:
        with open(stats, encoding="utf-8") as file:
            figures.update({key: value for key, value in json.load(file).items() if key in ("kvm_exits", "log_records")})
    return figures


def measure_in_turns(options, hosts, number, scratch):
    slices = {name: [] for name in hosts}
    for turn in range(number, number + options.slices):
        # Every second time in the other order, so that a drift of the machine favours nobody.
        for name in hosts if turn % 2 == 0 else reversed(hosts):
            slices[name].append(measure(options, hosts[name], scratch))
    return {name: {key: statistics.mean(figures[key] for figures in runs) for key in runs[0]} for name, runs in slices.items()}


def store_nanoseconds():
    """One first store in a scope of many: the lowest of the hot-path benchmark's repetitions."""
    command = ["build/release/bench/hotpath", "--benchmark_filter=^first_store/4096$", "--benchmark_repetitions=5",
               "--benchmark_format=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    runs = json.loads(done.stdout)["benchmarks"]
    return min(run["ns"] for run in runs if run.get("run_type") == "iteration")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--requests", type=int, default=400, help="of each user")
    parser.add_argument("--every", type=int, default=2, help="every so many users buy; the rest browse")
    parser.add_argument("--native", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    if not 2 <= options.pairs <= MOST_PAIRS:
        parser.error(f"--pairs: 2 to {MOST_PAIRS}")
    if options.slices < 1:
        parser.error("--slices: at least 1")
    hosts = {"on": [f"{BIN}/vmsrs", "run", "--stats-json", "{stats}", "--"],
             "off": [f"{BIN}/vmsrs", "run", "--recovery", "off", "--stats-json", "{stats}", "--"]}
    if options.native:
        hosts["native"] = []
    nanoseconds = store_nanoseconds()
    pairs = []
    print(f"{'pair':>4} " + " ".join(f"{name + ' /s':>11}" for name in hosts) + f" {'on/off':>7}")
    with tempfile.TemporaryDirectory() as scratch:
        for host in hosts.values():  # not counted: files and pages get warm
            measure(options, host, scratch)
        for number in range(options.pairs):
            pair = measure_in_turns(options, hosts, number, scratch)
            pairs.append(pair)
            print(f"{number + 1:>4} " + " ".join(f"{pair[name]['rate']:>11.0f}" for name in hosts) +
                  f" {pair['on']['rate'] / pair['off']['rate']:>7.3f}", flush=True)
    mean, half = mean_ratio([pair["on"]["rate"] / pair["off"]["rate"] for pair in pairs])
    cpu, cpu_half = mean_ratio([pair["on"]["cpu_us"] / pair["off"]["cpu_us"] for pair in pairs])
    records = statistics.mean(pair["on"]["log_records"] / pair["on"]["requests"] for pair in pairs)
    result = {"pairs": len(pairs), "slices": options.slices,
              "on_over_off": mean, "ci95": [mean - half, mean + half],
              "cpu_on_over_off": cpu, "cpu_ci95": [cpu - cpu_half, cpu + cpu_half],
              "exits_per_request_on": statistics.mean(p["on"]["kvm_exits"] / p["on"]["requests"] for p in pairs),
              "exits_per_request_off": statistics.mean(p["off"]["kvm_exits"] / p["off"]["requests"] for p in pairs),
              "log_records_per_request": records, "ns_per_first_store": nanoseconds,
              "logging_ns_per_request": records * nanoseconds,
              "median_cpu_us": {name: statistics.median(pair[name]["cpu_us"] for pair in pairs) for name in hosts},
              "median_rate": {name: statistics.median(pair[name]["rate"] for pair in pairs) for name in hosts}}
    print(f"recovery on / off: {mean:.3f} (95 %: {mean - half:.3f} to {mean + half:.3f})")
    print(f"processor time a request, on / off: {cpu:.3f} (95 %: {cpu - cpu_half:.3f} to {cpu + cpu_half:.3f}); "
          + ", ".join(f"{name} {us:.0f} us" for name, us in result["median_cpu_us"].items()))
    print(f"exits a request: {result['exits_per_request_on']:.2f} on, {result['exits_per_request_off']:.2f} off; "
          f"{records:.1f} log records x {nanoseconds:.1f} ns = {records * nanoseconds:.0f} ns of logging a request")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


main()
