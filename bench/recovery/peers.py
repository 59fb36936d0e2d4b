"""The mix of requests without sockets: what scopes cost it, and what else could bring it back after a crash."""

import shutil
import statistics
import subprocess

from common.pairs import interval, text
from recovery.programs import monitored, peer, run_json, scoped_peer


def mix(options, _):
    """Throughput of the mix in scopes, over that of the same source built by g++ and run natively."""
    native, scoped = peer(options), scoped_peer(options)
    arguments = ["serve", str(options.seconds), "0", "0", "1"]
    ways = {"native": lambda: run_json([native, *arguments]), "scoped": lambda: monitored(options, [scoped, *arguments])[0]}
    ratios, rates = [], {way: [] for way in ways}
    for number in range(options.pairs + 1):
        pair = {}
        for way in ways if number % 2 == 0 else reversed(ways):
            found = ways[way]()
            pair[way] = found["done"] / found["seconds"]
        if number == 0:  # not counted: files and pages get warm
            continue
        ratios.append(pair["scoped"] / pair["native"])
        for way, rate in pair.items():
            rates[way].append(rate)
    result = {"scoped_over_native": interval(ratios),
              "us_a_request": {way: 1e6 / statistics.median(rate) for way, rate in rates.items()}}
    print(f"the mix in scopes over native: {text(result['scoped_over_native'])}; a request takes "
          + ", ".join(f"{us:.2f} us {way}" for way, us in result["us_a_request"].items()))
    return result, []


def criu():
    """Why CRIU is no peer here, or None."""
    if shutil.which("criu") is None:
        return "not installed (Debian's package: criu)"
    done = subprocess.run(["criu", "check"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else "criu check: " + done.stderr.strip().replace("\n", "; ")


def against(options, _):
    """Each way of recovery at 1, 10 and 100 crashes a second."""
    native, scoped = peer(options), scoped_peer(options)
    seconds = max(2.5, 4 * options.seconds)
    found = run_json([native, "serve", str(seconds), "0", "0", "64"])
    base = found["done"] / found["seconds"]
    ways = {"VMSRS": lambda rate: monitored(options, [scoped, "serve", str(seconds), str(rate), "0", "64"])[0]}
    for ms in (10, 100, 1000):
        ways[f"fork every {ms} ms"] = lambda rate, ms=ms: run_json([native, "fork", str(seconds), str(rate), str(ms), "64"])
    ways["restart"] = lambda rate: run_json([native, "restart", str(seconds), str(rate), "100", "64"])
    result = {"native_rate": base, "ways": {}, "criu": criu() or "can be had; not measured by this script"}
    print(f"{'way':<20} {'crashes/s':>9} {'of native':>9} {'lost a crash':>13} {'recovery us':>12} {'checkpoint us':>14}")
    lines = {}
    for way, run in ways.items():
        for rate in (0, 1, 10, 100):
            one = run(rate)
            # A copy that goes on counts from its checkpoint; a restarted server counts on, but has lost it all.
            kept = (one["done"] - (one["rolled_back"] if way == "restart" else 0)) / one["seconds"]
            figures = {"kept_of_native": kept / base, "crashes": one["crashes"],
                       "lost_a_crash": one["rolled_back"] / one["crashes"] if one["crashes"] else 0,
                       "recovery_us": one["recovery_us"], "longest_recovery_us": one["longest_recovery_us"],
                       "checkpoint_us": one["checkpoint_us"]}
            result["ways"].setdefault(way, {})[str(rate)] = figures
            lines.setdefault(way, []).append((max(rate, 0.1), kept / base))
            print(f"{way:<20} {rate:>9} {kept / base:>9.3f} {figures['lost_a_crash']:>13.0f} {one['recovery_us']:>12.0f} "
                  f"{one['checkpoint_us']:>14.0f}", flush=True)
    print("CRIU: " + result["criu"])
    return result, [{"file": "peers.svg", "title": "Work that is kept, of native without crashes", "x_label": "crashes a second",
                     "y_label": "of native", "series": list(lines.items()), "log_x": True}]
