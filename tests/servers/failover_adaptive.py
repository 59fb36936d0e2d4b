#!/usr/bin/env python3
"""failover_adaptive.py VMSRS: epochs as long as the forecast allows. What a small program uses under protection is
recorded, a model is trained on it and on the same with memory that grows; then the program runs with that model, and
after a while really begins to leak. Its epochs are long while it is healthy and short when it leaks, and when its process
is lost then, no more is lost than short epochs lose. Exit status 77: skipped.
"""

import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import failover
import monitor

PATIENCE = 60
SHORT, LONG = 25, 500  # milliseconds
LEAK_AFTER = 20  # seconds
LEAK = 16 << 20  # bytes a second
PROGRAM = "while (1) { select(undef, undef, undef, 0.0625); push @kept, 'a' x (1 << 20) if ++$n > 16 * $ARGV[0]; }"


class Guest:
    def __init__(self, vmsrs, scratch, name, leak_after, more=()):
        self.events, self.epochs, self.log = (os.path.join(scratch, f"{name}.{kind}") for kind in ("events", "epochs", "log"))
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen([vmsrs, "run", "--protect=relaxed", "--events", self.events, "--epoch-log", self.epochs, "--epoch",
                                             str(SHORT), *more, "--", "perl", "-e", PROGRAM, str(leak_after)], stdout=out, stderr=out)
        self.wait_for("a backup", lambda: os.path.exists(self.events) and failover.took_over(self.events)[1])
        self.pid = monitor.guest_part(self.process.pid)

    def wait_for(self, what, found):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            result = found()
            if result:
                return result
            time.sleep(0.05)
        with open(self.log, encoding="utf-8", errors="replace") as file:
            raise AssertionError(f"{what}: not within {PATIENCE} s\n{file.read()[-3000:]}\n{self.told()}")

    def told(self, event=None):
        with open(self.events, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.endswith("\n")]
        return [line for line in lines if event in (None, line["event"])]

    def safe_epochs(self, begin, end):
        """When each was taken."""
        with open(self.epochs, encoding="ascii") as file:
            taken = [float(line.split()[2]) for line in file if line.endswith("\n")]
        return [t for t in taken if begin <= t < end]

    def end(self):
        self.process.terminate()
        self.process.wait()


def own_network():
    """What other tests send is not this guest's. Without root's rights it is."""
    ctypes.CDLL(None).unshare(0x40000000)  # CLONE_NEWNET


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stderr}"


def recordings(healthy, scratch):
    """Of the few samples in `healthy`: a long healthy one, and some whose memory begins to grow. All else says nothing."""
    with open(healthy, encoding="ascii") as file:
        lines = file.read().splitlines()
    usual = [[float(value) for value in line.split(",")[1:5]] for line in lines[2:]]
    pick = random.Random(1)
    for number in range(13):
        name = os.path.join(scratch, f"recording-{number}.csv")
        with open(name, "w", encoding="ascii") as file:
            file.write("\n".join(lines[:2]) + "\n")
            for second in range(200 if number == 0 else 60):
                cpu, memory, network, disk = pick.choice(usual)
                cpu *= pick.uniform(0.3, 4)
                memory *= pick.gauss(1, 0.04)  # no two runs have the same
                network, disk = pick.uniform(0, 2000), pick.choice((0, 4096, 65536))
                growing = 0 if number == 0 else max(0, second - 39)
                health = "normal" if growing == 0 else "abnormal" if growing < 17 else "failed"
                file.write(f"{second},{cpu},{memory + growing * LEAK},{network},{disk},{health},low\n")
        yield name


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    vmsrs = sys.argv[1]
    own_network()
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        healthy, model = os.path.join(scratch, "healthy.csv"), os.path.join(scratch, "model")
        guest = Guest(vmsrs, scratch, "first", 1000)
        run(vmsrs, "predict", "record", "--pid", str(guest.pid), "--seconds", "6", "--out", healthy, "--health", "normal", "--load", "low")
        guest.end()
        run(vmsrs, "predict", "train", "--model", model, "--levels", "2,3,2,2", *recordings(healthy, scratch))
        guest = Guest(vmsrs, scratch, "second", LEAK_AFTER, ["--predict", model, "--longest-epoch", str(LONG)])
        try:
            changes = lambda: [(line["time_ms"] / 1000, line["value"]) for line in guest.told("epoch_length")]
            longer = guest.wait_for("long epochs", lambda: next((t for t, v in changes() if v == LONG), None))
            shorter = guest.wait_for("short epochs again", lambda: next((t for t, v in changes() if v == SHORT and t > longer), None))
            time.sleep(2)
            many = len(guest.safe_epochs(shorter + 1, shorter + 2))
            few = len(guest.safe_epochs(longer + 1, shorter)) / max(1, shorter - longer - 1)
            os.kill(guest.pid, signal.SIGKILL)
            lost_at = time.monotonic()
            took = guest.wait_for("a failover", lambda: next(iter(guest.told("took_over")), None))
            lost = lost_at - float(took["detail"].rsplit(" ", 1)[1])
        finally:
            guest.end()
        assert few < 1500 / LONG, f"{few:.1f} epochs a second in good health, {changes()}"
        assert many > 3 * 1000 / LONG, f"{many} epochs in a second while it leaked, {changes()}"
        assert lost < LONG / 2000, f"{1000 * lost:.0f} ms lost"
        print(f"{few:.1f} epochs a second in good health, {many} while it leaked; lost {1000 * lost:.0f} ms; {changes()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
