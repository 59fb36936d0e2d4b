"""The time model of paper 004, figure 6, with measured parameters: going forward against rolling back.

N users make r requests a second each, of t seconds; each user's code crashes f times a second. What a user loses of each
second:

  rolling back   C / T + N f (R + T / 2 * N r t)     a checkpoint (C) every T stops everybody; so does anybody's crash: the
                                                     return (R), and all work since the checkpoint done once more
  going forward  o r t + f (A + t)                   what logging adds (o) to the user's own requests; of the crashes only
                                                     the user's own: the undo (A), and one request once more

T is the best for each N: sqrt(2 C / (N f N r t)). The users at which both cost the same are the crossover.
"""

import math

REQUESTS = 1.0  # of a user, a second


def rolling_back(n, f, p):
    load = min(1.0, n * REQUESTS * p["request_s"])
    best = math.sqrt(2 * p["checkpoint_s"] / (n * f * load))
    return p["checkpoint_s"] / best + n * f * (p["return_s"] + best / 2 * load)


def going_forward(_, f, p):
    return p["logging"] * REQUESTS * p["request_s"] + f * (p["undo_s"] + p["request_s"])


def crossover(_, results):
    fork = results["peers"]["ways"]["fork every 100 ms"]
    p = {"request_s": results["mix"]["us_a_request"]["native"] / 1e6,
         "logging": max(0.0, 1 / results["mix"]["scoped_over_native"]["mean"] - 1),
         "undo_s": results["fault"]["15 words, 2 pages"]["wall_us"]["p50"] / 1e6,
         "checkpoint_s": fork["0"]["checkpoint_us"] / 1e6, "return_s": fork["10"]["recovery_us"] / 1e6}
    result, plots = {"parameters": p, "crossover_users": {}}, []
    print("measured: " + ", ".join(f"{key} {value:.3g}" for key, value in p.items()))
    counts = [10 ** (i / 8) for i in range(0, 33)]
    for every, f in (("hour", 1 / 3600), ("day", 1 / 86400), ("30 days", 1 / 2592000)):
        at = next((n for n in range(1, 1_000_001) if going_forward(n, f, p) < rolling_back(n, f, p)), None)
        result["crossover_users"][f"a crash a user and {every}"] = at
        print(f"a crash a user and {every}: going forward is cheaper from {at or 'no number of'} user(s) on; of 1,000 users each "
              f"loses {going_forward(1000, f, p) * 1e6:.3g} us a second, rolling back {rolling_back(1000, f, p) * 1e6:.3g}")
        plots.append({"file": f"model-{every.replace(' ', '-')}.svg", "title": f"What recovery costs a user; a crash a user and {every}",
                      "x_label": "users", "y_label": "us a second that each user loses", "log_x": True, "log_y": True,
                      "series": [("rolling back", [(n, rolling_back(n, f, p) * 1e6) for n in counts]),
                                 ("going forward", [(n, going_forward(n, f, p) * 1e6) for n in counts])]})
    return result, plots
