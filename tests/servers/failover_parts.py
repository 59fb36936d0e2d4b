#!/usr/bin/env python3
"""failover_parts.py VMSRS: each part of `vmsrs run --protect` killed, or put to sleep, under a redis client that counts a
key up. What can be survived is, in order and on one connection; what cannot ends everything with a reason and leaves
nothing behind. Exit status 77: skipped.
"""

import json
import os
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import failover
import monitor
import programs
from load import RedisClient, Wrong

PATIENCE = 30


class Scene:
    def __init__(self, vmsrs, scratch, name):
        self.events = os.path.join(scratch, name + ".events")
        prefix = [vmsrs, "run", "--protect", "--failover-window", "1", "--events", self.events, "--"]
        self.server = programs.Redis(os.path.join(scratch, name), prefix)
        self.n, self.longest, self.client = 0, 0.0, None

    def __enter__(self):
        self.server.start()
        self.client = RedisClient(self.server, "counting", 1)
        self.until("a backup", lambda: self.names().count("backup_ready") > 0)
        return self

    def __exit__(self, *_):
        self.server.kill()

    def names(self):
        try:
            with open(self.events, encoding="utf-8") as file:
                return [json.loads(line)["event"] for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def parts(self):
        """Process id by role."""
        found = {"director": self.server.process.pid, "primary": monitor.guest_part(self.server.process.pid)}
        for pid in monitor.children(self.server.process.pid):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                role = file.read().split(b"\0")[1:2]
            if role in ([b"gateway"], [b"backup"]) and pid != found["primary"]:
                found[role[0].decode()] = pid
        return found

    def count(self, times):
        for _ in range(times):
            self.n += 1
            begin = time.monotonic()
            self.client.ask(self.n, "INCR", "n")
            self.longest = max(self.longest, time.monotonic() - begin)

    def until(self, what, found):
        end = time.monotonic() + PATIENCE
        while not found():
            assert time.monotonic() < end, f"{what}: not within {PATIENCE} s: {self.names()}\n{self.server.output()[-3000:]}"
            self.count(5)


def gone(pids):
    """Zombies of others' are gone too."""
    def state(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                return file.read().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "Z"
    end = time.monotonic() + PATIENCE
    while any(state(pid) != "Z" for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def survived(vmsrs, scratch):
    with Scene(vmsrs, scratch, "survived") as scene:
        os.kill(scene.parts()["backup"], signal.SIGKILL)
        scene.until("another backup", lambda: scene.names().count("backup_ready") > 1)
        for role in ("gateway", "director", "backup"):
            sleeper = scene.parts()[role]
            os.kill(sleeper, signal.SIGSTOP)
            if role == "director":
                scene.count(50)  # nobody needs it while nothing happens
            time.sleep(0.4)
            os.kill(sleeper, signal.SIGCONT)
            scene.count(50)
        assert scene.names().count("took_over") == 0, scene.names()
        os.kill(scene.parts()["primary"], signal.SIGKILL)
        scene.until("a failover", lambda: failover.took_over(scene.events)[0] == 1)
        scene.count(50)
        status = scene.server.stop()
        assert status == 0, (status, scene.server.output()[-3000:])
        print(f"survived: {scene.n} answers in order, the longest took {scene.longest * 1000:.0f} ms")


def ended(vmsrs, scratch, role):
    with Scene(vmsrs, scratch, "ended-" + role) as scene:
        parts = scene.parts()
        scene.count(20)
        os.kill(parts[role], signal.SIGKILL)
        try:
            scene.count(1_000_000)
            raise AssertionError("the connection stayed")
        except (Wrong, OSError):
            pass
        status = scene.server.process.wait(PATIENCE)
        assert gone(parts.values()), f"parts are left: {parts}"
        if role == "gateway":
            assert status != 0 and "the gateway died" in scene.server.output(), (status, scene.server.output()[-2000:])
        # A killed one cannot take its folder away: the next one does.
        assert bool(failover.folder_of(parts["director"])) == (role == "director")
    print(f"{role} killed: status {status}, nothing runs any more")
    return parts["director"]


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    vmsrs = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        survived(vmsrs, scratch)
        ended(vmsrs, scratch, "gateway")
        killed = ended(vmsrs, scratch, "director")
        ended(vmsrs, scratch, "gateway")
        assert not failover.folder_of(killed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
