#!/usr/bin/env python3
"""What recovery costs, against what else could be done: the figures of docs/costs.md, measured in one run.

  bench/run recovery [--json FILE] [--svg DIR] [--parts LIST] [--pairs N] [--seconds S]

Parts (all of them, unless named):
  users    the bookstore with 20, 50, 100 and 200 users: recovery on against off and against no monitor
  mix      a mix of requests without sockets, built by srs-c++, each in a scope, against g++ run natively
  fault    processor time, exits and time until a fault is undone and landed; threads that are not concerned
  rate     100 crashes a second among healthy users: their throughput, and what they were answered
  peers    checkpoints by fork() every 10, 100 and 1,000 ms, and a restart, against VMSRS
  model    from how many users on going forward is cheaper than rolling back (needs mix, fault and peers)
  memory   resident memory of the monitor beside the guest's

Ratios come from alternating pairs, with the 95 % interval of their mean (Student's t).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

from common.svg import chart
from recovery import bookstore, faults, model, peers

PARTS = {"users": bookstore.users, "mix": peers.mix, "fault": faults.cost, "rate": bookstore.rate, "peers": peers.against,
         "model": model.crossover, "memory": faults.memory}


def main():
    parser = argparse.ArgumentParser(prog="bench/run recovery", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", default="recovery.json")
    parser.add_argument("--svg", metavar="DIR", help="plots go there")
    parser.add_argument("--parts", metavar="LIST", default=",".join(PARTS))
    parser.add_argument("--pairs", type=int, default=6, metavar="N", help="of each ratio: 2 to 31")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="each run of the mix and of a peer")
    options = parser.parse_args()
    wanted = [name for name in options.parts.split(",") if name]
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"--parts: there is no '{unknown[0]}'; there are {', '.join(PARTS)}")
    if not 2 <= options.pairs <= 31:
        parser.error("--pairs: 2 to 31")
    if not 0.05 <= options.seconds <= 30:
        parser.error("--seconds: 0.05 to 30")
    if options.svg:
        os.makedirs(options.svg, exist_ok=True)
    results = {}
    if os.path.exists(options.json) and set(wanted) != set(PARTS):  # parts of an earlier run stay
        try:
            with open(options.json, encoding="utf-8") as file:
                results = json.load(file)
        except ValueError as error:
            parser.error(f"--json: {options.json} is no earlier run's: {error}")
    if "model" in wanted and (missing := [part for part in ("mix", "fault", "peers") if part not in {*wanted, *results}]):
        parser.error(f"--parts: model needs {', '.join(missing)}, in this run or in {options.json}")
    with tempfile.TemporaryDirectory(prefix="bench-recovery-") as scratch:
        options.scratch = scratch
        for name, part in PARTS.items():
            if name not in wanted:
                continue
            print(f"== {name}", flush=True)
            results[name], plots = part(options, results)
            for plot in plots if options.svg else []:
                chart(os.path.join(options.svg, plot.pop("file")), **plot)
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(results, file, indent=1)
                file.write("\n")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench/run recovery: {error}\n{error.stdout or ''}{error.stderr or ''}")
