#!/usr/bin/env python3
"""What srs-c++ costs: loops of stores, and a mix of requests without sockets (bench/wrapped/).

usage: bench/run wrapped [ROUNDS] [SECONDS] [LEVEL]      default: 3 0.3 -O2

The same source is built by g++ and by srs-c++, and run natively and under the monitor, in turns; each figure is the
best of all rounds, and its ratio to g++ run natively. "scopes": each loop (200 repetitions) and request in a scope;
"first longs" is one repetition a scope, so that each store is the scope's first of its word.
"""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(ROOT, "build", "release", "bin")
WORK = os.path.join(ROOT, "bench", "wrapped")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = sys.argv[2] if len(sys.argv) > 2 else "0.3"
    level = sys.argv[3] if len(sys.argv) > 3 else "-O2"
    plain = [os.path.join(WORK, name) for name in ("loops.cpp", "work.cpp")]
    with tempfile.TemporaryDirectory() as work:
        def build(name, compiler, *more):
            program = os.path.join(work, name)
            subprocess.run([compiler, "-std=c++20", level, "-g", "-w", "-I" + ROOT, *plain, *more, "-o", program,
                            "-lpthread"], check=True)
            return program
        wrapper = os.path.join(BIN, "srs-c++")
        native = build("native", "g++")
        logged = build("logged", wrapper)
        scoped = build("scoped", wrapper, os.path.join(WORK, "scope.cpp"), "-Wl,--wrap=run_loop,--wrap=run_request")
        monitor = [os.path.join(BIN, "vmsrs"), "run", "--"]
        ways = {"g++": [native], "g++, monitor": monitor + [native], "srs-c++": [logged],
                "srs-c++, monitor": monitor + [logged], "scopes": monitor + [scoped]}
        best = {}
        for _ in range(rounds):
            for way, command in ways.items():
                said = subprocess.run(command + [seconds], capture_output=True, text=True, check=True, timeout=300).stdout
                for line in said.splitlines():
                    name, figure = line.rsplit(maxsplit=1)
                    name = name.strip()
                    best[name, way] = min(best.get((name, way), 1e18), float(figure))
    names = list(dict.fromkeys(name for name, _ in best))
    print("| ns a store, or a request |", " | ".join(ways), "|")
    print("|---|" + "---|" * len(ways))
    for name in names:
        base = best[name, "g++"]
        cells = [f"{best[name, way]:.2f}" + ("" if way == "g++" else f" ({best[name, way] / base:.2f}x)") for way in ways]
        print(f"| {name} |", " | ".join(cells), "|")


main()
