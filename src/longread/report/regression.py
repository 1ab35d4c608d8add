"""The comparison of models that predict a number: means over the runs, without the tests of shares."""

from __future__ import annotations

from collections.abc import Callable

from longread.problems import METRIC_WORDS
from longread.report.cells import Cell, Column, Table
from longread.report.groups import Group, Line, Outcome
from longread.report.measures import Measure, main_measures
from longread.report.notes import comparison_notes
from longread.report.tables import ATTENTION, WHAT_RAN, name_cell, rows_of

DECIMALS = {"r2": 3, "mse": None, "mae": None, "spearman": 3}  # None: by the size of the numbers
NOTE = (
    "R² is the share of the numbers' variance that is explained: 0 is what the mean of the evaluation rows reaches. "
    "Means over the runs (on the page: hover for each); differences are not tested."
)


def metric(name: str) -> Callable[[Outcome], object]:
    return lambda outcome: (outcome.run.record.get("metrics") or {}).get(name)


MEASURES = [Measure(Column(METRIC_WORDS[name]), metric(name), 1, decimals) for name, decimals in DECIMALS.items()]


def regression_table(group: Group) -> Table:
    """One row a configuration, its runs together; a run that failed is a row of its own."""

    def front(line: Line) -> list[Cell]:
        runs = len(line.outcomes)
        return [name_cell(line, line.name()), Cell(str(runs), runs)]

    measures = [*MEASURES, *main_measures(group)]
    columns = (ATTENTION, Column("Runs"), *(measure.column for measure in measures), WHAT_RAN)
    rows = rows_of(group, None, front, measures, len(columns), score=lambda line, bold: [])
    return Table(columns, rows, (NOTE, *comparison_notes(group, None)))
