"""Rows that stay in files: every shard is read once, and what a run needs of it is kept as texts and labels.

The folder is named by what is in it: the same rows in other files, or moved, are the same folder. Which files gave
which folder is kept beside it, so that files that have not changed are not opened again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longread.data import cache
from longread.data.columns import check_texts, find_columns, is_number, only_numbers
from longread.data.digests import Digest, ReadFile, digest_of
from longread.data.label_codes import MOST_DIFFERENT, LabelCodes
from longread.data.mapped import Maps, NewFolder, Writer, move_to, new_folder, open_folder
from longread.data.shards import Opened, Shard, opened
from longread.data.sources import Table
from longread.data.stored import StoredTexts
from longread.data.targets import Targets, read_targets
from longread.errors import UserError
from longread.problems import REGRESSION
from longread.records import fingerprint

log = logging.getLogger("longread")

VERSION = "2"  # of the folder
TEXTS = ("first texts", "second texts")
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Files:
    """Where rows came from: shards, and what each was when it was read."""

    identities: Mapping[Shard, str]
    _told: set[str] = field(default_factory=set, repr=False)

    def say_what_changed(self) -> None:
        """Once of each: whoever replaced a file while a run is under way may expect that its rows are seen.

        A store behind a URL is not asked.
        """
        changed = [shard.source for shard, own in self.identities.items() if _is_other(shard, own)]
        if new := [source for source in changed if source not in self._told]:
            self._told.update(new)
            others = f" and {len(new) - 1:,} more" if new[1:] else ""
            log.warning(
                "%s%s: replaced, changed or deleted since the rows were read; this run goes on with the rows as they "
                "were, the next one reads the files as they are", new[0], others,
            )  # fmt: skip


def _is_other(shard: Shard, identity: str) -> bool:
    try:
        return isinstance(shard.place, Path) and shard.identity() != identity
    except (OSError, UserError):  # it is gone
        return True


@dataclass(frozen=True)
class Asked:
    """What is wanted of the files: None or empty for what their columns' names say."""

    text_columns: Sequence[str] = ()
    label_columns: Sequence[str] = ()
    encoding: str | None = None
    delimiter: str | None = None
    may_be_empty: bool = False
    labels_optional: bool = False


@dataclass(frozen=True)
class StoredRows:
    """R rows in a folder: their texts, and of each row which of the different labels it has."""

    maps: Maps
    files: Files
    sources: tuple[ReadFile, ...]

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
    known, files = folder / f"files-{key}", Files(dict(zip(shards, before, strict=True)))
    name, told = _note(cache.read(known))
    if told is not None:
        maps = open_folder(folder / f"rows-{name}")
        if maps is not None:
            return StoredRows(maps, files, _sources(shards, told))
    with new_folder(folder / "rows") as new:
        told = _write(new, shards, asked)
        for shard, identity in zip(shards, before, strict=True):
            if shard.identity() != identity:
                raise UserError(f"{shard.source}: was changed while it was read; try again when it is whole")
        path = folder / f"rows-{new.about['digest']}"
        maps = open_folder(path)  # the same rows in other files
        if maps is None:
            move_to(new, path)
            maps = open_folder(path)
    cache.write(known, f"{path.name.removeprefix('rows-')}\n{json.dumps(told)}".encode())
    assert maps is not None
    return StoredRows(maps, files, _sources(shards, told))


def _note(kept: bytes | None) -> tuple[str, list[list[Any]] | None]:
    """The folder that files gave, and of each file what `_write` tells; None where that is not kept."""
    name, _, told = (kept or b"").decode().partition("\n")
    return name, json.loads(told) if told else None


def _sources(shards: Sequence[Shard], told: list[list[Any]]) -> tuple[ReadFile, ...]:
    files = zip(shards, told, strict=True)
    return tuple(ReadFile(shard, rows, Digest(*own) if own else None) for shard, (rows, *own) in files)


def _write(new: NewFolder, shards: Sequence[Shard], asked: Asked) -> list[list[Any]]:
    """Of each file: how many rows it has and, unless it lies behind a URL, size and SHA-256."""
    files: list[list[Any]] = []
    rows: _Rows | None = None
    told = time.monotonic()
    for number, shard in enumerate(shards, 1):
        with opened(shard, asked.encoding, asked.delimiter) as file:
            if rows is None:
                rows = _Rows(new, file, asked)
            else:
                rows.check_like(file)
            before = rows.count
            for table in file.blocks(rows.columns):
                rows.add(table)
                if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                    told = time.monotonic()
                    log.info("reading file %d of %d: %s rows so far", number, len(shards), f"{rows.count:,}")
            if rows.count == before:
                raise UserError(f"{shard.source}: is empty; delete it, or write rows of text and label into it")
        digest = digest_of(shard)
        files.append([rows.count - before, *([digest.size, digest.sha256] if digest else [])])
    assert rows is not None
    rows.close(shards)
    log.info("read %s rows of %d file%s", f"{rows.count:,}", len(shards), "s" * (len(shards) > 1))
    return files


class _Rows:
    """The rows read so far, on their way into a folder; the first file says which columns hold what."""

    def __init__(self, folder: NewFolder, first: Opened, asked: Asked) -> None:
        text_columns, label_columns = _columns(first, asked)
        self.columns = list(dict.fromkeys((*text_columns, *label_columns)))
        self.count = 0
        self._folder, self._first = folder, first
        self._labels = LabelCodes(label_columns, folder)
        self._texts = [
            _Texts(column, asked.may_be_empty, folder.array(name, np.uint8), folder.array(f"{name} ends", "<i8"))
            for column, name in zip(text_columns, TEXTS, strict=False)
        ]

    def check_like(self, file: Opened) -> None:
        """UserError where a file has not the columns of the first one."""
        source, first = file.shard.source, self._first
        for name in self.columns:
            if name not in file.names:
                there = ", ".join(file.names) or "none: it is empty"
                raise UserError(
                    f"{source}: there is no column {name!r}, which {first.shard.source} has; "
                    f"the columns there are: {there}"
                )
            kind, other = file.kinds.get(name), first.kinds.get(name)
            if kind == "null":
                raise UserError(
                    f"{source}: column {name!r} has no value in any row; delete the file, or write rows into it"
                )
            if kind != other:
                raise UserError(
                    f"{source}: column {name!r} holds {kind}, and in {first.shard.source} {other}; write the same kind"
                )

    def add(self, table: Table) -> None:
        for texts in self._texts:
            texts.add(table)
        self._labels.add(table)
        self.count += len(table)

    def close(self, shards: Sequence[Shard]) -> None:
        """All of it is on disk, under the fingerprint of what it is; UserError for a text column of numbers alone."""
        for texts in self._texts:
            texts.check()
        about = self._folder.about
        about |= {
            "rows": self.count,
            "source": shards[0].source if len(shards) == 1 else f"{shards[0].source} … {shards[-1].source}",
            "names": self._first.names,
            "class_names": self._first.class_names,
            "text_columns": [texts.column for texts in self._texts],
            "label_columns": list(self._labels.columns),
            "labels": self._labels.rows,
            "places": self._labels.places,
            "files": len(shards),
            "bytes": sum(shard.size for shard in shards),
        }
        sums = self._folder.close()
        meaning = json.dumps([about[name] for name in ("labels", "class_names", "label_columns", "text_columns")])
        about["digest"] = fingerprint(VERSION, meaning, *(sums[name] for name in sorted(sums)))
        self._folder.seal()


@dataclass
class _Texts:
    """A column of texts: their bytes one after the other, and where each text ends."""

    column: str
    may_be_empty: bool
    characters: Writer
    ends: Writer
    end: int = 0
    has_words: bool = False  # some text is no number
    first: Table | None = None  # its first block, for a message: kept until a text is no number

    def add(self, table: Table) -> None:
        check_texts(table, self.column, may_be_empty=self.may_be_empty)
        values = table.columns[self.column]
        self.has_words = self.has_words or not all(map(is_number, values))
        self.first = None if self.has_words else self.first or table
        data = [text.encode() for text in values]
        self.characters.write(b"".join(data))
        ends = self.end + np.cumsum([len(text) for text in data], dtype=np.int64)
        self.ends.append(ends)
        self.end = int(ends[-1]) if len(ends) else self.end

    def check(self) -> None:
        """UserError where every text was a number."""
        if self.first is not None:
            raise only_numbers(self.first, self.column)


def _columns(file: Opened, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of texts and those of labels."""
    if doubled := [name for name in file.names if file.names.count(name) > 1]:
        raise UserError(f"{file.shard.source}: column {doubled[0]!r} is there twice; rename one")
    if not file.names:
        raise UserError(f"{file.shard.source}: is empty; at least a few rows of text and label are needed")
    table = Table(file.shard.source, {name: [] for name in file.names})
    return find_columns(table, asked.text_columns, asked.label_columns, asked.labels_optional)
