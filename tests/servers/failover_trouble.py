#!/usr/bin/env python3
"""failover_trouble.py BUILD: what troubles the parts of `vmsrs run --protect`, and must not trouble its clients.

slow backup   it sleeps for longer than it is waited for: the guest goes on without, its users only wait; a backup comes
              back, and takes over when the primary is killed
full disk     there is no room for what would undo a write: the guest gets ENOSPC, its file keeps what it had

Exit status 77: skipped.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import failover
import monitor

PATIENCE = 60
FULL = r"""
import os, sys, time
name = sys.argv[1]
with open(name, "wb") as file:
    file.write(b"a" * (8 << 20))
fd = os.open(name, os.O_RDWR)
os.write(1, b"made\n")
while not os.path.exists(name + ".go"):
    time.sleep(0.01)
try:
    os.pwrite(fd, b"b" * (8 << 20), 0)
    print("written")
except OSError as error:
    print("refused", error.errno)
print("still", os.pread(fd, 8 << 20, 0).count(b"a"))
"""


def lines_of(events):
    try:
        with open(events, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []


def wait_for(what, found):
    until = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < until, f"{what}: not within {PATIENCE} s"
        time.sleep(0.02)


def backup_of(director):
    for pid in monitor.children(director):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read().split(b"\0")[1:2] == [b"backup"]:
                return pid
    return None


def slow_backup(tools, scratch):
    events, result = os.path.join(scratch, "events"), os.path.join(scratch, "result")
    load = subprocess.Popen([f"{tools}/bookstore-load", "--users", "8", "--requests", "3000", "--timeout", "30000", "--seconds", "100",
                             "--json", result, "--spawn", "--", f"{tools}/vmsrs", "run", "--protect", "--events", events, "--",
                             f"{tools}/bookstore", "--port", "0", "--threads", "12"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        names = lambda: [line["event"] for line in lines_of(events)]
        wait_for("a backup", lambda: "backup_ready" in names())
        director = monitor.children(load.pid)[0]
        time.sleep(0.3)
        sleeper = backup_of(director)
        os.kill(sleeper, signal.SIGSTOP)
        wait_for("the backup is given up", lambda: "backup_lost" in names())
        os.kill(sleeper, signal.SIGCONT)
        wait_for("a backup again", lambda: "backup_ready" in names()[names().index("backup_lost"):])
        os.kill(monitor.guest_part(director), signal.SIGKILL)
        wait_for("it takes over", lambda: failover.took_over(events)[0] == 1)
        assert load.poll() is None, "the load was too short"
        said = load.communicate(timeout=100)[0]
    finally:
        load.kill()
        load.wait()
    with open(result, encoding="utf-8") as file:
        judged = json.load(file)
    assert judged["passed"], said[-3000:]
    print(f"slow backup: {judged['requests']} requests, wrong answers {judged['wrong_answers']}, connections lost {judged['connections_lost']}")


def full_disk(tools, scratch):
    small, events = os.path.join(scratch, "small"), os.path.join(scratch, "events-full")
    os.mkdir(small)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True, check=False).returncode == 0
    if not mounted:
        print("full disk: not tried, it needs the right to mount")
        return
    try:
        name, script = os.path.join(scratch, "file"), os.path.join(scratch, "script.py")
        with open(script, "w", encoding="ascii") as file:
            file.write(FULL)
        guest = subprocess.Popen([f"{tools}/vmsrs", "run", "--protect", "--events", events, "--", "/usr/bin/python3", script, name],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TMPDIR": small})
        try:
            wait_for("a backup", lambda: any(line["event"] == "backup_ready" for line in lines_of(events)))
            with open(name + ".go", "w", encoding="ascii"):
                pass
            said = guest.communicate(timeout=PATIENCE)[0]
        finally:
            guest.kill()
            guest.wait()
        assert guest.returncode == 0 and re.search(r"refused 28\nstill 8388608\n", said), f"status {guest.returncode}\n{said}"
        assert not os.listdir(small), os.listdir(small)
    finally:
        subprocess.run(["umount", small], check=True)
    print("full disk: the write was refused with ENOSPC, the file is as it was")


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    tools = os.path.join(os.path.abspath(sys.argv[1]), "bin")
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        slow_backup(tools, scratch)
        full_disk(tools, scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
