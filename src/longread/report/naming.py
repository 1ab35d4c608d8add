"""What a name must say beside itself: which part of the training rows was seen, and a mechanism that was dense."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longread.report import numbers as say
from longread.report.groups import Group, Line

if TYPE_CHECKING:
    from longread.records import Run

# Rows of the public training splits, for records that do not name them (`rows_of_split`).
TRAIN_ROWS = {"imdb": 25_000, "imdb-pooled": 39_666, "sst2": 67_349, "qnli": 104_743, "qqp": 363_846}
WHOLE = 0.995  # all, or all but for a rounding


def train_part(run: Run) -> float | None:
    """Share of the task's training rows that the run was given, those for its choice of an epoch among them.

    None where the whole is not known, and where all were given.
    """
    dataset = run.record.get("dataset") or {}
    seen = sum((dataset.get(name) or {}).get("rows") or 0 for name in ("train", "selection"))
    whole = (dataset.get("train") or {}).get("rows_of_split") or TRAIN_ROWS.get(str(run.record.get("task")))
    return seen / whole if seen and whole and seen < WHOLE * whole else None


def heading(group: Group) -> str:
    """`qnli, 25 % of train`: the group's title with the part of the training rows that its runs saw."""
    parts = [part for line in group.done for o in line.outcomes if (part := train_part(o.run)) is not None]
    if not parts:
        return group.title
    trained = [o for line in group.done for o in line.outcomes if (o.run.record.get("dataset") or {}).get("train")]
    low, high = say.share(min(parts)), say.share(max(parts)) if len(parts) == len(trained) else "100 %"
    return f"{group.title}, {high if low == high else f'{low} to {high}'} of train"


def full_name(line: Line) -> str:
    """`BigBird (2 layers), dense here`."""
    return line.name() + (", dense here" if dense_here(line) else "")


def dense_here(line: Line) -> bool:
    """Did a mechanism run full attention on all tokens, as it does on texts shorter than its pattern?"""
    if line.attention == "dense" or not line.outcomes:
        return False
    full = [(o.run.record.get("effective_attention") or {}).get("full") or 0.0 for o in line.outcomes]
    return min(full) > 0.9995
