"""Kills the primaries of `vmsrs run --protect`, for the tests that look at what is left."""

import glob
import json
import os
import random
import signal
import tempfile
import threading
import time

import monitor

AT_MOST = 120
SKIPPED = 77


def cannot_run():
    """Said, and the test's status is SKIPPED."""
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    print("skipped: needs /dev/kvm")
    return True


def folder_of(director):
    """What a director keeps while it runs: of its parts, and of files."""
    return glob.glob(os.path.join(tempfile.gettempdir(), f"vmsrs-protect-{director}-*"))


def took_over(events):
    """How many backups have taken over, and whether another one stands ready."""
    try:
        with open(events, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        lines = []
    unseen = [line["detail"] for line in lines if "nobody marked it" in line["detail"]]
    assert not unseen, unseen  # of VMSRS_VERIFY_EPOCHS
    names = [line["event"] for line in lines]
    since = len(names) - names[::-1].index("took_over") if "took_over" in names else 0
    return names.count("took_over"), "backup_ready" in names[since:]


class Killer(threading.Thread):
    """Kills the primary each time that a backup is ready for it; `enough` when the last one has taken over."""

    def __init__(self, director, events, failovers, seed=1, apart=0.5):
        super().__init__(daemon=True)
        self.director, self.events, self.failovers, self.apart = director, events, failovers, apart
        self.random = random.Random(seed)
        self.killed, self.enough, self.error = 0, False, None

    def run(self):
        try:
            self.kill_all()
        except AssertionError as error:
            self.error = str(error)
        self.enough = True

    def kill_all(self):
        until = time.monotonic() + AT_MOST
        while True:
            done, ready = took_over(self.events)
            if ready and done == self.killed:
                if done == self.failovers:
                    break
                time.sleep(self.random.uniform(0.05, self.apart))
                victim = monitor.guest_part(self.director)
                if victim is not None:
                    os.kill(victim, signal.SIGKILL)
                    self.killed += 1
            if time.monotonic() > until:
                self.error = f"{self.killed} kills, {done} failovers in {AT_MOST} s"
                break
            time.sleep(0.02)
