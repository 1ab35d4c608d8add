"""From which probability on a label is given: chosen on held-out rows, where one half is not the best place."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from longread.inference.metrics import THRESHOLD
from longread.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType

ThresholdMetric = Literal["f1", "f1_macro", "accuracy"]
Array = npt.NDArray[Any]


def choose_thresholds(
    labels: Array, answers: Array, metric: ThresholdMetric, problem_type: ProblemType = SINGLE_LABEL
) -> tuple[float, ...]:
    """Of two classes the one of class 1; where a text has any number of labels, one for each.

    labels [R] or [R, C], answers [R, C]. Each lies half-way between two probabilities of these rows; f1_macro is the
    mean of the label's F1 and that of its absence. A label that no row has, or that all have, keeps one half.
    ValueError for a regression and for more than two classes.
    """
    if problem_type == MULTI_LABEL:
        columns = [(labels[:, c] == 1, answers[:, c]) for c in range(answers.shape[1])]
    elif problem_type == SINGLE_LABEL and answers.shape[1] == 2:
        columns = [(labels == 1, answers[:, 1])]
    else:
        raise ValueError("thresholds are for two classes, or for labels of which a text may have any number")
    return tuple(_best(is_label, given.astype(np.float64), metric) for is_label, given in columns)


def _best(is_label: npt.NDArray[np.bool_], given: Array, metric: ThresholdMetric) -> float:
    if is_label.all() or not is_label.any():
        return THRESHOLD
    order = np.argsort(-given, kind="stable")
    given, is_label = given[order], is_label[order]
    # The label is given to the first k rows, for every k that ends between two different probabilities.
    ends = np.flatnonzero(given[:-1] > given[1:])
    true = np.cumsum(is_label)[ends]
    said, has, rows = ends + 1, int(is_label.sum()), len(given)
    f1 = 2 * true / (said + has)
    wrong = said + has - 2 * true
    scores = {
        "f1": f1,
        "f1_macro": (f1 + 2 * (rows - has - said + true) / (2 * rows - said - has)) / 2,
        "accuracy": 1 - wrong / rows,
    }[metric]
    places = (given[ends] + given[ends + 1]) / 2
    if not len(places):
        return THRESHOLD
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(places[best[np.argmin(np.abs(places[best] - THRESHOLD))]])
