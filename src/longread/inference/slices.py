"""How good answers are on short and on long texts, on whole ones and on cut ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.inference.metrics import predicted_of
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

SHORTEST = 64  # tokens of the first slice; each further one is twice as wide
Array = npt.NDArray[Any]


def by_length(
    labels: Array,
    answers: Array,
    tokens: npt.NDArray[np.int64],
    truncated: npt.NDArray[np.bool_],
    problem_type: ProblemType = SINGLE_LABEL,
    thresholds: Any = None,
) -> dict[str, Any]:
    """`measure`, and `slices` with rows in them: `from` and `to` tokens, `truncated`, `rows`, `value`, `low`, `high`.

    tokens [R] are those of the whole texts, truncated [R] says which were not read to their end. The measure is
    accuracy, exact_match where a text has any number of labels, and mae (the mean absolute error) of a regression; low
    and high are the ends of a 95 % interval over the rows: Wilson's, of a regression Student's.
    """
    predicted = predicted_of(answers, problem_type, 0.5 if thresholds is None else thresholds)
    if problem_type == REGRESSION:
        measure, values = "mae", np.abs(predicted - labels).astype(np.float64)
    elif problem_type == MULTI_LABEL:
        measure, values = "exact_match", (predicted == labels).all(axis=1)
    else:
        measure, values = "accuracy", predicted == labels
    return {"measure": measure, "slices": list(_slices(values, tokens, truncated))}


def _slices(values: Array, tokens: Array, truncated: Array) -> Iterator[dict[str, Any]]:
    above, upto = 0, SHORTEST
    longest = int(tokens.max(initial=0))
    while above < longest:
        for cut in (False, True):
            inside = values[(tokens > above) & (tokens <= upto) & (truncated == cut)]
            if len(inside):
                low, high = _interval(inside)
                yield {
                    "from": above + 1,
                    "to": upto,
                    "truncated": cut,
                    "rows": len(inside),
                    "value": float(inside.mean()),
                    "low": low,
                    "high": high,
                }
        above, upto = upto, 2 * upto


def _interval(values: Array) -> tuple[float, float]:
    from scipy.stats import binomtest, t

    if values.dtype == bool:
        found = binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
        return float(found.low), float(found.high)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, mean
    half = float(t.ppf(0.975, count - 1)) * float(values.std(ddof=1)) / count**0.5
    return max(0.0, mean - half), mean + half
