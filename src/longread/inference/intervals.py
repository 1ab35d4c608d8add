"""95 % intervals of one run's metrics over the choice of its evaluation rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.problems import MULTI_LABEL, REGRESSION, ProblemType

LEVEL = 0.95
DRAWS = 1000
AT_ONCE = 2**20  # weights of rows that are in memory

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def intervals(
    labels: Array, predicted: Array, problem_type: ProblemType, classes: int
) -> dict[str, tuple[float, float]]:
    """Metric -> both ends. labels and predicted [R] or [R, C] as in metrics.py, of C `classes`.

    Shares of rows have Wilson's interval, Spearman's correlation that of Bonett and Wright (2000, "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations"); the others the percentiles of 1,000
    bootstrap samples (Poisson weights of the rows). A metric that all samples agree on has none: they tell nothing.
    Nor has average precision.
    """
    if len(labels) < 2:
        return {}
    if problem_type == REGRESSION:
        return _of_numbers(labels.astype(np.float64), predicted.astype(np.float64))
    several = problem_type == MULTI_LABEL
    labels, predicted, rows = _different(labels, predicted, classes)
    is_label = labels == 1 if several else labels[:, None] == np.arange(classes)
    said = predicted == 1 if several else predicted[:, None] == np.arange(classes)
    counts = np.concatenate([is_label & said, is_label, said], axis=1).astype(np.float32)
    drawn = np.concatenate([weights @ counts for weights in _weights(rows)]).astype(np.float64)
    right, has, given = np.split(drawn, 3, axis=1)
    f1 = 2 * right / np.maximum(has + given, 1)
    share = wilson(int(rows[(is_label == said).all(axis=1)].sum()), int(rows.sum()))
    if several:
        micro = 2 * right.sum(axis=1) / np.maximum((has + given).sum(axis=1), 1)
        return {"exact_match": share} | _middle({"f1_micro": micro, "f1_macro": f1.mean(axis=1)})
    occurs = has + given > 0  # in this sample, as in metrics.py
    macro = (f1 * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return {"accuracy": share} | _middle({"f1": f1[:, 1] if classes == 2 else macro, "f1_macro": macro})


def _different(labels: Array, predicted: Array, classes: int) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """The rows [K] that differ in label or prediction, and how many there are of each: few, whatever their number.

    The sum of n Poisson weights of mean 1 is one of mean n.
    """
    if labels.ndim == 1:
        cells, rows = np.unique(labels.astype(np.int64) * classes + predicted, return_counts=True)
        return cells // classes, cells % classes, rows
    both, rows = np.unique(np.concatenate([labels == 1, predicted == 1], axis=1), axis=0, return_counts=True)
    return both[:, : labels.shape[1]], both[:, labels.shape[1] :], rows


def _of_numbers(labels: Floats, predicted: Floats) -> dict[str, tuple[float, float]]:
    from scipy.stats import spearmanr

    off = predicted - labels
    centred = labels - labels.mean()
    sums = np.stack([np.ones(len(off)), off**2, np.abs(off), centred, centred**2], axis=1)
    drawn = np.concatenate([weights.astype(np.float64) @ sums for weights in _weights(np.ones(len(off)))])
    rows, squared, absolute, first, second = drawn[drawn[:, 0] > 1].T
    spread = second - first**2 / rows
    some = spread > 0
    found = _middle({"mse": squared / rows, "mae": absolute / rows, "r2": 1 - squared[some] / spread[some]})
    if len(off) > 3 and np.ptp(labels) > 0 and np.ptp(predicted) > 0:
        value = float(spearmanr(labels, predicted).statistic)
        if abs(value) < 1:
            half = 1.959964 * np.sqrt((1 + value**2 / 2) / (len(off) - 3))
            found["spearman"] = (float(np.tanh(np.arctanh(value) - half)), float(np.tanh(np.arctanh(value) + half)))
    return found


def wilson(right: int, rows: int) -> tuple[float, float]:
    """Wilson's score interval of a share of the rows."""
    from scipy.stats import binomtest

    found = binomtest(right, rows).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def _weights(rows: Array) -> Iterator[npt.NDArray[np.float32]]:
    """How often each is in a bootstrap sample, `rows` [K] times as likely: [some samples, K], all of them `DRAWS`."""
    random = np.random.default_rng(0)
    some = max(1, min(DRAWS, AT_ONCE // len(rows)))
    for first in range(0, DRAWS, some):
        yield random.poisson(rows, (min(some, DRAWS - first), len(rows))).astype(np.float32)


def _middle(samples: dict[str, Floats]) -> dict[str, tuple[float, float]]:
    found = {}
    for name, values in samples.items():
        if len(values):
            low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            if low < high:
                found[name] = (float(low), float(high))
    return found
