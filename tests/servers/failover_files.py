#!/usr/bin/env python3
"""failover_files.py VMSRS GUEST [--failovers N] [--mode M]: a program that changes files in every way, whose primary is
killed N times in the middle of it, and that compares them with its own memory all the time. Exit status 77: skipped.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import failover


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vmsrs")
    parser.add_argument("guest")
    parser.add_argument("--failovers", type=int, default=5)
    parser.add_argument("--mode", choices=("strict", "relaxed"), default="strict")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if failover.cannot_run():
        return failover.SKIPPED
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        events, files = os.path.join(scratch, "events"), os.path.join(scratch, "files")
        os.mkdir(files)
        command = [os.path.abspath(options.vmsrs), "run", f"--protect={options.mode}", "--failover-window", "1", "--events", events,
                   "--", os.path.abspath(options.guest), files]
        with open(os.path.join(scratch, "log"), "w+", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                killer = failover.Killer(process.pid, events, options.failovers, options.seed)
                killer.start()
                killer.join()
                with open(os.path.join(files, "stop"), "w", encoding="utf-8"):
                    pass
                status = process.wait(60)
            finally:
                process.kill()
                process.wait()
                log.seek(0)
                said = log.read()
        assert killer.error is None, f"{killer.error}\n{said[-3000:]}"
        assert status == 0 and "right: " in said and "not undone" not in said, f"status {status}\n{said[-3000:]}"
        assert re.search(r"[1-9]\d* changes to files are taken back", said), said[-3000:]
        assert not failover.folder_of(process.pid)
    print(f"{said[said.index('right: '):].strip()} over {killer.killed} failovers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
