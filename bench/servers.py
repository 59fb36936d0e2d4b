#!/usr/bin/env python3
"""What the monitor costs Debian's servers: natively, by exits, and exitless, alternating in one run.

  bench/run servers [--rounds N] [--seconds S] [--only redis,memcached,mariadb] [--json FILE]

One row a server and load: requests a second each way, the exitless and exit ratios to native, exits a request, clients.
"peak" loads go as fast as they can; "half" loads offer half of the native peak of the same run, and the ratio says how
much of it was served. "tool" loads are those of the server's own ecosystem: redis-benchmark, memcaslap, mysqlslap.
Start-up is the time to the first answer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/servers"))
sys.path.insert(0, os.path.join(ROOT, "bench/load"))
import programs  # noqa: E402  the servers as the tests start them
import tools  # noqa: E402

VMSRS = os.path.join(ROOT, "build/release/bin/vmsrs")
LOAD = os.path.join(ROOT, "build/release/load/server_load")
WAYS = ("native", "exits", "exitless")
# server, load, connections, requests in flight on each
LOADS = [("redis", "redis-get", 20, 1), ("redis", "redis-set", 20, 1), ("redis", "redis-get", 20, 16),
         ("memcached", "memcached", 8, 1), ("mariadb", "mariadb", 4, 1)]
TOOLS = {"redis-benchmark get": lambda port, c, p, seconds: tools.redis_benchmark("get", port, c, p, seconds),
         "redis-benchmark set": lambda port, c, p, seconds: tools.redis_benchmark("set", port, c, p, seconds),
         "memcaslap": lambda port, c, _, seconds: tools.memcaslap(port, c, seconds),
         "mysqlslap": lambda port, c, _, seconds: tools.mysqlslap(port, c, seconds)}
TOOL_LOADS = [("redis", "redis-benchmark get", 20, 1), ("redis", "redis-benchmark set", 20, 1),
              ("redis", "redis-benchmark get", 20, 16), ("memcached", "memcaslap", 8, 1), ("mariadb", "mysqlslap", 4, 1)]


class TwoThreads(programs.Memcached):
    def command(self):
        return [*super().command(), "-t", "2"]


def prefix_of(way, stats):
    if way == "native":
        return []
    pollers = "0" if way == "exits" else "auto"
    return [VMSRS, "run", "--recovery", "off", "--pollers", pollers, "--stats-json", stats, "--"]


def measure(options, server, load, connections, pipeline, way, rate, data):
    """One server, started for this alone: its figures under one load."""
    kind = {"redis": programs.Redis, "memcached": TwoThreads, "mariadb": programs.MariaDB}[server]
    with tempfile.TemporaryDirectory() as scratch:
        stats = os.path.join(scratch, "stats.json")
        extra = {"data": data} if server == "mariadb" else {}
        one = kind(os.path.join(scratch, "server"), prefix_of(way, stats), **extra)
        with one:
            if server == "mariadb":
                rows = ",".join(f"({i},{i * 7})" for i in range(1, 1001))
                one.query("create database bench; create table bench.t (id int primary key, v int) engine=innodb;"
                          f"insert into bench.t values {rows};")
            if load in TOOLS:
                try:
                    figures = {"rate": TOOLS[load](one.port, connections, pipeline, options.seconds)}
                except tools.ToolFailed as error:
                    sys.exit(f"{load}: {error}\n{one.output()[-2000:]}")
                one.stop()
                return figures | {"ready": one.ready_seconds}
            command = [LOAD, load, str(one.port), str(connections), str(pipeline), "{}", str(rate)]
            for seconds in ("0.3", str(options.seconds)):  # the first is not counted: call sites, pages, pollers
                done = subprocess.run([seconds if word == "{}" else word for word in command], capture_output=True,
                                      text=True, check=False, timeout=120)
                if done.returncode != 0:
                    sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}\n{one.output()[-2000:]}")
            result = json.loads(done.stdout)
            one.stop()
        figures = {"rate": result["requests"] / result["seconds"], "p50_us": result["p50_us"], "p99_us": result["p99_us"],
                   "ready": one.ready_seconds}
        if way != "native":
            with open(stats, encoding="utf-8") as file:
                counted = json.load(file)
            # Over the server's whole life; start-up and warm-up are in it.
            figures["exits_per_request"] = counted["kvm_exits"] / max(1, result["requests"])
            figures["exitless_per_request"] = counted["exitless_calls"] / max(1, result["requests"])
        return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load")
    parser.add_argument("--only", default="redis,memcached,mariadb")
    parser.add_argument("--loads", default="own,tool", help="own: server_load's, peak and half; tool: the servers' tools")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    only = options.only.split(",")
    if unknown := [name for name in only if name not in {load[0] for load in LOADS}]:
        parser.error(f"--only: {', '.join(unknown)}: redis, memcached, mariadb")
    kinds = options.loads.split(",")
    if unknown := [kind for kind in kinds if kind not in ("own", "tool")]:
        parser.error(f"--loads: {', '.join(unknown)}: own, tool")
    loads = [(*load, offered) for load in LOADS for offered in ("peak", "half") if "own" in kinds]
    loads += [(*load, "tool") for load in TOOL_LOADS if "tool" in kinds]
    rows = []
    print(f"{'server':>10} {'load':>23} {'':>5} {'clients':>8} " + " ".join(f"{way + ' /s':>12}" for way in WAYS) +
          f" {'exits':>6} {'exitless':>9} {'exits/request':>14}")
    with tempfile.TemporaryDirectory() as scratch:
        data = None
        if "mariadb" in only:
            data = os.path.join(scratch, "data")
            programs.MariaDB.install_data(data)
        peak = None
        for server, load, connections, pipeline, offered in loads:
            if server not in only:
                continue
            runs = {way: [] for way in WAYS}
            for number in range(options.rounds):
                order = WAYS if number % 2 == 0 else tuple(reversed(WAYS))
                for way in order:
                    rate = int(peak / 2) if offered == "half" else 0
                    runs[way].append(measure(options, server, load, connections, pipeline, way, rate, data))
            middle = {way: {key: statistics.median(r[key] for r in runs[way]) for key in runs[way][0]} for way in WAYS}
            if offered == "peak":
                peak = middle["native"]["rate"]
            ratio = {way: statistics.median(a["rate"] / b["rate"] for a, b in zip(runs[way], runs["native"]))
                     for way in ("exits", "exitless")}
            row = {"server": server, "load": load, "offered": offered, "clients": connections, "pipeline": pipeline,
                   "ratio_exits": ratio["exits"], "ratio": ratio["exitless"],
                   "exits_per_request": middle["exitless"].get("exits_per_request"),
                   **{way: middle[way] for way in WAYS}}
            rows.append(row)
            name = load.removeprefix("redis-") + (f" x{pipeline}" if pipeline > 1 else "")
            exits = row["exits_per_request"]
            print(f"{server:>10} {name:>23} {offered:>5} {connections:>8} " +
                  " ".join(f"{middle[way]['rate']:>12.0f}" for way in WAYS) +
                  f" {ratio['exits']:>6.2f} {ratio['exitless']:>9.2f} " +
                  ("             -" if exits is None else f"{exits:>14.3f}"), flush=True)
    for server in only:
        mine = [row for row in rows if row["server"] == server]
        print(f"{server}: first answer after " +
              ", ".join(f"{statistics.median(row[way]['ready'] for row in mine) * 1000:.0f} ms {way}" for way in WAYS))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
