"""Do probabilities mean what they say? How far they are off, and one number that mends most of it.

Expected calibration error (ECE; Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3): answers are
put into 15 bins of equal width by their confidence; the distance between the mean confidence of a bin and the share of
it that is right is averaged over the bins, each with the weight of its answers. The confidence of one label for each
text is the probability of the most probable one. Where a text has any number of labels, every label of every text is an
answer, its confidence the label's probability, and right is where the text has it.

Temperature scaling (the same paper, section 4.2): logits are divided by the number for which the loss on held-out rows
is least. It changes no order of the classes, so no accuracy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from longread.inference.metrics import mean_loss
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

BINS = 15
TEMPERATURES = (0.05, 20.0)  # a fit that wants to leave these has rows that tell nothing
Array = npt.NDArray[Any]


def calibration(labels: Array, answers: Array, problem_type: ProblemType = SINGLE_LABEL) -> dict[str, Any] | None:
    """`ece`, and `bins` with rows in them: their ends `low` and `high`, `answers`, mean `confidence`, share `right`.

    labels [R] or [R, C] and answers [R, C] as in metrics.py. None for a regression and where there is no row.
    """
    if problem_type == REGRESSION or not len(labels):
        return None
    if problem_type == MULTI_LABEL:
        confidence, right = answers.ravel().astype(np.float64), labels.ravel() == 1
    else:
        confidence, right = answers.max(axis=1).astype(np.float64), answers.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # (low, high], as in the paper
    bins = []
    for place in np.unique(places).tolist():
        inside = places == place
        bins.append(
            {
                "low": place / BINS,
                "high": (place + 1) / BINS,
                "answers": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "right": float(right[inside].mean()),
            }
        )
    off = sum(found["answers"] * abs(found["confidence"] - found["right"]) for found in bins)
    return {"ece": off / len(confidence), "bins": bins}


def fit_temperature(logits: Array, labels: Array, problem_type: ProblemType = SINGLE_LABEL) -> float:
    """What to divide logits [R, C] by, so that the mean loss on these rows is least. ValueError for a regression."""
    from scipy.optimize import minimize_scalar

    if problem_type == REGRESSION:
        raise ValueError("a regression has no probabilities")
    wide = logits.astype(np.float64)
    found = minimize_scalar(
        lambda log_temperature: mean_loss(wide * np.exp(-log_temperature), labels, problem_type),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))
