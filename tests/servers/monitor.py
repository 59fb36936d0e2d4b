"""What a monitor costs its host: memory beyond the guest's, processor time, descriptors, threads."""

import os
import re
import time

GUEST = range(0x1000000000, 0xc000000000)  # the high window and its tags, see docs/design.md
RANGE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$")


def processes(pid):
    """The monitor and its children, of which the store process is one."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found += [int(child) for child in file.read().split()]
    return found


def children(pid):
    """Of a process that may end meanwhile."""
    try:
        return processes(pid)[1:]
    except (FileNotFoundError, ProcessLookupError):
        return []


def guest_part(director):
    """Of what `vmsrs run --protect` started, the process that runs the guest; None: there is none just now."""
    for pid in children(director):
        try:
            for number in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{number}") == "anon_inode:kvm-vm":
                    return pid
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def own_bytes(pid):
    """Resident memory of the monitor's processes that is not the guest's: everything but the guest's memory."""
    total = 0
    for process in processes(pid):
        guest = False
        with open(f"/proc/{process}/smaps", encoding="ascii", errors="replace") as file:
            for line in file:
                match = RANGE.match(line)
                if match:
                    start = int(match[1], 16)
                    guest = "vmsrs-guest" in match[4] or start in GUEST or start < 0x40000000
                elif line.startswith("Rss:") and not guest:
                    total += int(line.split()[1]) * 1024
    return total


def cpu_seconds(pid):
    """Processor time of all its threads, the guest's own included."""
    total = 0
    for process in processes(pid):
        for task in os.listdir(f"/proc/{process}/task"):
            try:
                with open(f"/proc/{process}/task/{task}/schedstat", encoding="ascii") as file:
                    total += int(file.read().split()[0])
            except FileNotFoundError:
                pass
    return total / 1e9


def idle_percent(pid, seconds):
    """Of one core, the best of two times: other work on the machine may only add to it."""
    found = []
    for _ in range(2):
        begin, then = time.monotonic(), cpu_seconds(pid)
        time.sleep(seconds / 2)
        found.append((cpu_seconds(pid) - then) / (time.monotonic() - begin) * 100)
    return min(found)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
