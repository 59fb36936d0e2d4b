"""What one fault costs, and what the monitor holds in memory."""

import json
import os
import subprocess
import time

from recovery.programs import VMSRS, crasher, scoped_peer

FAULTS = 300
# Each of these words comes back by a trap of its own: fewer will do.
FAULTS_OF_MANY_PAGES = 40
RING_BYTES = 4096 * 32  # of each thread's ring: guest memory that the program would not have (runtime/slot_area.hpp)


def run(options, *arguments):
    """What the program said, the monitor's counters, its report, and the processor time of all its threads."""
    stats, report = os.path.join(options.scratch, "stats.json"), os.path.join(options.scratch, "report.jsonl")
    command = [VMSRS, "run", "--report", report, "--stats-json", stats, "--", crasher(options), *map(str, arguments)]
    out = os.path.join(options.scratch, "out.json")
    if os.path.exists(report):
        os.remove(report)
    with open(out, "w", encoding="utf-8") as file:
        child = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: status {child.returncode}")
    with open(out, encoding="utf-8") as file:
        found = json.load(file)
    with open(stats, encoding="utf-8") as file:
        counters = json.load(file)
    with open(report, encoding="utf-8") as file:
        lines = [line for line in map(json.loads, file) if line["type"] == "fault"]
    return found, counters, lines, usage.ru_utime + usage.ru_stime


def cost(options, _):
    result = {}
    print(f"{'a scope that wrote':<24} {'CPU us':>7} {'exits':>6} {'undone us':>16} {'landed us':>16} {'back in program us':>20}")
    for words, pages in ((15, 2), (1000, 16), (1000, 1000)):
        count = FAULTS if pages < 512 else FAULTS_OF_MANY_PAGES
        crashed = run(options, words, pages, count, 1, 0)
        quiet = run(options, words, pages, count, 0, 0)
        found, _, lines, cpu = crashed
        if found["wrong_words"] != 0 or len(lines) != count:
            raise SystemExit(f"fault: {found['wrong_words']} words were not undone, {len(lines)} faults reported")
        figures = {"cpu_us": (cpu - quiet[3]) / count * 1e6, "exits_most": max(line["exits"] for line in lines),
                   "abort_us": found["abort_us"], "land_us": found["land_us"], "wall_us": found["wall_us"],
                   "restore": lines[0]["restore"]}
        name = f"{words} words, {pages} pages"
        result[name] = figures
        print(f"{name:<24} {figures['cpu_us']:>7.0f} {figures['exits_most']:>6} "
              + " ".join(f"{found[key]['p50']:>8.0f} ({found[key]['p99']:.0f})" for key in ("abort_us", "land_us", "wall_us")))
    # A thread that touches nothing of it: no kick reaches it, and with it or without it the exits are the same.
    alone, beside = run(options, 15, 2, FAULTS, 1, 0), run(options, 15, 2, FAULTS, 1, 1)
    result["healthy_thread"] = {"kicks": beside[1].get("kicks", 0), "missing_traps": beside[1]["missing_traps"],
                                "faults": len(beside[2])}
    print(f"a thread beside {len(beside[2])} faults: {beside[1].get('kicks', 0)} kicks, {beside[1]['missing_traps']} traps; exits "
          f"{beside[1]['kvm_exits']} with it, {alone[1]['kvm_exits']} without")
    result["healthy_thread"]["exits"] = {"with": beside[1]["kvm_exits"], "without": alone[1]["kvm_exits"]}
    return result, []


def proportional_kib(pid):
    """(of the guest's memory, of everything else)"""
    guest = other = 0
    name = ""
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if not words[0].endswith(":"):
                name = words[5] if len(words) > 5 else ""
            elif words[0] == "Pss:":
                if "vmsrs-guest" in name:
                    guest += int(words[1])
                else:
                    other += int(words[1])
    return guest, other


def family(pid):
    """The monitor and its store process."""
    pids = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="utf-8") as file:
            pids += map(int, file.read().split())
    return pids


def memory(options, _):
    result = {}
    program = scoped_peer(options)
    for state in (64, 256):
        process = subprocess.Popen([VMSRS, "run", "--", program, "serve", "4", "0", "0", str(state)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        parts = []
        while process.poll() is None:  # the last look counts: by then it has touched all its state
            time.sleep(0.3)
            try:
                now = [proportional_kib(pid) for pid in family(process.pid)]
                if sum(part[0] for part in now) > 0:  # not a process that has just ended
                    parts = now
            except (FileNotFoundError, ProcessLookupError):
                pass  # it ended meanwhile
        guest, other = sum(part[0] for part in parts), sum(part[1] for part in parts) + RING_BYTES // 1024
        result[f"{state} MB"] = {"guest_and_tags_mib": guest / 1024, "beyond_mib": other / 1024, "beyond_over_guest": other / guest}
        print(f"a server of {state} MB: {guest / 1024:.0f} MiB of guest and tags, {other / 1024:.1f} MiB beyond: "
              f"{other / guest * 100:.1f} %")
    return result, []
