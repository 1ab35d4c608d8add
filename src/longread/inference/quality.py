"""What a record says of answers beside their metrics: class by class, whether they are calibrated, by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data.examples import Examples
from longread.inference.calibration import calibration
from longread.inference.metrics import per_class
from longread.inference.mistakes import Mistake, worst_mistakes
from longread.inference.slices import by_length
from longread.problems import REGRESSION, ProblemType
from longread.records import Run


@dataclass(frozen=True)
class Evaluated:
    """A run with what it was scored on and what the model said: answers [R, C] as in metrics.py."""

    run: Run
    examples: Examples
    answers: npt.NDArray[np.float32]
    thresholds: tuple[float, ...] | None

    def worst(self, count: int) -> list[Mistake]:
        """At most `count` wrong rows with their texts, the most confident first."""
        rows = self.examples
        return worst_mistakes(
            rows, self.answers, rows.label_names, count, problem_type=rows.problem_type, thresholds=self.thresholds
        )


def closer_look(
    labels: npt.NDArray[Any],
    answers: npt.NDArray[Any],
    label_names: Sequence[str],
    problem_type: ProblemType,
    *,
    thresholds: Sequence[float] | None = None,
    tokens: npt.NDArray[np.int64] | None = None,
    truncated: npt.NDArray[np.bool_] | None = None,
    tokens_in_text: npt.NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Fields of a RunRecord; labels and answers as in metrics.py.

    tokens, truncated and tokens_in_text [R] as in slices.py; a model that knows no tokens has no `by_length`.
    """
    found: dict[str, Any] = {}
    if problem_type != REGRESSION:
        classes, confusion = per_class(labels, answers, label_names, problem_type, thresholds)
        found = {"per_class": classes, "confusion_matrix": confusion}
        found["calibration"] = calibration(labels, answers, problem_type)
    if tokens is not None and truncated is not None:
        found["by_length"] = by_length(
            labels, answers, tokens, truncated,
            tokens_in_text=tokens_in_text, problem_type=problem_type, thresholds=thresholds,
        )  # fmt: skip
    return found
