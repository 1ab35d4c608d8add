"""Intervals, paired tests and crossings: the only arithmetic that the report's claims rest on.

Accuracies and differences are fractions in [0, 1] here; percent is a matter of printing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
MARGIN = 0.05
SEEDS_FOR_A_CLAIM = 3  # one or two seeds are never called a difference


@dataclass(frozen=True)
class Interval:
    """A 95 % interval and what it is over: `seeds` (Student's t) or `rows` (Wilson's score)."""

    low: float
    high: float
    over: str


def mean_interval(values: Sequence[float], rows: int) -> tuple[float, Interval]:
    """Mean accuracy and its interval: over the seeds when there are two or more, else over the rows."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, wilson(mean, rows)
    half = t_half_width(values)
    return mean, Interval(max(0.0, mean - half), min(1.0, mean + half), "seeds")


def t_half_width(values: Sequence[float]) -> float:
    """Half the width of Student's 95 % interval of a mean; needs at least two values."""
    from scipy.stats import t

    n = len(values)
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return float(t.ppf(0.5 + LEVEL / 2, n - 1)) * deviation / math.sqrt(n)


def wilson(share: float, rows: int) -> Interval:
    """Wilson's score interval of a share of `rows`; stays inside [0, 1] and is never empty."""
    from scipy.stats import norm

    if rows <= 0:
        return Interval(0.0, 1.0, "rows")
    z = float(norm.ppf(0.5 + LEVEL / 2))
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), "rows")


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided McNemar test of two boolean vectors [R]: is each right on the same rows?"""
    from scipy.stats import binomtest

    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def pooled_p(p_values: Sequence[float]) -> float:
    """One p value of several that may depend on each other: Rüger's rule at the (upper) median.

    With the K-th smallest of n p values, n/K times that value is a valid p value whatever the dependence;
    K = n // 2 + 1 asks that more than half of the seeds agree.
    """
    n = len(p_values)
    k = n // 2 + 1
    return min(1.0, sorted(p_values)[k - 1] * n / k)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [1.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


@dataclass(frozen=True)
class Comparison:
    """First against second on the same rows; `p` is not yet corrected for the number of pairs."""

    difference: float
    low: float
    high: float
    p: float
    per_seed: tuple[float, ...]
    rows: int
    enough_seeds: bool

    def real(self, corrected: float) -> bool:
        """A difference is called real only with enough seeds, a small p and an interval without 0."""
        return self.enough_seeds and corrected < 1 - LEVEL and not self.low <= 0 <= self.high


def compare(first: np.ndarray, second: np.ndarray, enough_seeds: bool) -> Comparison:
    """Paired comparison of correctness, boolean [S, R] each: S pairs of runs (one a seed) on the same R rows.

    Each pair gets an exact McNemar test; a pair that points against the mean counts as p = 1; the pooled p is
    Rüger's at the median. The interval of the mean difference holds both sources of chance: the rows (normal,
    on per-row differences averaged over the seeds) and the seeds (Student's t on per-seed differences).
    """
    import numpy as np
    from scipy.stats import norm

    seeds, rows = first.shape
    per_row = (first.astype(np.float64) - second.astype(np.float64)).mean(axis=0)
    per_seed = [float(d) for d in (first.sum(axis=1, dtype=int) - second.sum(axis=1, dtype=int)) / rows]
    difference = math.fsum(per_seed) / seeds
    p_values = [mcnemar(a, b) if difference * d > 0 else 1.0 for a, b, d in zip(first, second, per_seed, strict=True)]
    half = float(norm.ppf(0.5 + LEVEL / 2)) * float(per_row.std(ddof=1)) / math.sqrt(rows) if rows > 1 else 1.0
    if seeds > 1:
        half = math.hypot(half, t_half_width(per_seed))
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Comparison(difference, low, high, pooled_p(p_values), tuple(per_seed), rows, enough_seeds)


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices that no other point beats (cheaper and better), by rising cost."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):
        if not front or values[index] > values[front[-1]]:
            front.append(index)
    return front


@dataclass(frozen=True)
class Crossing:
    """From which length on a mechanism is cheaper than dense. `length` None: nowhere that was measured."""

    length: float | None
    below: int | None  # the last length at which dense was still as cheap; None: cheaper from the first one on
    above: int | None  # the first length from which on the mechanism is cheaper
    longest: int  # the longest length at which both were measured


def crossover(lengths: Sequence[int], costs: Sequence[float], dense: Sequence[float]) -> Crossing | None:
    """Where costs fall below dense **for good**, interpolated on log-log axes between two measured lengths.

    A length counts as cheaper when it is so by more than MARGIN: a ratio of 0.99 is noise, not an overtaking.
    """
    points = sorted(zip(lengths, costs, dense, strict=True))
    if not points:
        return None
    longest = points[-1][0]
    start = len(points)
    while start > 0 and points[start - 1][1] < (1 - MARGIN) * points[start - 1][2]:
        start -= 1
    if start == len(points):
        return Crossing(None, longest, None, longest)
    n1, c1, d1 = points[start]
    if start == 0:
        return Crossing(float(n1), None, n1, longest)
    n0, c0, d0 = points[start - 1]
    before, after = math.log(c0 / d0), math.log(c1 / d1)  # after < 0; before too, within the margin
    at = math.log(n0) + max(0.0, before) / (max(0.0, before) - after) * (math.log(n1) - math.log(n0))
    return Crossing(math.exp(at), n0, n1, longest)
