#!/usr/bin/env python3
"""failover_deadlock.py VMSRS GUEST: a guest whose threads wait for each other for ever under `vmsrs run --protect`. It
is found out and a backup goes on; the lock is stuck in that one too, since epochs were taken while it was, and so all
ends with a status that a supervisor restarts, and says why. Exit status 77: skipped.
"""

import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import failover


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        events = os.path.join(scratch, "events")
        done = subprocess.run([os.path.abspath(sys.argv[1]), "run", "--protect", "--events", events, "--", os.path.abspath(sys.argv[2])],
                              capture_output=True, text=True, timeout=60, check=False)
        with open(events, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
    names = [line["event"] for line in lines]
    assert done.returncode == 134, (done.returncode, done.stderr)
    assert "a lock is stuck in the guest" in done.stderr, done.stderr
    assert names.count("stuck_lock") == 2 and names.count("took_over") == 1, names
    print(next(line for line in lines if line["event"] == "stuck_lock"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
