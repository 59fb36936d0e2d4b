"""The programs that bench/run recovery runs, and how."""

import json
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RELEASE = os.path.join(ROOT, "build", "release")
BIN = os.path.join(RELEASE, "bin")
VMSRS = os.path.join(BIN, "vmsrs")
HERE = os.path.join(ROOT, "bench", "recovery")


def build(options, name, compiler, sources, *more):
    program = os.path.join(options.scratch, name)
    if not os.path.exists(program):
        subprocess.run([compiler, "-std=c++20", "-O2", "-g", "-w", "-I" + ROOT,
                        *(os.path.join(ROOT, "bench", source) for source in sources), *more, "-o", program, "-lpthread"],
                       check=True)
    return program


def peer(options):
    return build(options, "peers", "g++", ["recovery/peers.cpp", "recovery/crash.cpp", "wrapped/work.cpp"])


def scoped_peer(options):
    return build(options, "peers-srs", os.path.join(BIN, "srs-c++"),
                 ["recovery/peers.cpp", "recovery/crash.cpp", "wrapped/work.cpp", "recovery/scope.cpp"],
                 "-Wl,--wrap=run_request,--wrap=run_crashing")


def crasher(options):
    return build(options, "fault", "g++", ["recovery/fault.cpp"], "-I" + os.path.join(ROOT, "libsrs", "include"),
                 os.path.join(RELEASE, "lib", "libsrs.so"), "-Wl,-rpath," + os.path.join(RELEASE, "lib"))


def run_json(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def monitored(options, command, *monitor):
    """What the program printed, and the monitor's counters."""
    stats = os.path.join(options.scratch, "stats.json")
    found = run_json([VMSRS, "run", *monitor, "--report", os.devnull, "--stats-json", stats, "--", *command])
    with open(stats, encoding="utf-8") as file:
        return found, json.load(file)
