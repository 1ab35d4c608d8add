"""The labels of rows that stay in files: each different one once, and of every row the number of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from longread.data.mapped import NewFolder, Writer
from longread.data.sources import Table, short
from longread.data.targets import as_number
from longread.errors import UserError

MOST_DIFFERENT = 100_000  # labels, or combinations of labels, that are told apart


class LabelCodes:
    """The different labels in the order in which they come (`rows`), and where each stands first (`places`).

    A regression can have more of them than are told apart: then every row's own number is kept instead.
    """

    def __init__(self, columns: Sequence[str], folder: NewFolder) -> None:
        self.columns = columns
        self.rows: list[list[Any]] = []
        self.places: list[str] = []
        self._folder = folder
        self._codes = folder.array("codes", "<u4")
        self._numbers: Writer | None = None
        self._known: dict[tuple[Any, ...], int] = {}

    def add(self, table: Table) -> None:
        own = [table.columns[name] for name in self.columns]
        if self._numbers is not None:
            self._numbers.append([self._number(value, table, row) for row, value in enumerate(own[0])])
            return
        codes = []
        for row, values in enumerate(zip(*own, strict=True)):
            code = self._known.get(key := tuple(map(_key, values)))
            if code is None:
                code = self._known[key] = self._new(values, table, row)
            codes.append(code)
        self._codes.append(codes)
        if len(self.rows) > MOST_DIFFERENT:
            self._numbers = self._as_numbers(table.source)

    def _new(self, values: tuple[Any, ...], table: Table, row: int) -> int:
        for value in values:
            if not isinstance(value, (str, int, float, list, type(None))):
                what = f"holds {short(value)}, not a class; give one name"
                raise UserError(f"{table.place(row)}: column {self.columns[0]!r} {what}")
        self.rows.append(list(values))
        self.places.append(table.place(row))
        return len(self.rows) - 1

    def _as_numbers(self, source: str) -> Writer:
        """The numbers of all rows so far; the labels that were told apart still say what kind they are."""
        values = [row[0] if len(row) == 1 else row for row in self.rows]
        by_code = [as_number(value) for value in values]
        if None in by_code:
            raise UserError(
                f"{source}: column {self.columns[0]!r} has more than {MOST_DIFFERENT:,} different values, such "
                f"as {short(values[by_code.index(None)])}; check --label-columns"
            )
        numbers = self._folder.array("numbers", "<f8")
        lookup = np.array(by_code, dtype=np.float64)
        self._codes.file.flush()
        with (self._folder.place / "codes").open("rb") as file:
            while data := file.read(1 << 20):
                numbers.append(lookup[np.frombuffer(data, self._codes.dtype)])
        return numbers

    def _number(self, value: Any, table: Table, row: int) -> float:
        number = as_number(value)
        if number is None:
            what = "is empty" if value in (None, "") else f"holds {short(value)}, not a number; write it like 3.5"
            raise UserError(f"{table.place(row)}: column {self.columns[0]!r} {what}")
        return number


def _key(value: Any) -> Any:
    """Tells 1, True, "1" and 1.0 apart."""
    if value.__class__ is str:
        return value
    return (value.__class__, repr(value))
