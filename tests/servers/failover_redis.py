#!/usr/bin/env python3
"""failover_redis.py VMSRS: redis under `vmsrs run --protect`, whose primary is killed three times in the middle of a
client's work. One connection counts a key up and judges each answer: none is lost, doubled or out of order, and the
connection stays. Another, made before, must have its data at the end. Exit status 77: skipped.
"""

import os
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import failover
import monitor
import programs
from load import RedisClient

FAILOVERS, AT_MOST = 3, 90


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        events = os.path.join(scratch, "events")
        prefix = [os.path.abspath(sys.argv[1]), "run", "--protect", "--failover-window", "1", "--events", events, "--"]
        with programs.Redis(os.path.join(scratch, "redis"), prefix) as server:
            quiet, counting = RedisClient(server, "quiet", 1), RedisClient(server, "counting", 1)
            big = os.urandom(300_000)
            quiet.ask("+OK", "SET", "big", big)
            killed, n, longest = 0, 0, 0.0
            until = time.monotonic() + AT_MOST
            done, ready = 0, False
            while done < FAILOVERS or not ready:
                assert time.monotonic() < until, f"{killed} kills, {done} failovers:\n{server.output()[-3000:]}"
                n += 1
                begin = time.monotonic()
                counting.ask(n, "INCR", "n")
                longest = max(longest, time.monotonic() - begin)
                if n % 20 != 0:
                    continue
                done, ready = failover.took_over(events)
                if ready and done == killed and killed < FAILOVERS:
                    os.kill(monitor.guest_part(server.process.pid), signal.SIGKILL)
                    killed += 1
            quiet.ask(big, "GET", "big")
            RedisClient(server, "new", 1).ask(b"%d" % n, "GET", "n")
            status = server.stop()
            assert status == 0, f"exit status {status}:\n{server.output()[-3000:]}"
    print(f"redis: {n} requests in order over {killed} failovers on one connection; the longest took {longest * 1000:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
