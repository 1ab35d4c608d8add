"""The study experiments/explain_faithfulness.py as a table: what removing a tenth of the tokens costs."""

from __future__ import annotations

import statistics as plain
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rows import NoSuchRowError, groups
from scipy.stats import bootstrap

from longread.report.cells import Cell, Column, Row, Table
from longread.report.groups import Line
from longread.report.markdown import markdown_table
from longread.report.tables import accuracy_cells

WAYS = ("probability", "without_top", "without_random")
RESAMPLES = 10_000


def table(study: str) -> str:
    """One row a model: mean probability of the predicted label in three texts, and the paired difference."""
    columns = (Column("Model", numeric=False), Column("Accuracy", "%"), Column("Probability"),
               Column("Without the top tenth"), Column("Without a random tenth"),
               Column("Difference and its 95 % interval", numeric=False), Column("Reviews"))  # fmt: skip
    body = []
    for line in groups(study)[0].done:
        found = measured(line)
        low, high = paired_interval(found["without_random"], found["without_top"])
        means = [plain.fmean(found[way]) for way in WAYS]
        difference = f"{means[2] - means[1]:.3f} ({low:.3f} – {high:.3f})"
        texts = (line.title(), accuracy_cells(line, bold=False)[0].text, *(f"{mean:.3f}" for mean in means))
        body.append(Row(tuple(map(Cell, (*texts, difference, f"{len(found['probability']):,}")))))
    return markdown_table(Table(columns, tuple(body)))


def measured(line: Line) -> Mapping[str, Any]:
    found = line.outcomes[0].run.record.get("faithfulness")
    if not isinstance(found, dict):
        raise NoSuchRowError(f"{line.name()} has no measurement of its explanations")
    return found


def paired_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval (BCa) of the mean difference, first minus second, over the pairs."""
    differences = np.subtract(first, second)
    found = bootstrap((differences,), np.mean, n_resamples=RESAMPLES, rng=0).confidence_interval
    return float(found.low), float(found.high)
