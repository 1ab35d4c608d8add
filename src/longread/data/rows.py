"""Rows that stay in files: every shard is read once, and what a run needs of it is kept as texts and labels.

The folder is named by what is in it: the same rows in other files, or moved, are the same folder. Which files gave
which folder is kept beside it, so that files that have not changed are not opened again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longread.data import cache
from longread.data.columns import check_texts, find_columns, is_number, only_numbers
from longread.data.mapped import Maps, NewFolder, Writer, move_to, new_folder, open_folder
from longread.data.shards import Opened, Shard, opened
from longread.data.sources import Table, short
from longread.data.stored import StoredTexts
from longread.data.targets import Targets, as_number, read_targets
from longread.errors import UserError
from longread.problems import REGRESSION
from longread.records import fingerprint

log = logging.getLogger("longread")

VERSION = "1"  # of the folder
TEXTS = ("first texts", "second texts")
MOST_DIFFERENT = 100_000  # labels, or combinations of labels, that are told apart
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Asked:
    """What is wanted of the files: None or empty for what their columns' names say."""

    text_columns: Sequence[str] = ()
    label_columns: Sequence[str] = ()
    encoding: str | None = None
    delimiter: str | None = None
    may_be_empty: bool = False


@dataclass(frozen=True)
class StoredRows:
    """R rows in a folder: their texts, and of each row which of the different labels it has."""

    maps: Maps

    def __len__(self) -> int:
        return int(self.maps.about["rows"])

    def texts(self) -> list[StoredTexts]:
        return [StoredTexts(self.maps, name) for name in TEXTS if f"{name} ends" in self.maps.arrays]

    def targets(self, own: tuple[str, ...] | None, known: tuple[str, ...] | None, **how: Any) -> Targets:
        """As `read_targets` of the whole table; classes in the smallest type that has room for them."""
        about = self.maps.about
        labels = about["labels"]
        columns = {name: [row[place] for row in labels] for place, name in enumerate(about["label_columns"])}
        columns |= {name: [] for name in about["names"] if name not in columns}
        names = {name: tuple(own) for name, own in about["class_names"].items()}
        table = Table(about["source"], columns, class_names=names, places=tuple(about["places"]), total=len(self))
        found = read_targets(table, about["label_columns"], own, known, **how)
        numbers = self.maps.arrays.get("numbers")
        if numbers is not None:
            if found.problem_type != REGRESSION:
                raise UserError(f"{table.source}: more than {MOST_DIFFERENT:,} different labels; check --label-columns")
            return Targets(numbers, found.names, REGRESSION)
        by_label = found.labels
        if found.problem_type != REGRESSION and by_label.ndim == 1:
            by_label = by_label.astype(np.min_scalar_type(max(1, len(found.names) - 1)))
        labels = by_label[self.maps.arrays["codes"]]
        self.maps.release()
        return Targets(labels, found.names, found.problem_type)


def stored_rows(shards: Sequence[Shard], asked: Asked, folder: Path) -> StoredRows:
    """From `folder`, or else read from the files and kept there.

    UserError for a file, column or row that is wrong, and for a file that changes while it is read.
    """
    before = [shard.identity() for shard in shards]
    key = fingerprint(VERSION, repr(asked), *before)
    known = folder / f"files-{key}"
    kept = cache.read(known)
    if kept is not None:
        maps = open_folder(folder / f"rows-{kept.decode()}")
        if maps is not None:
            return StoredRows(maps)
    with new_folder(folder / "rows") as new:
        _write(new, shards, asked)
        for shard, identity in zip(shards, before, strict=True):
            if shard.identity() != identity:
                raise UserError(f"{shard.source}: was changed while it was read; try again when it is whole")
        path = folder / f"rows-{new.about['digest']}"
        maps = open_folder(path)  # the same rows in other files
        if maps is None:
            move_to(new, path)
            maps = open_folder(path)
    cache.write(known, path.name.removeprefix("rows-").encode())
    assert maps is not None
    return StoredRows(maps)


@dataclass
class _Labels:
    """The different labels in the order in which they come, and where each stands first."""

    columns: Sequence[str]
    codes: Writer
    rows: list[list[Any]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    numbers: Writer | None = None  # of a regression with very many: every row's own number
    _known: dict[Any, int] = field(default_factory=dict)

    def add(self, table: Table, folder: NewFolder) -> None:
        own = [table.columns[name] for name in self.columns]
        if self.numbers is not None:
            self.numbers.append([self._number(value, table, row) for row, value in enumerate(own[0])])
            return
        found = []
        for row, values in enumerate(zip(*own, strict=True)):
            code = self._known.get(key := tuple(map(_key, values)))
            if code is None:
                code = self._known[key] = len(self.rows)
                self.rows.append(list(values))
                self.places.append(table.place(row))
                for value in values:
                    if not isinstance(value, (str, int, float, list, type(None))):
                        what = f"holds {short(value)}, not a class; give one name"
                        raise UserError(f"{table.place(row)}: column {self.columns[0]!r} {what}")
            found.append(code)
        self.codes.append(found)
        if len(self.rows) > MOST_DIFFERENT:
            self._keep_numbers(table, folder)

    def _keep_numbers(self, table: Table, folder: NewFolder) -> None:
        """From here on; the labels that were told apart remain for the questions what kind they are."""
        values = [row[0] if len(row) == 1 else row for row in self.rows]
        if len(self.columns) > 1 or not all(as_number(value) is not None for value in values):
            wrong = next((place for place, value in enumerate(values) if as_number(value) is None), 0)
            raise UserError(
                f"{table.source}: column {self.columns[0]!r} has more than {MOST_DIFFERENT:,} different values, such "
                f"as {short(values[wrong])}; check --label-columns"
            )
        self.numbers = folder.array("numbers", "<f8")
        by_code = np.array([as_number(value) for value in values])
        self.codes.file.flush()
        with (folder.place / "codes").open("rb") as file:
            while data := file.read(1 << 20):
                self.numbers.append(by_code[np.frombuffer(data, self.codes.dtype)])

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


def _write(new: NewFolder, shards: Sequence[Shard], asked: Asked) -> None:
    total, rows, told = sum(shard.size for shard in shards), 0, time.monotonic()
    labels: _Labels | None = None
    texts: list[tuple[Writer, Writer]] = []
    ends: list[int] = []
    first: Opened | None = None
    columns: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    only_numbers_so_far: dict[str, Table] = {}
    for number, shard in enumerate(shards, 1):
        with opened(shard, asked.encoding, asked.delimiter) as file:
            if first is None or labels is None:
                first = file
                columns = _columns(file, asked)
                labels = _Labels(columns[1], new.array("codes", "<u4"))
                texts = [
                    (new.array(name, np.uint8), new.array(f"{name} ends", "<i8"))
                    for name, _ in zip(TEXTS, columns[0], strict=False)
                ]
                ends = [0] * len(texts)
            else:
                _check_like(file, first, columns)
            own = 0
            for table in file.blocks(list(dict.fromkeys((*columns[0], *columns[1])))):
                for place, name in enumerate(columns[0]):
                    values = table.columns[name]
                    check_texts(table, name, may_be_empty=asked.may_be_empty)
                    if (not rows or name in only_numbers_so_far) and all(map(is_number, values)):
                        only_numbers_so_far.setdefault(name, table)
                    else:
                        only_numbers_so_far.pop(name, None)
                    ends[place] = _append(texts[place], values, ends[place])
                labels.add(table, new)
                own += len(table)
                rows += len(table)
                if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                    told = time.monotonic()
                    log.info("reading file %d of %d: %s rows so far", number, len(shards), f"{rows:,}")
            if not own:
                raise UserError(f"{shard.source}: is empty; delete it, or write rows of text and label into it")
    for name, table in only_numbers_so_far.items():
        raise only_numbers(table, name)
    assert labels is not None and first is not None
    new.about |= {
        "rows": rows,
        "source": shards[0].source if len(shards) == 1 else f"{shards[0].source} … {shards[-1].source}",
        "names": first.names,
        "class_names": first.class_names,
        "label_columns": list(columns[1]),
        "labels": labels.rows,
        "places": labels.places,
        "files": len(shards),
        "bytes": total,
    }
    sums = new.close()
    kept = json.dumps([labels.rows, new.about["class_names"], new.about["label_columns"]])
    new.about["digest"] = fingerprint(VERSION, kept, *(sums[name] for name in sorted(sums)))
    new.seal()
    log.info("read %s rows of %d file%s", f"{rows:,}", len(shards), "s" * (len(shards) > 1))


def _columns(file: Opened, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if doubled := [name for name in file.names if file.names.count(name) > 1]:
        raise UserError(f"{file.shard.source}: column {doubled[0]!r} is there twice; rename one")
    if not file.names:
        raise UserError(f"{file.shard.source}: is empty; at least a few rows of text and label are needed")
    table = Table(file.shard.source, {name: [] for name in file.names})
    return find_columns(table, asked.text_columns, asked.label_columns)


def _check_like(file: Opened, first: Opened, columns: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """UserError where a file has not the columns of the first one."""
    source = file.shard.source
    for name in (*columns[0], *columns[1]):
        if name not in file.names:
            there = ", ".join(file.names) or "none: it is empty"
            raise UserError(
                f"{source}: there is no column {name!r}, which {first.shard.source} has; the columns there are: {there}"
            )
        kind, other = file.kinds.get(name), first.kinds.get(name)
        if kind != other:
            raise UserError(
                f"{source}: column {name!r} holds {kind}, and in {first.shard.source} {other}; write the same kind"
            )


def _append(writers: tuple[Writer, Writer], values: Sequence[str], end: int) -> int:
    """The texts behind those that end at `end`; where they end."""
    data = [text.encode() for text in values]
    writers[0].write(b"".join(data))
    ends = end + np.cumsum([len(text) for text in data], dtype=np.int64)
    writers[1].append(ends)
    return int(ends[-1]) if len(ends) else end
