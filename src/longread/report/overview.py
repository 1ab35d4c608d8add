"""Several tasks side by side: one row an attention, one column a task."""

from __future__ import annotations

import re
from collections.abc import Sequence

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.groups import Group, Line
from longread.report.mechanisms import rank, title_of
from longread.report.naming import dense_here, heading
from longread.report.tables import accuracy_decimals

NOTE = (
    "In brackets the 95 % interval, as in the task's own table; where an attention has several rows there, their range."
)


def by_task(groups: Sequence[Group]) -> Table | None:
    """Accuracies of all tasks; None where there is one task, or where no attention is on two of them."""
    groups = [group for group in groups if group.done]
    attentions = sorted({line.attention for group in groups for line in group.done}, key=rank)
    if not any(sum(bool(lines_of(group, name)) for group in groups) > 1 for name in attentions):
        return None
    columns = (Column("Accuracy", numeric=False), *(Column(heading(group), "%") for group in groups))
    rows = [
        Row((Cell(title_of(name), name), *(cell(lines_of(group, name)) for group in groups)), color=name)
        for name in attentions
    ]
    return Table(columns, tuple(rows), (NOTE,))


def lines_of(group: Group, attention: str) -> list[Line]:
    return [line for line in group.done if line.attention == attention]


def cell(lines: Sequence[Line]) -> Cell:
    if not lines:
        return Cell(say.NOTHING)
    found = [line.accuracy for line in lines]
    dense = ", dense here" if all(dense_here(line) for line in lines) else ""
    decimals = min(accuracy_decimals(line) for line in lines)
    low, high = (f([mean for mean, _ in found]) for f in (min, max))
    if len(lines) > 1:
        return Cell(f"{say.percent(low, decimals)} to {say.percent(high, decimals)}{dense}", high)
    ((mean, interval),) = found
    ends = f"{say.percent(interval.low, decimals)} – {say.percent(interval.high, decimals)}"
    return Cell(f"{say.percent(mean, decimals)} ({ends}){dense}", mean)


def in_order(groups: Sequence[Group]) -> list[Group]:
    """By name, numbers in it by size: reviews:512 before reviews:2048."""
    return sorted(groups, key=lambda group: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in
                                             re.split(r"(\d+)", group.title)])  # fmt: skip
