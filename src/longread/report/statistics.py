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
DRAWS_FOR_A_CLAIM = 3  # with one or two independent draws no difference is called significant


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; it covers the choice of rows, and that of the draws where there are two or more."""

    low: float
    high: float
    draws: int  # independent draws (report/lineage.py)

    @property
    def over(self) -> str:
        return "rows" if self.draws < 2 else f"rows and {self.draws} draws"


def mean_interval(values: Sequence[float], rows: int, draws: Sequence[int] | None = None) -> tuple[float, Interval]:
    """Mean accuracy of runs on the same rows, and its interval over rows and draws together.

    `draws[i]` numbers the independent draw of run i; default: each run is one. The distances from the mean to the
    ends of Wilson's interval (the rows) and of Student's (the draws' means) are added in squares, as Zou and Donner do
    (2008, "Construction of confidence limits about effect measures", MOVER). The first counts what rows and draws have
    in common once more, so that the whole errs on the wide side. One draw leaves the rows alone.
    """
    mean = math.fsum(values) / len(values)
    by_rows = wilson(mean, rows)
    numbers = list(range(len(values))) if draws is None else list(draws)
    count = len(set(numbers))
    by_draws = student(count) * standard_error(values, numbers)
    low = mean - math.hypot(mean - by_rows.low, by_draws)
    high = mean + math.hypot(by_rows.high - mean, by_draws)
    return mean, Interval(max(0.0, low), min(1.0, high), count)


def student(draws: int, share: float = 0.5 + LEVEL / 2) -> float:
    """Student's quantile for the mean of so many draws; 0 for one, which tells nothing of others."""
    if draws < 2:
        return 0.0
    from scipy.stats import t

    return float(t.ppf(share, draws - 1))


def standard_error(values: Sequence[float], draws: Sequence[int]) -> float:
    """Standard error of the mean of all values, those of one draw being no independent ones; 0 for one draw.

    The weighted form of s / sqrt(n): a draw's mean counts by how many values it has.
    """
    mean = math.fsum(values) / len(values)
    sums: dict[int, float] = {}
    for value, draw in zip(values, draws, strict=True):
        sums[draw] = sums.get(draw, 0.0) + (value - mean)
    count = len(sums)
    if count < 2:
        return 0.0
    return math.sqrt(count / (count - 1) * math.fsum(s * s for s in sums.values())) / len(values)


def wilson(share: float, rows: int) -> Interval:
    """Wilson's score interval of a share of `rows`; stays inside [0, 1] and is never empty.

    Written out because scipy's takes whole counts only, and a mean over runs is none.
    """
    from scipy.stats import norm

    if rows <= 0:
        return Interval(0.0, 1.0, 1)
    z = float(norm.ppf(0.5 + LEVEL / 2))
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), 1)


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
    """First against second on the same rows; `p` is not yet corrected for the number of comparisons."""

    difference: float
    low: float
    high: float
    p: float
    per_seed: tuple[float, ...]
    rows: int
    draws: int | None  # independent pairs of runs; None where neither side has chance in its training

    @property
    def enough_draws(self) -> bool:
        return self.draws is None or self.draws >= DRAWS_FOR_A_CLAIM

    def significant(self, corrected: float) -> bool:
        """Only with enough independent draws, a small p and an interval without 0."""
        return self.enough_draws and self.apart(corrected)

    def apart(self, corrected: float) -> bool:
        return corrected < 1 - LEVEL and not self.low <= 0 <= self.high


def compare(first: np.ndarray, second: np.ndarray, draws: Sequence[int] | None) -> Comparison:
    """Paired comparison of correctness, boolean [S, R] each: S pairs of runs on the same R rows.

    `draws[i]` numbers the independent draw of pair i; None: no chance on either side. Each pair gets an exact McNemar
    test; a pair that points against the mean counts as p = 1; the pooled p is Rüger's at the median. The interval is
    `difference_interval`'s.
    """
    per_seed, difference = differences(first, second)
    p_values = [mcnemar(a, b) if difference * d > 0 else 1.0 for a, b, d in zip(first, second, per_seed, strict=True)]
    numbers = [0] * len(per_seed) if draws is None else list(draws)
    half = half_width(first, second, numbers, 0.5 + LEVEL / 2)
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    count = None if draws is None else len(set(draws))
    return Comparison(difference, low, high, pooled_p(p_values), tuple(per_seed), first.shape[1], count)


def differences(first: np.ndarray, second: np.ndarray) -> tuple[list[float], float]:
    """Difference in accuracy of each pair of runs, and their mean."""
    per_seed = [float(d) for d in (first.sum(axis=1, dtype=int) - second.sum(axis=1, dtype=int)) / first.shape[1]]
    return per_seed, math.fsum(per_seed) / len(per_seed)


def half_width(first: np.ndarray, second: np.ndarray, draws: Sequence[int], share: float) -> float:
    """Distance from the mean difference to an end of its interval, boolean [S, R] each, over rows and draws.

    Rows: normal, on per-row differences averaged over the runs. Draws: Student's t on their mean differences. Added
    in squares. `share` is the quantile: .975 for a two-sided interval of 95 %, .95 for a one-sided bound.
    """
    import numpy as np
    from scipy.stats import norm

    rows = first.shape[1]
    per_row = (first.astype(np.float64) - second.astype(np.float64)).mean(axis=0)
    by_rows = float(norm.ppf(share)) * float(per_row.std(ddof=1)) / math.sqrt(rows) if rows > 1 else 1.0
    per_seed, _ = differences(first, second)
    return math.hypot(by_rows, student(len(set(draws)), share) * standard_error(per_seed, draws))


@dataclass(frozen=True)
class NonInferiority:
    """Is the first at most `margin` below the second? `lower`: one-sided 95 % bound of first minus second."""

    difference: float
    lower: float
    margin: float
    draws: int  # below 2, the bound is over rows only

    @property
    def shown(self) -> bool:
        return self.lower > -self.margin


def non_inferiority(
    first: np.ndarray, second: np.ndarray, margin: float, draws: Sequence[int] | None = None
) -> NonInferiority:
    """The claim "within `margin`" (a fraction): boolean [S, R] each, S pairs of runs on the same R rows.

    It is shown where the lower end of the difference's one-sided 95 % interval, over rows and draws, lies above
    -margin. That a difference is not significant shows no such thing. A negative margin asks for a lead of so much.
    `draws` as in `compare`; default: each pair of runs is a draw.
    """
    _, difference = differences(first, second)
    numbers = list(range(len(first))) if draws is None else list(draws)
    lower = max(-1.0, difference - half_width(first, second, numbers, LEVEL))
    return NonInferiority(difference, lower, margin, len(set(numbers)))


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
