"""Ratios of two ways of one thing, measured in alternating pairs of one run."""

import math
import statistics

# Two-sided 95 % quantiles of Student's t for 1 .. 30 degrees of freedom (any table of statistics).
T95 = [12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
       2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]
MOST_PAIRS = len(T95) + 1


def mean_ratio(ratios):
    """The mean and half of its 95 % confidence interval."""
    return statistics.mean(ratios), T95[len(ratios) - 2] * statistics.stdev(ratios) / math.sqrt(len(ratios))


def interval(values):
    """As JSON: the mean, and the two ends of its 95 % confidence interval."""
    mean, half = mean_ratio(values)
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": len(values)}


def text(figure, digits=3):
    low, high = figure["ci95"]
    return f"{figure['mean']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
