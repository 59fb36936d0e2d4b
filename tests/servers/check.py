#!/usr/bin/env python3
"""check.py VMSRS SERVER: a server of the system, natively and under the monitor: right answers to several clients at
once, the same exit status, and what the monitor costs. Exit status 77: skipped.
"""

import os
import signal
import sys
import tempfile

sys.dont_write_bytecode = True
import load
import monitor
import programs

SKIPPED = 77
CLIENTS, STEPS, STARTS = 4, 120, 3
IDLE_SECONDS = 1.5
OWN_MB = {"mariadb": 128}  # the monitor's memory beyond the guest's; others: 64
OTHERS_MB = 64
# An idle server may use 1 % of a core; memcached wakes up some 400 times a second by itself, 5 % here.
IDLE_PERCENT = {"memcached": 10}
STOPS = {"redis": [signal.SIGTERM, signal.SIGINT], "memcached": [signal.SIGTERM, signal.SIGINT],
         "nginx": [signal.SIGTERM, signal.SIGQUIT], "mariadb": [signal.SIGTERM]}


def visit(kind, scratch, prefix, data):
    """One run: what must be the same natively, and what is only measured."""
    extra = {"data": data} if data else {}
    measured = {"ready": []}
    for start in range(STARTS - 1):
        with kind(f"{scratch}/start{start}", prefix, **extra) as server:
            measured["ready"].append(server.ready_seconds)
            server.stop()
    statuses = []
    for number in STOPS[kind.name]:
        with kind(f"{scratch}/stop{number}", prefix, **extra) as server:
            measured["ready"].append(server.ready_seconds)
            prepare = getattr(load.CLIENTS[kind.name], "prepare", None)
            if prepare:
                prepare(server)
            load.run(server, CLIENTS, steps=STEPS, seed=number)
            pid = server.process.pid
            measured["own"] = monitor.own_bytes(pid) / 2**20
            measured["idle"] = monitor.idle_percent(pid, IDLE_SECONDS)
            statuses.append((signal.Signals(number).name, server.stop(number)))
            unknown = [line for line in server.output().splitlines() if line.startswith("vmsrs:")]
            if unknown:
                raise load.Wrong("the monitor had something to say: " + "; ".join(unknown[:10]))
    return statuses, measured


def main():
    vmsrs, kind = os.path.abspath(sys.argv[1]), programs.ALL[sys.argv[2]]
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("skipped: needs /dev/kvm")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="vmsrs-servers-") as scratch:
        data = None
        if kind is programs.MariaDB:
            data = f"{scratch}/data"
            kind.install_data(data)
        native, by_itself = visit(kind, f"{scratch}/native", [], data)
        guest, monitored = visit(kind, f"{scratch}/guest", [vmsrs, "run", "--verbose", "--"], data)
    print(f"{kind.name}: first answer after {min(by_itself['ready']) * 1000:.0f} ms natively, "
          f"{min(monitored['ready']) * 1000:.0f} ms monitored; idle {by_itself['idle']:.2f} % and "
          f"{monitored['idle']:.2f} % of a core; the monitor's own memory {monitored['own']:.1f} MiB")
    failures = []
    if native != guest:
        failures.append(f"exit statuses differ: natively {native}, monitored {guest}")
    if monitored["own"] > OWN_MB.get(kind.name, OTHERS_MB):
        failures.append("the monitor's own memory is too large")
    if monitored["idle"] > IDLE_PERCENT.get(kind.name, 1):
        failures.append("an idle guest uses too much processor time")
    for failure in failures:
        print(f"{kind.name}: {failure}")
    return 1 if failures else 0


sys.exit(main())
