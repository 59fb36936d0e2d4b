#!/usr/bin/env python3
"""The demo behind ./demo: one bookstore, its users and its judge, run natively and under the monitor.

The programs do the work: bookstore-load starts the server, plays the users, and judges every answer from the clients'
side; vmsrs writes what it recovered and how often the guest left the VM. This script runs them and compares.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join("build", "release", "bin")
CRASHING = {1: "store:mid", 7: "abort:torn"}  # the users of the paper's experiment (section 5.3) and their faults
BUYING = (3, 9, 12, 18)
RUN_SECONDS = 120
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class DemoError(Exception):
    """Something that keeps the demo from being run at all."""


def adopt_orphans():
    """The server that bookstore-load started becomes our child if bookstore-load ends first."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children():
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="utf-8") as file:
        return [int(pid) for pid in file.read().split()]


def end_children():
    """Ends what a run left, by id: asks first, waits 10 s, then kills."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + 10
        asked = set()
        while children() and time.monotonic() < until:
            for pid in set(children()) - asked:
                os.kill(pid, number)
                asked.add(pid)
            time.sleep(0.02)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return


def run(command):
    """Runs one program to its end and returns its status; leaves none of its processes behind."""
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        return child.wait(timeout=RUN_SECONDS + 60)
    except subprocess.TimeoutExpired:
        raise DemoError(f"{command[0]} did not end within {RUN_SECONDS + 60} s") from None
    finally:
        end_children()


def play(options, scratch, name, host):
    """One run: bookstore-load's own result, with `host` (the monitor, or nothing) in front of the server's command."""
    result = os.path.join(scratch, name + ".json")
    users = ["--paper"] if options.users == 20 else [
        "--users", str(options.users),
        "--faults", ",".join(f"{user}:{fault}" for user, fault in CRASHING.items()),
        "--buyers", ",".join(str(user) for user in BUYING if user <= options.users)]
    command = [os.path.join(BIN, "bookstore-load"), *users, "--seed", str(options.seed),
               "--requests", str(options.requests), "--seconds", str(RUN_SECONDS), "--json", result,
               "--spawn", "--", *host, os.path.join(BIN, "bookstore"), "--inject", "--port", "0",
               "--threads", str(options.users + 8)]
    sys.stdout.flush()
    status = run(command)
    try:
        with open(result, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise DemoError(f"the {name} run has no result (bookstore-load: status {status}; {error})") from None


def native(options, scratch):
    print("\n== natively: the server is an ordinary process", flush=True)
    load = play(options, scratch, "native", [])
    number = load.get("server_exit", {}).get("signal", 0)
    return {
        "users": load["users"],
        "crashed": load["crashed"],
        "server_died": load["server_died"],
        "signal": signal.Signals(number).name if number else "",
        "connections_lost_by_healthy_users": load["connections_lost_without_fault"],
        "requests": load["requests"],
        "judged_to_the_end": load["judged_to_the_end"],
        "seconds": load["seconds"],
    }


def monitored(options, scratch):
    print("\n== under the monitor: the same server, the same users", flush=True)
    report = os.path.join(scratch, "report.jsonl")
    stats = os.path.join(scratch, "stats.json")
    load = play(options, scratch, "monitored",
                [os.path.join(BIN, "vmsrs"), "run", "--report", report, "--stats-json", stats, "--"])
    faults = []
    if os.path.exists(report):
        with open(report, encoding="utf-8") as file:
            faults = [entry for entry in map(json.loads, file) if entry["type"] == "fault"]
    exits = 0
    if os.path.exists(stats):
        with open(stats, encoding="utf-8") as file:
            exits = json.load(file).get("kvm_exits", 0)
    return {
        "users": load["users"],
        "crashed": load["crashed"],
        "wrong_answers": load["wrong_answers"],
        "lost_updates": load["lost_updates"],
        "server_restarts": load["server_restarts"],
        "server_died": load["server_died"],
        "connections_lost_by_healthy_users": load["connections_lost_without_fault"],
        "requests": load["requests"],
        "judged_to_the_end": load["judged_to_the_end"],
        "passed": load["passed"],
        "faults": faults,
        "kvm_exits": exits,
        "seconds": load["seconds"],
    }


def failures(results, options):
    """Why the demo did not show what it promises; nothing if it did."""
    wrong = []
    if "native" in results:
        died = results["native"]
        if not died["server_died"] or died["signal"] not in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"):
            wrong.append("the native server did not die of the fault")
    if "monitored" in results:
        kept = results["monitored"]
        expected = {"users": options.users, "crashed": len(CRASHING), "wrong_answers": 0, "lost_updates": 0,
                    "server_restarts": 0, "server_died": False, "judged_to_the_end": True}
        wrong += [f"monitored: {key} is {kept[key]}, not {value}" for key, value in expected.items()
                  if kept[key] != value]
        if not kept["passed"]:
            wrong.append("monitored: the judge is not content (its own lines above say why)")
        if len(kept["faults"]) < len(CRASHING):
            wrong.append(f"monitored: {len(kept['faults'])} faults reported, not {len(CRASHING)}")
        if kept["kvm_exits"] == 0:
            wrong.append("monitored: no KVM exit was counted, so /dev/kvm was not used")
    return wrong


def table(results):
    def fate(result):
        if not result["server_died"]:
            return "kept serving"
        return f"died ({result['signal']})" if result.get("signal") else "died"

    rows = [("server", fate),
            ("users", lambda r: r["users"]),
            ("users who crashed", lambda r: r["crashed"]),
            ("healthy users cut off", lambda r: r["connections_lost_by_healthy_users"]),
            ("requests answered", lambda r: r["requests"]),
            ("wrong answers", lambda r: r["wrong_answers"] if r["judged_to_the_end"] else "nobody left to ask"),
            ("lost updates", lambda r: r["lost_updates"] if r["judged_to_the_end"] else "nobody left to ask"),
            ("server restarts", lambda r: r["server_restarts"]),
            ("faults recovered", lambda r: len(r["faults"])),
            ("KVM exits", lambda r: r["kvm_exits"]),
            ("seconds", lambda r: f"{r['seconds']:.2f}")]
    print("\n" + " " * 24 + "".join(f"{name:>20}" for name in results))
    for label, value in rows:
        cells = []
        for result in results.values():
            try:
                cells.append(str(value(result)))
            except KeyError:
                cells.append("-")
        print(f"{label:<24}" + "".join(f"{cell:>20}" for cell in cells))


def number(low, high):
    def parse(text):
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not from {low} to {high}")
        return value
    return parse


def main():
    parser = argparse.ArgumentParser(
        prog="./demo", description="A bookstore with 20 users, of whom 1 and 7 crash in the middle of a purchase: "
        "natively, then under the monitor. Exit status: 0 if the native server died of it and the monitored one "
        "served everybody else with right data on /dev/kvm; 1 if not; 2 if it could not be run.")
    parser.add_argument("--json", metavar="FILE", help="write both results here")
    parser.add_argument("--users", type=number(8, 200), default=20, metavar="N", help="8 to 200, default 20")
    parser.add_argument("--requests", type=number(1, 10000), default=50, metavar="N", help="of each user, default 50")
    parser.add_argument("--seed", type=number(0, 2**63 - 1), default=1, metavar="S", help="of all that is random")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--native-only", action="store_true")
    only.add_argument("--monitored-only", action="store_true")
    only.add_argument("--failover", action="store_true",
                      help="instead: the server is protected, and its whole virtual machine is killed under load")
    options = parser.parse_args()

    if subprocess.run([os.path.join(ROOT, "scripts", "build"), "release", "vmsrs", "bookstore", "bookstore_load"],
                      check=False).returncode != 0:
        raise DemoError("the build failed")
    adopt_orphans()
    if options.failover:
        print(f"\n== {options.users} users, and the process that runs the virtual machine is killed among them", flush=True)
        name = os.path.join(os.environ.get("DEMO_CALLED_FROM", ""), options.json) if options.json else os.devnull
        return run([os.path.join(ROOT, "scripts", "failover-campaign"), "--failovers", "1", "--users", str(options.users),
                    "--requests", str(max(options.requests, 500)), "--seed", str(options.seed), "--json", name])
    results = {}
    with tempfile.TemporaryDirectory(prefix="vmsrs-demo-") as scratch:
        if not options.monitored_only:
            results["native"] = native(options, scratch)
        if not options.native_only:
            results["monitored"] = monitored(options, scratch)
    wrong = failures(results, options)
    table(results)
    print()
    for line in wrong:
        print(f"FAILED: {line}")
    if not wrong and len(results) == 2:
        print("The native server died with the first user who crashed; the monitored one served everybody else, and "
              "its data is right.")
    if options.json:
        # The name is relative to where ./demo was called, which is not where it runs.
        file_name = os.path.join(os.environ.get("DEMO_CALLED_FROM", ""), options.json)
        try:
            with open(file_name, "w", encoding="utf-8") as file:
                json.dump(results, file, indent=2)
                file.write("\n")
        except OSError as error:
            raise DemoError(f"cannot write {options.json}: {error.strerror}") from None
    return 1 if wrong else 0


if __name__ == "__main__":
    # A SIGTERM is to clean up as a Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except DemoError as problem:
        print(f"./demo: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("./demo: interrupted", file=sys.stderr)
        sys.exit(130)
