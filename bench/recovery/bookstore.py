"""The bookstore under load, with recovery on, off and without the monitor, and while users crash."""

import json
import os
import re
import signal
import statistics
import subprocess
import threading

from common.pairs import interval, text
from recovery.programs import BIN, RELEASE, VMSRS

# What the healthy users may not have seen.
CLEAN = ("wrong_answers", "lost_updates", "connections_lost_without_fault", "disturbed", "server_restarts")


class Server:
    """A bookstore on a port of its own; the end of the block ends it."""

    def __init__(self, options, monitor, threads, *more):
        self.stats = os.path.join(options.scratch, "bookstore-stats.json")
        host = [] if monitor is None else [VMSRS, "run", *monitor, "--report", os.devnull, "--stats-json", self.stats, "--"]
        self.command = [*host, os.path.join(BIN, "bookstore"), "--port", "0", "--threads", str(threads), *more]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)", line)
        if not found:
            self.process.kill()
            raise RuntimeError(f"{' '.join(self.command)}: said {line!r}")
        self.port = int(found.group(1))
        self.rest = threading.Thread(target=self.process.stdout.read)
        self.rest.start()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.rest.join()


def load(options, server, users, requests, seed):
    """The users' own verdict and figures; they must be content."""
    out = os.path.join(options.scratch, "load.json")
    command = [os.path.join(BIN, "bookstore-load"), "--port", str(server.port), "--users", str(users), "--requests",
               str(requests), "--seed", str(seed), "--buyers", ",".join(str(i) for i in range(1, users + 1, 2)), "--seconds",
               "100", "--timeout", "20000", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    with open(out, encoding="utf-8") as file:
        found = json.load(file)
    if done.returncode != 0 or any(found[key] for key in CLEAN):
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return found


def users(options, _):
    """Paper 004's table 2 says "small" of the effect of more users on VMSRS: here it has figures."""
    result, lines = {}, {"on / off": [], "on / no monitor": []}
    print(f"{'users':>5} {'on / off':>24} {'on / no monitor':>24} {'p99 ms on':>22} {'p99 ms off':>22} {'no monitor':>22}")
    for count in (20, 50, 100, 200):
        ways = {"on": [], "off": ["--recovery", "off"], "native": None}
        rates, tails = {way: [] for way in ways}, {way: [] for way in ways}
        for number in range(options.pairs + 1):
            for way in ways if number % 2 == 0 else reversed(ways):
                with Server(options, ways[way], count + 4) as server:
                    found = load(options, server, count, max(6, 1600 // count), 1 + number)
                if number != 0:  # the first is not counted: files and pages get warm
                    rates[way].append(found["requests_per_second"])
                    tails[way].append(found["latency_ms"]["p99"])
        figures = {"on_over_off": interval([a / b for a, b in zip(rates["on"], rates["off"])]),
                   "on_over_native": interval([a / b for a, b in zip(rates["on"], rates["native"])]),
                   "rate": {way: statistics.median(rate) for way, rate in rates.items()},
                   "p99_ms": {way: interval(tail) for way, tail in tails.items()}}
        result[str(count)] = figures
        lines["on / off"].append((count, figures["on_over_off"]["mean"]))
        lines["on / no monitor"].append((count, figures["on_over_native"]["mean"]))
        print(f"{count:>5} {text(figures['on_over_off']):>24} {text(figures['on_over_native']):>24} "
              + " ".join(f"{text(figures['p99_ms'][way], 1):>22}" for way in ways), flush=True)
    return result, [{"file": "users.svg", "title": "Bookstore: throughput with recovery, by users", "x_label": "users",
                     "y_label": "ratio", "series": list(lines.items())}]


def rate(options, _):
    """100 crashes a second while eight others browse and buy, against the same without crashes."""
    ratios, crashes, contained, noticed, latency = [], 0, 0, 0, []
    series = {}
    for number in range(options.pairs + 1):
        rates = {}
        for crashing in (100, 0) if number % 2 == 0 else (0, 100):
            with Server(options, [], 20, "--inject", "--stock", "1000000") as server:
                load(options, server, 8, 30, 99)  # not counted: call sites, pages
                crash = subprocess.Popen([os.path.join(RELEASE, "load", "fault_load"), str(server.port), str(crashing), "2.5"],
                                         stdout=subprocess.PIPE, text=True)
                found = load(options, server, 8, 500, 1 + number)
                told = json.loads(crash.communicate(timeout=60)[0])
            rates[crashing] = found["requests_per_second"]
            noticed += sum(int(found[key]) for key in CLEAN)
            if crashing and told["contained"] != told["crashes"]:
                raise SystemExit(f"rate: of {told['crashes']} crashes {told['contained']} were answered as they must be; "
                                 f"the first other answer: {told['first_otherwise']}")
            crashes, contained = crashes + told["crashes"], contained + told["contained"]
            if crashing:
                latency.append(told["p50_us"])
            series[crashing] = told
        if number != 0:
            ratios.append(rates[100] / rates[0])
    result = {"with_over_without": interval(ratios), "crashes": crashes, "contained": contained, "failed_or_wrong": noticed,
              "crash_answered_us": statistics.median(latency)}
    print(f"healthy users' throughput at 100 crashes a second over without: {text(result['with_over_without'])}; {crashes} "
          f"crashes, all answered; failed or wrong answers of others: {noticed}")

    def steps(points):
        return [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in zip(points, points[1:]) if b[0] > a[0]]

    return result, [{"file": "rate.svg", "title": "Bookstore: throughput, each crash a line", "x_label": "seconds",
                     "y_label": "requests a second", "marks": series[100]["crash_times"],
                     "series": [("100 crashes a second", steps(series[100]["requests"])),
                                ("none", steps(series[0]["requests"]))]}]
