"""The worst mistakes with their texts: where to look when a model is to become better, or a label is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader

from longread.data.examples import Examples
from longread.inference.metrics import predicted_of
from longread.problems import MULTI_LABEL, REGRESSION, ProblemType

SHORT = 100  # characters of a text on a terminal
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Mistake:
    """`row` of the source split; what the label is and what the model says, in words.

    `size` is the probability of the label that is wrongly given (or 1 minus that of one that is missing), of a
    regression the distance from the number.
    """

    row: int
    label: str
    predicted: str
    size: float
    texts: tuple[str, ...]

    def line(self) -> str:
        """One line for a terminal: control characters of the text are gone, its end too."""
        text = " ".join("".join(c if c.isprintable() else " " for c in " / ".join(self.texts)).split())
        short = text if len(text) <= SHORT else text[: SHORT - 1] + "…"
        return f"row {self.row}: says {self.predicted} ({self.size:.3f}), is {self.label}: {short}"


def worst_mistakes(
    examples: Examples,
    answers: Array,
    label_names: Sequence[str],
    count: int,
    *,
    problem_type: ProblemType,
    thresholds: Sequence[float] | None = None,
) -> list[Mistake]:
    """At most `count` wrong rows, the most confident first; answers [R, C] as in metrics.py."""
    labels, predicted = examples.labels, predicted_of(answers, problem_type, thresholds)
    if problem_type == REGRESSION:
        sizes = np.abs(predicted - labels).astype(np.float64)
    elif problem_type == MULTI_LABEL:
        sizes = np.where(predicted != labels, np.abs(answers - labels), 0.0).max(axis=1)
    else:
        given = answers[np.arange(len(labels)), predicted]
        sizes = np.where(predicted != labels, given, 0.0)
    order = np.argsort(-sizes, kind="stable")[:count]
    return [
        Mistake(
            int(examples.rows[row]),
            in_words(labels[row], label_names, problem_type),
            in_words(predicted[row], label_names, problem_type),
            float(sizes[row]),
            (examples.texts[row],) if examples.pairs is None else (examples.texts[row], examples.pairs[row]),
        )
        for row in order.tolist()
        if sizes[row] > 0
    ]


def in_words(value: Any, label_names: Sequence[str], problem_type: ProblemType) -> str:
    """A class [], labels of 0 and 1 [C], or a number []."""
    if problem_type == REGRESSION:
        return f"{float(value):.4g}"
    if problem_type == MULTI_LABEL:
        return ", ".join(name for name, has in zip(label_names, value, strict=True) if has) or "no label"
    return label_names[int(value)]


def mistakes_page(mistakes: Sequence[Mistake], title: str, *, wrong: int, rows: int) -> str:
    """HTML of the mistakes, their texts whole; `wrong` of `rows` texts are wrong in all."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return templates.get_template("mistakes.html.j2").render(mistakes=mistakes, title=title, wrong=wrong, rows=rows)
