"""Runs of `vmsrs inject`, and what each injection came to: judged from the client's side, with the monitor's report and
the injector's log as evidence (docs/injection.md).
"""

import collections
import json
import math

# From best to worst; a run's worst is that of one of its injections.
OUTCOMES = ("no effect", "recovered", "leaked", "exposed", "escalated", "wrong answer", "hung", "died")
BAD = ("wrong answer", "hung", "died")
COLOURS = {"no effect": "#c8d6df", "recovered": "#4c9a5b", "leaked": "#a9c94a", "exposed": "#e2c044",
           "escalated": "#e08e3a", "wrong answer": "#c0392b", "hung": "#7d3c98", "died": "#222222"}


def json_lines(name):
    found = []
    try:
        with open(name, encoding="utf-8") as file:
            for line in file:
                try:
                    found.append(json.loads(line))
                except ValueError:  # the server ended within it
                    pass
    except FileNotFoundError:
        pass
    return found


def injected(log):
    return sum(line["type"] == "injection" for line in json_lines(log))


class Client:
    """What the clients of one run say."""

    def __init__(self):
        self.wrong = []     # answers or data that are not the model's
        self.hung = []      # requests without an answer in time, threads or servers that did not end
        self.status = 0     # the server's exit status, as a shell says it
        self.requests = 0
        self.told = 0       # requests whose client was told that they failed
        self.notes = {}


def classify(log, report, client):
    """For each injection of one run: (kind, outcome, cause)."""
    lines = json_lines(log)
    injections = [line for line in lines if line["type"] == "injection"]
    outcomes = {line["index"]: line for line in lines if line["type"] == "outcome"}
    reports = collections.defaultdict(collections.deque)
    for line in json_lines(report):
        if line.get("type") == "fault":
            reports[line["thread"]].append(line)
    result = []
    for line in injections:
        fault = outcomes.get(line["index"], {"fault": "?", "contained": False, "signal": 0})
        queue = reports[line["thread"]]
        said = queue.popleft() if fault["fault"] and queue else None
        result.append([line["kind"], *one(fault, said), line, said])
    ended = client.status != 0
    if ended and client.status > 128:
        # The injection whose fault was the last ended the server, unless the report names another.
        struck = [r for r in result if r[1] == "escalated"] or [r for r in result if r[1] != "recovered"] or result
        if struck and not any(r[1] == "escalated" for r in result):
            struck[-1][1:3] = ["died", f"signal {client.status - 128}"]
    elif ended and not client.hung and not client.wrong:
        if result:
            result[-1][1:3] = ["died", f"exit status {client.status}"]
    for bad, words in (("wrong answer", client.wrong), ("hung", client.hung)):
        if words and result:
            # Of the run's injections the one most like it: one that was not contained, else the last.
            likely = [r for r in result if r[1] == "no effect"] or result
            if not any(r[1] == "escalated" for r in result):
                likely[-1][1:3] = [bad, words[0][:200]]
    return result


def one(fault, said):
    if said is not None and said["outcome"].startswith("not contained"):
        return "escalated", said["outcome"].removeprefix("not contained: ")
    if fault["fault"] == "?":
        return "no effect", "the run ended first"
    if not fault["fault"]:
        return "no effect", ""
    if not fault["contained"]:
        return "escalated", f"{fault['fault']}: not contained"
    if said is not None and said.get("exposed", 0) > 0:
        return "exposed", "somebody had committed what built on an undone value"
    if said is not None and said.get("tainted"):
        return "leaked", "in libsrs's or the allocator's own code"
    return "recovered", ""


def upper_bound(bad, n, confidence=0.95):
    """Clopper-Pearson: the largest rate that `bad` of `n` does not rule out, one-sided."""
    if n == 0 or bad >= n:
        return 1.0
    if bad == 0:
        return 1 - (1 - confidence) ** (1 / n)

    def at_most(rate):
        total = 0.0
        for k in range(bad + 1):
            total += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(rate) +
                              (n - k) * math.log1p(-rate))
        return total

    low, high = bad / n, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(middle) > 1 - confidence else (low, middle)
    return high


def summed(runs):
    """By row: counts of outcomes, causes of each but the first two, requests."""
    rows = {}
    for run in runs:
        row = rows.setdefault(run["row"], {"injected": 0, "runs": 0, "requests": 0, "told": 0, "bound": run["bound"],
                                           "outcomes": collections.Counter(), "causes": collections.Counter()})
        row["runs"] += 1
        row["requests"] += run["requests"]
        row["told"] += run["told"]
        for kind, outcome, cause in run["injections"]:
            row["injected"] += 1
            row["outcomes"][outcome] += 1
            if cause and outcome not in ("recovered", "no effect"):
                row["causes"][f"{outcome} ({kind}): {cause}"] += 1
    return rows


def bounds(rows):
    """Over all rows that the promise covers: (injected, {bad outcome: (count, upper bound at 95 %)})."""
    covered = [row for row in rows.values() if row["bound"]]
    n = sum(row["injected"] for row in covered)
    found = {bad: sum(row["outcomes"][bad] for row in covered) for bad in BAD}
    return n, {bad: (count, upper_bound(count, n)) for bad, count in found.items()}


def table(rows):
    shown = [o for o in OUTCOMES if any(row["outcomes"][o] for row in rows.values()) or o in BAD]
    lines = ["| what, and where | injected | " + " | ".join(shown) + " |", "|---|" + "---:|" * (len(shown) + 1)]
    for name, row in rows.items():
        lines.append(f"| {name}{' *' if row['bound'] else ''} | {row['injected']} | " +
                     " | ".join(str(row["outcomes"][o] or "") for o in shown) + " |")
    total = collections.Counter()
    for row in rows.values():
        total.update(row["outcomes"])
    lines.append(f"| all | {sum(total.values())} | " + " | ".join(str(total[o]) for o in shown) + " |")
    return "\n".join(lines)


def svg(rows):
    """Stacked bars, a row each."""
    height, left, width = 22, 330, 520
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{len(rows) * height + 60}" '
             'font-family="sans-serif" font-size="12">']
    x = left
    for outcome in OUTCOMES:
        parts.append(f'<rect x="{x}" y="8" width="10" height="10" fill="{COLOURS[outcome]}"/>'
                     f'<text x="{x + 14}" y="18">{outcome}</text>')
        x += 26 + 6.2 * len(outcome)
    for i, (name, row) in enumerate(rows.items()):
        y, x = 30 + i * height, float(left)
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>')
        for outcome in OUTCOMES:
            share = row["outcomes"][outcome] / max(row["injected"], 1) * width
            if share:
                parts.append(f'<rect x="{x:.1f}" y="{y}" width="{share:.2f}" height="{height - 5}" '
                             f'fill="{COLOURS[outcome]}"><title>{outcome}: {row["outcomes"][outcome]}</title></rect>')
            x += share
        parts.append(f'<text x="{left + width + 8}" y="{y + 14}">{row["injected"]}</text>')
    return "\n".join([*parts, "</svg>\n"])
