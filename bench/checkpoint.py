#!/usr/bin/env python3
"""What an epoch costs a running guest: its pause against the pages that changed, bytes, and the time to restore.

  bench/run checkpoint [--epochs N] [--every MS] [--memory MIB] [--json FILE]

For each number of pages a guest (bench/dirty_pages.c) writes so many of its memory between two epochs. A row: pages
copied, pause p50 and p99 with its parts (until all threads stand; state; memory), bytes of an epoch, time of encoding.
Then the guest is killed and restored from the sum: milliseconds from the start of `vmsrs restore` until the guest's code
runs, for a file of one full epoch and all others.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

VMSRS = "build/release/bin/vmsrs"
GUEST = "build/release/bench/guests/dirty_pages"
PAGES = (0, 100, 1000, 10000)


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]


def measure(pages, options, scratch):
    state = os.path.join(scratch, "state")
    guest = subprocess.Popen([VMSRS, "run", "--", GUEST, str(pages), str(options.memory), str(options.every)],
                             stdout=subprocess.PIPE, text=True)
    try:
        if guest.stdout.readline() != "ready\n":
            sys.exit("the guest did not start")
        done = subprocess.run([VMSRS, "checkpoint", "--epochs", str(options.epochs), "--every", str(options.every),
                               str(guest.pid), state], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            sys.exit(done.stderr)
    finally:
        guest.kill()
        guest.wait()
    epochs = [json.loads(line) for line in done.stdout.splitlines()]
    full, rest = epochs[0], epochs[1:]
    time.sleep(0.3)
    begin = time.monotonic()
    restored = subprocess.Popen([VMSRS, "restore", state], stdout=subprocess.PIPE, text=True)
    line = restored.stdout.readline()
    restore_ms = (time.monotonic() - begin) * 1000
    restored.kill()
    restored.wait()
    if not line.startswith("gap "):
        sys.exit(f"the restored guest says {line!r}")

    def us(field, p):
        return percentile([e[field] for e in rest], p) / 1000

    return {"pages": pages,
            "copied_p50": statistics.median(e["pages_copied"] for e in rest),
            "kept_p50": statistics.median(e["pages_kept"] for e in rest),
            "pause_p50_us": us("pause_ns", 50), "pause_p99_us": us("pause_ns", 99),
            "stop_p50_us": us("stop_ns", 50), "state_p50_us": us("state_ns", 50), "memory_p50_us": us("memory_ns", 50),
            "encode_p50_us": us("encode_ns", 50),
            "bytes_p50": statistics.median(e["bytes"] for e in rest),
            "full_bytes": full["bytes"], "full_pause_us": full["pause_ns"] / 1000,
            "restore_ms": restore_ms, "file_bytes": os.path.getsize(state)}


def main():
    parser = argparse.ArgumentParser(prog="bench/run checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100, metavar="N")
    parser.add_argument("--every", type=int, default=25, metavar="MS")
    parser.add_argument("--memory", type=int, default=64, metavar="MIB", help="of the guest's program")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = []
    print(f"{'pages':>6} {'copied':>7} {'kept':>6} | {'pause p50':>9} {'p99':>8} = {'stop':>7} {'state':>7} {'memory':>7} us"
          f" | {'encode us':>9} {'KiB':>8} | {'restore ms':>10}")
    with tempfile.TemporaryDirectory(prefix="bench-checkpoint-") as scratch:
        for pages in PAGES:
            row = measure(pages, options, scratch)
            rows.append(row)
            print(f"{pages:6} {row['copied_p50']:7.0f} {row['kept_p50']:6.0f} | {row['pause_p50_us']:9.0f} {row['pause_p99_us']:8.0f}"
                  f" = {row['stop_p50_us']:7.0f} {row['state_p50_us']:7.0f} {row['memory_p50_us']:7.0f}   "
                  f" | {row['encode_p50_us']:9.0f} {row['bytes_p50'] / 1024:8.1f} | {row['restore_ms']:10.1f}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
