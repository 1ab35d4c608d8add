"""From a column of labels to classes, against the names of the data set, the training rows or a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data.columns import other_columns
from longread.data.sources import Table, short
from longread.errors import UserError

log = logging.getLogger("longread")

MAX_CLASSES = 1000  # more different labels than this: the column holds something else


def placeholders(count: int) -> tuple[str, ...]:
    """What the classes of a model are called whose configuration names none."""
    return tuple(f"LABEL_{index}" for index in range(count))


def read_labels(
    table: Table, column: str, own: tuple[str, ...] | None = None, known: tuple[str, ...] | None = None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Classes [R] and the names that they are indices of.

    own: names that the data set gives its classes; a number in the column is then an index into them.
    known: names that classes must have, those of a model or of the training rows; without, `own` or what is there.
    Classes are matched by name, and with `placeholders` by number. UserError names the row of a label that is wrong.
    """
    values = table.columns[column]
    _check_one_kind(table, column, values)
    keys = [_key(table, column, row, value) for row, value in enumerate(values)]
    own = own or table.class_names.get(column)
    if own:  # a name that looks like a number wins over that number, but not where the file holds numbers
        keys = [
            key if isinstance(value, str) and key in own else _by_number(own, key)
            for key, value in zip(keys, values, strict=True)
        ]
    if known is None:
        names = own or _name_classes(table, column, keys)
        _hint_at_several(table, column, names)
        _hint_at_case(table, column, names)
        numbers = _indices(names)
    elif known == placeholders(len(known)):
        if own and len(own) != len(known):
            raise UserError(
                f"{table.source} has {len(own)} classes ({_in_words(own)}) and the model {len(known)}, which it does "
                "not name; evaluate it on a task with the same classes"
            )
        names = own or known
        numbers = _indices(names) | ({} if own else {str(index): index for index in range(len(known))})
    else:
        names = known
        numbers = _same_but_for_case(own or (), names) | _indices(names)
    for row, key in enumerate(keys):
        if key not in numbers:
            right = (
                "GLUE's test labels are hidden, use the validation split" if key == "-1" else "check --label-columns"
            )
            there = _in_words(tuple(numbers))
            raise UserError(f"{table.place(row)}: label {short(key, 60)} is not one of: {there}; {right}")
    return np.array([numbers[key] for key in keys], dtype=np.int64), names


def _check_one_kind(table: Table, column: str, values: Sequence[Any]) -> None:
    """1, "1" and 1.0 are one class. Is true the class of 1, or that of "true"? UserError: nobody but the user knows."""
    if bool not in (kinds := {type(value) for value in values}) or kinds <= {bool, type(None)}:
        return
    first = next(row for row, value in enumerate(values) if isinstance(value, bool))
    other = next(row for row, value in enumerate(values) if value is not None and not isinstance(value, bool))
    raise UserError(
        f"{table.place(first)}: column {column!r} holds {str(values[first]).lower()}, and {short(values[other])} in "
        f"another row ({table.place(other)}); write true and false in every row, or in none"
    )


def _key(table: Table, column: str, row: int, value: Any) -> str:
    """A label as text; UserError where there is none, or what is there names no class."""
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:
        raise UserError(
            f"{table.place(row)}: column {column!r} is empty; give every row a label "
            "(with --label-separator a text may have none, or several)"
        )
    if isinstance(value, float) and not value.is_integer():
        raise UserError(f"{table.place(row)}: column {column!r} holds {value}, not a class; give names or integers")
    if not isinstance(value, (str, int, float)):
        raise UserError(f"{table.place(row)}: column {column!r} holds {short(value)}, not a class; give one name")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(int(value)) if number else str(value).strip()


def _by_number(names: tuple[str, ...], key: str) -> str:
    return names[int(key)] if key.isdecimal() and int(key) < len(names) else key


def _indices(names: tuple[str, ...]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


def _hint_at_several(table: Table, column: str, names: tuple[str, ...]) -> None:
    """Says so where cells like "a;b" look like several labels: each combination is a class of its own."""
    for mark in (";", "|"):
        joined = [name for name in names if mark in name]
        parts = {part.strip() for name in names for part in name.split(mark)}
        if joined and len(parts) < len(names):
            log.warning(
                "%s: column %r holds labels such as %r; each of the %d combinations of %d labels is taken as one class"
                "; where a text may have several give --label-separator %r",
                table.source, column, joined[0], len(names), len(parts), mark,
            )  # fmt: skip
            return


def _hint_at_case(table: Table, column: str, names: tuple[str, ...]) -> None:
    """Says so where two classes are one word in other letters."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            log.warning("%s: column %r holds %r and %r, which are two classes", table.source, column, first, name)
            return


def _same_but_for_case(own: tuple[str, ...], known: tuple[str, ...]) -> dict[str, int]:
    """Names of a data set that a model writes in other letters: negative and NEGATIVE. Not for a file of one's own."""
    folded = _indices(tuple(name.casefold() for name in known))
    return {name: folded[name.casefold()] for name in own if len(folded) == len(known) and name.casefold() in folded}


def _in_words(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _name_classes(table: Table, column: str, keys: list[str]) -> tuple[str, ...]:
    distinct, rows = set(keys), table.total or len(keys)
    if len(distinct) == 1:
        raise UserError(
            f"{table.source}: column {column!r} has one value only ({short(keys[0])}); "
            "at least two classes are needed: check --label-columns"
        )
    if len(distinct) > MAX_CLASSES or (len(distinct) > 20 and len(distinct) > rows // 2):
        number = all(key.lstrip("-").isdecimal() for key in distinct)
        raise UserError(
            f"{table.source}: column {column!r} has {len(distinct)} different values in {rows} rows, "
            f"too many for classes: {'--problem-type regression predicts the number, or ' if number else ''}"
            f"check --label-columns; {other_columns(table, column)}"
        )
    return in_order(distinct)


def in_order(names: set[str]) -> tuple[str, ...]:
    """Numbers by their size, other names by the alphabet."""
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
