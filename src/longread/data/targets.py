"""What a table's rows are answered with: a class, any number of labels, or a number (`problem_type`)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data.columns import other_columns
from longread.data.labels import MAX_CLASSES, in_order, placeholders, read_labels
from longread.data.sources import Table, short
from longread.errors import UserError
from longread.problems import IN_WORDS, MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

log = logging.getLogger("longread")

YES_AND_NO = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}
NEARLY_ALL = 0.9  # of a column's different values: then one that is no number is a slip


@dataclass(frozen=True)
class Targets:
    """Of R rows. `labels`: classes int64 [R], 0 or 1 for each label int8 [R, C], or numbers float64 [R].

    `names`: of the classes or labels, or of the number (its column).
    """

    labels: npt.NDArray[Any]
    names: tuple[str, ...]
    problem_type: ProblemType


def read_targets(
    table: Table,
    columns: Sequence[str],
    own: tuple[str, ...] | None = None,
    known: tuple[str, ...] | None = None,
    *,
    separator: str | None = None,
    problem_type: ProblemType | None = None,
) -> Targets:
    """The column of a class or a number, of several labels in a cell, or several columns of 0 and 1.

    own, known: as in `read_labels`. problem_type None: as the data look, which is said where it is no matter of course.
    UserError names the row of what does not fit, or the options that contradict each other.
    """
    problem = problem_type or _guess(table, columns, own, known, separator)
    if problem != MULTI_LABEL and (len(columns) > 1 or separator is not None):
        option = "--label-separator" if separator is not None else f"--label-columns {' '.join(columns)}"
        raise UserError(f"{option}: means several labels for a text; here it is {IN_WORDS[problem]} ({problem})")
    if separator is not None and len(columns) > 1:
        raise UserError("--label-separator: for the labels in one column; give one --label-columns, or leave it out")
    if problem == REGRESSION:
        return Targets(_numbers(table, columns[0], known), known or (columns[0],), problem)
    if problem == SINGLE_LABEL:
        return Targets(*read_labels(table, columns[0], own, known), problem)
    if separator is None and (len(columns) > 1 or not _holds_lists(table, columns[0])):
        return Targets(*_indicators(table, columns, known), problem)
    return Targets(*_sets(table, columns[0], separator, known), problem)


def _guess(
    table: Table,
    columns: Sequence[str],
    own: tuple[str, ...] | None,
    known: tuple[str, ...] | None,
    separator: str | None,
) -> ProblemType:
    if separator is not None or len(columns) > 1 or _holds_lists(table, columns[0]):
        return MULTI_LABEL
    if own or columns[0] in table.class_names:
        return SINGLE_LABEL
    numbers = [_float(value) for value in table.columns[columns[0]]]
    found = [number for number in numbers if number is not None and math.isfinite(number)]
    # An infinite one among them is no class; it is refused where the numbers are read.
    if not any(number is None or math.isnan(number) for number in numbers) and not all(map(float.is_integer, found)):
        log.warning(
            "%s: column %r holds numbers with fractions, such as %g: the number is predicted (regression); "
            "for classes give --problem-type %s",
            table.source, columns[0], next(n for n in found if not n.is_integer()), SINGLE_LABEL,
        )  # fmt: skip
        return REGRESSION
    if known is None:
        _check_for_slips(table, columns[0])
    return SINGLE_LABEL


def _check_for_slips(table: Table, column: str) -> None:
    """UserError for the one cell such as "n/a" that would make classes of a column of numbers.

    The different values are counted: of rows that stay in files no others are here.
    """
    different = {str(value): as_number(value) for value in table.columns[column]}
    numbers = [number for number in different.values() if number is not None]
    if len(numbers) == len(different) or len(numbers) < NEARLY_ALL * len(different):
        return
    fraction = next((number for number in numbers if not number.is_integer()), None)
    if fraction is None and len(numbers) <= (table.total or len(table)) // 2:
        return
    row = next(row for row, value in enumerate(table.columns[column]) if as_number(value) is None)
    example = numbers[0] if fraction is None else fraction
    raise UserError(
        f"{_no_number(table, column, row)}, and nearly all others are numbers, such as {example:g}; mend the cell or "
        f"drop the row, for --problem-type {REGRESSION}; if these are classes, give --problem-type {SINGLE_LABEL}"
    )


def _no_number(table: Table, column: str, row: int) -> str:
    value = table.columns[column][row]
    what = "is empty" if value is None or value == "" else f"holds {short(value)}, not a number"
    return f"{table.place(row)}: column {column!r} {what}"


def _holds_lists(table: Table, column: str) -> bool:
    return any(isinstance(value, list) for value in table.columns[column])


def _float(value: Any) -> float | None:
    try:
        return float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        return None


def as_number(value: Any) -> float | None:
    number = _float(value)
    return number if number is not None and math.isfinite(number) else None


def _numbers(table: Table, column: str, known: tuple[str, ...] | None) -> npt.NDArray[np.float64]:
    found = []
    for row, value in enumerate(table.columns[column]):
        number = as_number(value)
        if number is None:
            mend = "" if value is None or value == "" else "; write it like 3.5"
            raise UserError(_no_number(table, column, row) + mend)
        found.append(number)
    if known is None and len(set(found)) < 2:
        raise UserError(f"{table.source}: column {column!r} holds {found[0]:g} in every row; there is nothing to learn")
    return np.array(found, dtype=np.float64)


def _indicators(
    table: Table, columns: Sequence[str], known: tuple[str, ...] | None
) -> tuple[npt.NDArray[np.int8], tuple[str, ...]]:
    """Columns of 0 and 1."""
    names = tuple(columns)
    if known is not None and known != placeholders(len(known)):
        if set(known) != set(names):
            raise UserError(
                f"{table.source}: the model's labels are {', '.join(known)}; name their columns with --label-columns, "
                "or the --label-separator of a column that holds several"
            )
        names = known
    labels = np.zeros((len(table), len(names)), dtype=np.int8)
    for place, name in enumerate(names):
        for row, value in enumerate(table.columns[name]):
            found = YES_AND_NO.get(str(value).strip().lower())
            if found is None:
                raise UserError(
                    f"{table.place(row)}: column {name!r} holds {short(value)}; a column for each label holds 0 or 1 "
                    "(for one column with several labels give --label-separator)"
                )
            labels[row, place] = found
    _check(table, labels, names, known)
    return labels, names


def _sets(
    table: Table, column: str, separator: str | None, known: tuple[str, ...] | None
) -> tuple[npt.NDArray[np.int8], tuple[str, ...]]:
    """Cells such as "late; broken", or lists; an empty one has no label."""
    rows = [_parts(table, column, row, separator) for row in range(len(table))]
    if separator is not None and known is None and all(len(parts) < 2 for parts in rows):
        raise UserError(
            f"{table.source}: no cell of column {column!r} holds two labels with {separator!r} between them; "
            f"check --label-separator and --label-columns; {other_columns(table, column)}"
        )
    names = known or in_order({part for parts in rows for part in parts})
    if len(names) > MAX_CLASSES:
        raise UserError(f"{table.source}: column {column!r} has {len(names)} different labels, too many")
    numbers = {name: place for place, name in enumerate(names)}
    if known == placeholders(len(names)):
        numbers |= {str(place): place for place in range(len(names))}
    labels = np.zeros((len(table), len(names)), dtype=np.int8)
    for row, parts in enumerate(rows):
        for part in parts:
            if part not in numbers:
                raise UserError(f"{table.place(row)}: label {short(part, 60)} is not one of: {', '.join(names[:10])}")
            labels[row, numbers[part]] = 1
    _check(table, labels, names, known)
    return labels, names


def _parts(table: Table, column: str, row: int, separator: str | None) -> list[str]:
    value = table.columns[column][row]
    if value is None or value != value:
        return []
    if separator is not None and isinstance(value, str):
        value = value.split(separator)
    if not isinstance(value, list):
        raise UserError(f"{table.place(row)}: column {column!r} holds {short(value)} where several labels are expected")
    return [text for part in value if (text := str(part).strip())]


def _check(table: Table, labels: npt.NDArray[np.int8], names: tuple[str, ...], known: tuple[str, ...] | None) -> None:
    if known is not None:
        return
    if not labels.any():
        raise UserError(f"{table.source}: no row has any of the labels {', '.join(names[:10])}")
    if never := [name for name, rows in zip(names, labels.T, strict=True) if not rows.any()]:
        log.warning("%s: no row has the label %s; it cannot be learned", table.source, ", ".join(never))
