#!/usr/bin/env python3
"""inject.py BUILD: `vmsrs inject` as its user meets it. What it says of bad options; that a log replays; and a slice of
scripts/inject-campaign, in which each kind of crash must be recovered. Exit status 77: skipped.
"""

import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import injection
import programs

SKIPPED = 77
WRONG_OPTIONS = (
    (["--kinds", "crush"], "--kinds: \"crush\" is none of all, crash, hang"),
    (["--at", "never"], "--at: \"never\" is none of call, hypercall, store, delay"),
    (["--where", "here"], "--where: \"here\" is none of any, request, scope, program"),
    (["--n", "0"], "--n 0: a number from 1 on"),
    (["--n", "9:3"], "--n 9:3: a number from 1 on"),
    (["--after-us", "soon"], "--after-us soon: microseconds"),
    (["--count", "0"], "--count"),
    (["--at", "call", "--call", "reed"], "reed: no such system call"),
    (["--plan", "/nowhere/plan"], "--plan /nowhere/plan: No such file"),
    (["--plan", "/dev/null", "--replay", "/dev/null"], "exclude each other"),
    (["--plan", "/dev/null"], "--plan /dev/null: no injection in it"),
    (["--log", "/nowhere/log"], "--log /nowhere/log: No such file"),
    (["--recovery", "off", "--where", "scope"], "need --recovery=on"),
)


def expect(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"{what}: {got!r}, not {wanted!r}")


def options(vmsrs):
    for words, said in WRONG_OPTIONS:
        done = subprocess.run([vmsrs, "inject", *words, "--", "/bin/true"], capture_output=True, text=True, timeout=60,
                              check=False)
        expect(f"status of {words}", done.returncode, 2)
        if said not in done.stderr:
            raise SystemExit(f"{words}: says {done.stderr!r}")


def injections(log):
    return [line for line in injection.json_lines(log) if line["type"] == "injection"]


def replay(vmsrs, scratch):
    """A program of one thread: the same instruction, register and bit again."""
    first, second = os.path.join(scratch, "first"), os.path.join(scratch, "second")
    program = ["--", "/usr/bin/sha256sum", sys.executable]
    drawn = ["--kinds", "flip_register", "--at", "call", "--n", "5:20", "--steps", "40", "--seed", "11", "--count", "2"]
    for words in (["--log", first, *drawn], ["--log", second, "--replay", first]):
        subprocess.run([vmsrs, "inject", "--pollers", "0", *words, *program], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=100, check=False)
    once, again = injections(first), injections(second)
    if not once:
        raise SystemExit("nothing was injected")
    for a, b in zip(once, again):
        for key in ("kind", "thread", "ip", "sp", "register", "bit", "old_value", "count", "stepped"):
            expect(f"replayed {key}", b.get(key), a.get(key))
    expect("replayed", len(again), len(once))


def slice_of_campaign(build, scratch):
    results = os.path.join(scratch, "results")
    script = os.path.join(programs.ROOT, "scripts", "inject-campaign")
    done = subprocess.run([sys.executable, script, "run", "--build", build, "--results", results, "--scale", "0.05",
                           "--only", "^srs-c.*crash, at a store"], timeout=150, capture_output=True, text=True, check=False)
    expect("the campaign's status", (done.returncode, done.stderr), (0, ""))
    runs = injection.json_lines(results)
    found = [entry for run in runs for entry in run["injections"] if entry[2] != "the run ended first"]
    outcomes = {entry[1] for entry in found}
    if len(found) < 40 or outcomes != {"recovered"}:
        raise SystemExit(f"{len(found)} injections came to {json.dumps(sorted(map(str, found)))[:2000]}")
    expect("kinds of crash", len({entry[0] for entry in found}), 14)
    told, requests = sum(run["told"] for run in runs), sum(run["requests"] for run in runs)
    if not 0 < told <= len(found) or requests < 1000:
        raise SystemExit(f"{told} clients were told of {len(found)} faults, in {requests} requests")


def main():
    build = os.path.abspath(sys.argv[1])
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("skipped: needs /dev/kvm")
        return SKIPPED
    vmsrs = os.path.join(build, "bin", "vmsrs")
    with tempfile.TemporaryDirectory(prefix="vmsrs-inject-") as scratch:
        options(vmsrs)
        replay(vmsrs, scratch)
        if not os.path.exists(os.path.join(build, "guests", "wrapped_server")):
            print("skipped: needs the server that srs-c++ builds")
            return SKIPPED
        slice_of_campaign(build, scratch)
    return 0


sys.exit(main())
