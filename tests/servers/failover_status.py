#!/usr/bin/env python3
"""failover_status.py VMSRS BOOKSTORE: a protected server loses its virtual machine, and whoever watches it sees that and
goes on watching: the detector tells of the loss, then of the guest that a backup goes on with, under the same name and
asked by the same probe; `vmsrs stop` ends it, which is no failure. Exit status 77: skipped.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import failover
import monitor

PATIENCE = 40


def wait_for(what, found, log):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        result = found()
        if result:
            return result
        time.sleep(0.05)
    with open(log, encoding="utf-8", errors="replace") as file:
        raise AssertionError(f"{what}: not within {PATIENCE} s\n{file.read()[-3000:]}")


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    vmsrs, bookstore = sys.argv[1:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    registry = ["--registry", f"vmsrs-test-{os.getpid()}"]
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        events, told, log = (os.path.join(scratch, name) for name in ("events", "told", "log"))
        with open(log, "wb") as out, open(told, "wb") as lines:
            detector = subprocess.Popen([vmsrs, "detectd", *registry], stdout=lines, stderr=out)
            server = subprocess.Popen([vmsrs, "run", "--protect", "--events", events, "--name", "shop", *registry, "--probe",
                                       f"http://127.0.0.1:{port}/books", "--", bookstore, "--port", str(port)], stdout=out, stderr=out)

        def findings(layer):
            with open(told, encoding="utf-8") as file:
                return [f["class"] for f in map(json.loads, file) if f["layer"] == layer and f["name"] in ("shop", "app")]

        def shop():
            done = subprocess.run([vmsrs, "status", "--json", *registry], capture_output=True, text=True, check=False)
            vms = json.loads(done.stdout)["vms"] if done.returncode == 0 else []
            return next((vm for vm in vms if vm["name"] == "shop" and vm["class"] == "healthy" and
                         vm["applications"][0]["class"] == "healthy"), None)

        try:
            first = wait_for("a healthy server", shop, log)
            wait_for("a backup", lambda: failover.took_over(events)[1], log)
            victim = monitor.guest_part(server.pid)
            assert victim == first["pid"], (victim, first["pid"])
            os.kill(victim, signal.SIGKILL)
            second = wait_for("the restored server", lambda: (vm := shop()) and vm["pid"] != victim and vm, log)
            assert second["applications"][0]["answers"] > 0 and os.path.basename(second["program"]) == os.path.basename(first["program"]), second
            wait_for("the loss and the recovery told", lambda: findings("vm") == ["healthy", "SF", "healthy"], told)
            assert findings("application")[-1] == "healthy", findings("application")
            stopped = subprocess.run([vmsrs, "stop", "shop", *registry], capture_output=True, text=True, check=False)
            assert stopped.returncode == 0, stopped.stderr
            assert server.wait(PATIENCE) == 0, open(log, encoding="utf-8").read()
            wait_for("the stop told", lambda: findings("vm")[-1] == findings("application")[-1] == "stopped", told)
            print(f"lost and gone on with: {findings('vm')}")
        finally:
            for process in (server, detector):
                process.terminate()
                process.wait()
            try:
                os.remove(os.path.join("/dev/shm", registry[1]))
            except FileNotFoundError:
                pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
