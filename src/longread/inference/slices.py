"""How good answers are on short and on long texts, on whole ones and on cut ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.inference.metrics import predicted_of
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

SHORTEST = 64  # tokens of the first slice; each further one is twice as wide
Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


def by_length(
    labels: Array,
    answers: Array,
    tokens: Integers,
    truncated: npt.NDArray[np.bool_],
    *,
    tokens_in_text: Integers | None = None,
    problem_type: ProblemType = SINGLE_LABEL,
    thresholds: Sequence[float] | None = None,
) -> dict[str, Any]:
    """`measure`, and `slices` with rows in them: `from` and `to` tokens, `truncated`, `rows`, `value`, `low`, `high`.

    tokens [R] are those that were read of each text, truncated [R] says of which that is not all; tokens_in_text [R]
    are those of the whole texts. Where they are not known, texts that were cut are one slice, whose `to` is None. The
    measure is accuracy, exact_match where a text has any number of labels, and mae (the mean absolute error) of a
    regression; low and high are the ends of a 95 % interval over the rows: Wilson's, of a regression Student's.
    """
    predicted = predicted_of(answers, problem_type, thresholds)
    if problem_type == REGRESSION:
        measure, values = "mae", np.abs(predicted - labels).astype(np.float64)
    elif problem_type == MULTI_LABEL:
        measure, values = "exact_match", (predicted == labels).all(axis=1)
    else:
        measure, values = "accuracy", predicted == labels
    known = ~truncated if tokens_in_text is None else np.ones(len(values), dtype=bool)
    whole = tokens if tokens_in_text is None else tokens_in_text
    slices = list(_slices(values[known], whole[known], truncated[known]))
    if not known.all():
        slices.append(_slice(values[~known], int(tokens[~known].min()) + 1, None, cut=True))
    return {"measure": measure, "slices": slices}


def _slices(values: Array, tokens: Integers, truncated: npt.NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    above, upto = 0, SHORTEST
    while above < tokens.max(initial=0):
        for cut in (False, True):
            inside = values[(tokens > above) & (tokens <= upto) & (truncated == cut)]
            if len(inside):
                yield _slice(inside, above + 1, upto, cut=cut)
        above, upto = upto, 2 * upto


def _slice(values: Array, begin: int, end: int | None, *, cut: bool) -> dict[str, Any]:
    low, high = _interval(values)
    found = {"from": begin, "to": end, "truncated": cut, "rows": len(values)}
    return found | {"value": float(values.mean()), "low": low, "high": high}


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
