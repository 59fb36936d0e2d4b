#!/usr/bin/env python3
"""failover_faults.py BUILD: the bookstore under `vmsrs run --protect` while eight of its users crash. Recovery contains
each crash, the director hears of each, and as they are few it does nothing else. Exit status 77: skipped.
"""

import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import failover

CRASHES = 8


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    tools = os.path.join(os.path.abspath(sys.argv[1]), "bin")
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        events, result = os.path.join(scratch, "events"), os.path.join(scratch, "result")
        done = subprocess.run([f"{tools}/bookstore-load", "--users", "20", "--requests", "100", "--seed", "5", "--faults",
                               ",".join(str(user) for user in range(1, CRASHES + 1)), "--json", result, "--spawn", "--",
                               f"{tools}/vmsrs", "run", "--protect", "--events", events, "--", f"{tools}/bookstore", "--port", "0",
                               "--threads", "24", "--inject"], capture_output=True, text=True, timeout=120, check=False)
        with open(events, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        with open(result, encoding="utf-8") as file:
            load = json.load(file)
    names = [line["event"] for line in lines]
    assert done.returncode == 0 and load["passed"], done.stdout + done.stderr
    assert names.count("request_faulted") == CRASHES, names
    assert "took_over" not in names and "fault_outside_scope" not in names, names
    print(f"{CRASHES} crashes told: {next(line['detail'] for line in lines if line['event'] == 'request_faulted')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
