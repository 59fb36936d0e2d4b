#!/usr/bin/env python3
"""The failure detector: what it costs and how soon it sees a hang, by how busy the host is (paper 000, figures 3 and 4).

usage: bench/run detect [--seconds S] [--vms N] [--output DIR]      detector against fixed periods, at three loads
       bench/run detect --sensitivity [--output DIR]                Q and R of the Kalman filter on a recorded load
       bench/run detect --sensitivity --synthetic [--output DIR]    the same on a made-up one, the same each time
       bench/run detect --record SECONDS                            prints the host's CPU use twice a second

Writes detect.json, detect-cpu.svg (figure 3) and detect-period.svg (figure 4), detect-delay.svg; or sensitivity.json,
sensitivity-error.svg and sensitivity-changes.svg.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bench", "plot"))
import svg  # noqa: E402

BUILD = os.path.join(ROOT, "build", "release")
VMSRS = os.path.join(BUILD, "bin", "vmsrs")
POLICIES = {"continuous": "continuous", "steps (paper)": "steps", "fixed 0.5 s": "fixed:0.5", "fixed 3 s": "fixed:3"}
LEVELS = (0.05, 0.3, 0.47, 0.6, 0.77, 0.95, 0.4, 0.85, 0.1)  # of --sensitivity
LOADS = (0.0, 0.55, 0.9)  # what the load generator is to use of all processors


def cpu_times():
    with open("/proc/stat", encoding="ascii") as file:
        times = [int(word) for word in file.readline().split()[1:9]]
    return sum(times), times[3] + times[4]


def burn(share):
    """Uses one processor for `share` of each 50 ms."""
    os.nice(0)
    while True:
        begin = time.monotonic()
        while time.monotonic() - begin < 0.05 * share:
            pass
        time.sleep(max(0.0, 0.05 - (time.monotonic() - begin)))


class Load:
    def __init__(self, share):
        self.processes = [multiprocessing.Process(target=burn, args=(share,), daemon=True)
                          for _ in range(os.cpu_count() if share > 0 else 0)]
        for process in self.processes:
            process.start()

    def end(self):
        for process in self.processes:
            process.kill()
            process.join()


def cpu_ns(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


class Bench:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.registry = f"vmsrs-bench-{os.getpid()}"
        self.vms = [subprocess.Popen([VMSRS, "run", "--registry", self.registry, "--name", f"vm{n}", "--memory", "2G",
                                      "--pollers", "0", "--", "/bin/sleep", "100000"], stdin=subprocess.DEVNULL)
                    for n in range(options.vms)]
        time.sleep(1 + options.vms * 0.1)

    def status(self):
        return json.loads(subprocess.run([VMSRS, "status", "--json", "--registry", self.registry], check=True,
                                         capture_output=True, text=True).stdout)

    def measure(self, period, seconds):
        events = os.path.join(self.work, "events")
        open(events, "w", encoding="utf-8").close()
        detector = subprocess.Popen([VMSRS, "detectd", "--registry", self.registry, "--period", period, "--events",
                                     events], stdin=subprocess.DEVNULL)
        try:
            time.sleep(2)  # it has met all VMs, and the forecast has settled
            begin, used, times = time.monotonic(), cpu_ns(detector.pid), cpu_times()
            before = self.status()["detectors"][0]
            time.sleep(seconds)
            status = self.status()
            after = status["detectors"][0]
            wall, now = time.monotonic() - begin, cpu_times()
            result = {"detector_cpu_percent": (cpu_ns(detector.pid) - used) / wall / 1e7,
                      "host_cpu_percent": 100 * (1 - (now[1] - times[1]) / max(1, now[0] - times[0])),
                      "forecast_percent": after["forecast_cpu"] * 100,
                      "period_s": after["period_s"],
                      "sweeps_per_s": (after["sweeps"] - before["sweeps"]) / wall,
                      "looks_per_s": (after["looks"] - before["looks"]) / wall}
            result["hang_noticed_ms"] = self.hang(events)
            return result
        finally:
            detector.send_signal(signal.SIGTERM)
            detector.wait()

    def hang(self, events):
        victim = self.vms[0]
        begin = time.monotonic_ns()
        victim.send_signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + 15
            while time.monotonic() < end:
                with open(events, encoding="utf-8") as file:
                    for line in file:
                        event = json.loads(line) if line.endswith("\n") else {}
                        if event.get("class") == "NRF" and event["name"] == "vm0":
                            return (event["noticed_ns"] - begin) / 1e6
                time.sleep(0.01)
            return float("nan")
        finally:
            victim.send_signal(signal.SIGCONT)

    def end(self):
        for vm in self.vms:
            vm.kill()
            vm.wait()
        if os.path.exists("/dev/shm/" + self.registry):
            os.unlink("/dev/shm/" + self.registry)


def compare(options):
    results = []
    with tempfile.TemporaryDirectory(prefix="vmsrs-bench-") as work:
        bench = Bench(options, work)
        try:
            for share in LOADS:
                load = Load(share)
                try:
                    for name, period in POLICIES.items():
                        result = {"policy": name, "load": share, **bench.measure(period, options.seconds)}
                        results.append(result)
                        print(f"{name:14} host {result['host_cpu_percent']:5.1f} %  detector "
                              f"{result['detector_cpu_percent']:.4f} % of a core  period {result['period_s']:.2f} s  "
                              f"hang seen after {result['hang_noticed_ms']:.0f} ms", flush=True)
                finally:
                    load.end()
        finally:
            bench.end()
    groups = []
    for share in LOADS:
        own = [r["host_cpu_percent"] for r in results if r["load"] == share]
        groups.append(f"{sum(own) / len(own):.0f} %")

    def series(key):
        return {name: [next(r[key] for r in results if r["policy"] == name and r["load"] == share) for share in LOADS]
                for name in POLICIES}

    at = lambda name: os.path.join(options.output, name)  # noqa: E731
    with open(at("detect.json"), "w", encoding="utf-8") as file:
        json.dump({"vms": options.vms, "seconds": options.seconds, "cpus": os.cpu_count(), "results": results}, file,
                  indent=1)
    svg.bars(at("detect-cpu.svg"), "CPU of the VM detector", "CPU use of the host", "% of a core", groups,
             series("detector_cpu_percent"))
    svg.bars(at("detect-period.svg"), "Period of the VM detector", "CPU use of the host", "seconds", groups,
             series("period_s"))
    svg.bars(at("detect-delay.svg"), "A hang of the VM is noticed (time-out 1000 ms)", "CPU use of the host",
             "ms after it began", groups, series("hang_noticed_ms"))


def record(seconds):
    values = []
    before = cpu_times()
    for _ in range(int(seconds * 2)):
        time.sleep(0.5)
        now = cpu_times()
        values.append(round(1 - (now[1] - before[1]) / max(1, now[0] - before[0]), 4))
        before = now
    return values


def shaped(seconds):
    """A recording of a host that is idle, half busy, busy, and between two steps, each for a while."""
    trace = []
    for share in LEVELS:
        load = Load(share)
        try:
            trace += record(seconds / len(LEVELS))
        finally:
            load.end()
    return trace


def synthetic():
    """The same levels, 120 values each, with noise and short bursts as jobs that come and go make them."""
    dice = random.Random(1)
    return [min(1.0, max(0.0, dice.gauss(share, 0.06) + (0.25 if dice.random() < 0.05 else 0)))
            for share in LEVELS for _ in range(120)]


def sensitivity(options):
    trace = synthetic() if options.synthetic else shaped(options.seconds * len(LEVELS))
    grid = json.loads(subprocess.run([os.path.join(BUILD, "load", "kalman_grid")], input="\n".join(map(str, trace)),
                                     capture_output=True, text=True, check=True).stdout)
    at = lambda name: os.path.join(options.output, name)  # noqa: E731
    with open(at("sensitivity.json"), "w", encoding="utf-8") as file:
        json.dump({"trace": trace, "grid": grid}, file, indent=1)
    rs = sorted({g["r_exponent"] for g in grid})
    qs = sorted({g["q_exponent"] for g in grid})
    for key, title, name in (("rmse", "Error of the forecast (root mean square)", "sensitivity-error.svg"),
                             ("changes_per_100", "Changes of the step period in 100 forecasts",
                              "sensitivity-changes.svg")):
        series = {f"R = 1e-{r}": [next(g[key] for g in grid if g["q_exponent"] == q and g["r_exponent"] == r)
                                  for q in qs] for r in rs}
        svg.lines(at(name), title, "Q", key, qs, series, [f"6e-{q}" for q in qs])
    for g in sorted(grid, key=lambda g: g["rmse"])[:12]:
        print(f"Q 6e-{g['q_exponent']} R 1e-{g['r_exponent']}: rmse {g['rmse']:.4f}, {g['changes_per_100']:.1f} changes")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=10, help="of each measurement")
    p.add_argument("--vms", type=int, default=16)
    p.add_argument("--output", default=".")
    p.add_argument("--sensitivity", action="store_true")
    p.add_argument("--synthetic", action="store_true")
    p.add_argument("--record", type=float, metavar="SECONDS")
    options = p.parse_args()
    if options.record:
        print("\n".join(map(str, record(options.record))))
        return
    os.makedirs(options.output, exist_ok=True)
    sensitivity(options) if options.sensitivity else compare(options)


main()
