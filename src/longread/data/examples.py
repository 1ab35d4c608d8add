"""From the columns of a table to texts, classes and row numbers; samples of them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data.sources import Table, read_table
from longread.errors import UserError

Integers = npt.NDArray[np.int64]

TEXT_NAMES = ("text", "sentence", "review", "document", "content", "body", "message", "comment")
PAIR_NAMES = (
    ("question1", "question2"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
)
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "coarse_label", "label-coarse")
MAX_CLASSES = 1000  # more different labels than this: the column holds something else


@dataclass(frozen=True)
class Examples:
    """PackedBatch of one split, read. R rows; `rows` are their indices in the source split (from 0)."""

    task: str
    split: str
    texts: list[str]
    pairs: list[str] | None  # the second text of each row, where a task compares two
    labels: Integers  # [R]
    rows: Integers  # [R]
    label_names: tuple[str, ...]
    fingerprint: str = field(default="")  # 16 hex digits over texts, labels and rows; made here

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(self))

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Integers, split: str | None = None) -> Examples:
        """The rows at `indices` (positions here, not source indices), in that order."""
        return replace(
            self,
            split=split or self.split,
            texts=[self.texts[index] for index in indices],
            pairs=None if self.pairs is None else [self.pairs[index] for index in indices],
            labels=self.labels[indices],
            rows=self.rows[indices],
        )


def _fingerprint(examples: Examples) -> str:
    digest = hashlib.sha256()
    for texts in (examples.texts, examples.pairs or []):
        digest.update(f"{len(texts)}:".encode())
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(data))
            digest.update(data)
    for numbers in (examples.labels, examples.rows):
        digest.update(numbers.astype("<i8").tobytes())
    digest.update(repr(examples.label_names).encode())
    return digest.hexdigest()[:16]


def find_columns(
    table: Table, text_columns: Sequence[str] | None, label_column: str | None
) -> tuple[tuple[str, ...], str]:
    """Names of the text column (or the two of a pair) and the label column: those given or the obvious."""
    names = list(table.columns)
    there = f"the columns there are: {', '.join(names)}"
    if text_columns and len(text_columns) > 2:
        raise UserError(
            f"{len(text_columns)} text columns given ({', '.join(text_columns)}); give one, or two for pairs"
        )
    for name in (*(text_columns or ()), *((label_column,) if label_column else ())):
        if name not in table.columns:
            raise UserError(f"{table.source}: there is no column {name!r}; {there}")
    lower = {name.strip().lower(): name for name in reversed(names)}
    if label_column is None:
        label_column = next((lower[name] for name in LABEL_NAMES if name in lower), None)
        if label_column is None:
            raise UserError(f"{table.source}: no column 'label'; name it with --label-column; {there}")
    if text_columns:
        return tuple(text_columns), label_column
    texts = _obvious_texts(table, label_column)
    if texts is None:
        raise UserError(f"{table.source}: no column 'text'; name it with --text-columns; {there}")
    return texts, label_column


def _obvious_texts(table: Table, label_column: str | None) -> tuple[str, ...] | None:
    """The two columns of a pair or the one of a text, by their usual names; None where none stands out."""
    names = list(table.columns)
    lower = {name.strip().lower(): name for name in reversed(names)}
    for first, second in PAIR_NAMES:
        if first in lower and second in lower:
            return lower[first], lower[second]
    for name in TEXT_NAMES:
        if name in lower and lower[name] != label_column:
            return (lower[name],)
    rest = [name for name in names if name != label_column]
    return (rest[0],) if len(rest) == 1 else None


def read_texts(table: Table, column: str, *, may_be_empty: bool) -> list[str]:
    """Column `column` as texts, unchanged; a missing value, a number or anything else is an error."""
    values = table.columns[column]
    for row, value in enumerate(values):
        if isinstance(value, str) and (value.strip() or may_be_empty):
            continue
        if value is None or isinstance(value, str):
            raise UserError(f"{table.place(row)}: column {column!r} is empty; fill it in or drop the row")
        kind = "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
        raise UserError(
            f"{table.place(row)}: column {column!r} holds {kind} where text is expected ({_short(value)}); "
            f"{_other_columns(table, column)}"
        )
    if all(_is_number(value) for value in values):
        raise UserError(
            f"{table.place(0)}: column {column!r} holds a number where text is expected "
            f"({_short(values[0])}), and so in every row; {_other_columns(table, column)}"
        )
    return list(values)


def texts_of_file(path: Path, text_columns: Sequence[str] | None) -> tuple[list[str], list[str] | None]:
    """Texts to classify, and their partners where two columns are named. A .txt file has one text a line."""
    if path.suffix.lower() == ".txt":
        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
        return [line for line in lines if line.strip()], None
    table = read_table(path)
    names = tuple(text_columns) if text_columns else _obvious_texts(table, None)
    if names is None or len(names) > 2:
        there = ", ".join(table.columns)
        raise UserError(
            f"{table.source}: name one text column, or two, with --text-columns; the columns there are: {there}"
        )
    for name in names:
        if name not in table.columns:
            raise UserError(
                f"{table.source}: there is no column {name!r}; the columns there are: {', '.join(table.columns)}"
            )
    texts = [read_texts(table, name, may_be_empty=False) for name in names]
    return texts[0], texts[1] if len(texts) == 2 else None


def read_labels(table: Table, column: str, names: tuple[str, ...] | None) -> tuple[Integers, tuple[str, ...]]:
    """Classes [R] and their names. With `names` a label is a name or its number; else they are sorted."""
    values = table.columns[column]
    keys: list[str] = []
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()) or value != value:
            raise UserError(f"{table.place(row)}: column {column!r} is empty; give every row a label")
        if isinstance(value, float) and not value.is_integer():
            raise UserError(f"{table.place(row)}: column {column!r} holds {value}, not a class; give names or integers")
        if not isinstance(value, (str, int, float)):
            raise UserError(f"{table.place(row)}: column {column!r} holds {_short(value)}, not a class; give one name")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        keys.append(str(int(value)) if number else str(value).strip())
    if names is None:
        names = table.class_names.get(column)
    if names is None:
        names = _name_classes(table, column, keys)
        numbers = {name: index for index, name in enumerate(names)}
    else:  # a name that looks like a number wins over that number
        numbers = {str(index): index for index in range(len(names))} | {name: i for i, name in enumerate(names)}
    for row, key in enumerate(keys):
        if key not in numbers:
            hidden = "; GLUE's test labels are hidden, use the validation split" if key == "-1" else ""
            known = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            raise UserError(f"{table.place(row)}: label {key!r} is not one of: {known}{hidden}")
    return np.array([numbers[key] for key in keys], dtype=np.int64), names


def _name_classes(table: Table, column: str, keys: list[str]) -> tuple[str, ...]:
    distinct = set(keys)
    if len(distinct) == 1:
        raise UserError(
            f"{table.source}: column {column!r} has one value only ({_short(keys[0])}); "
            "at least two classes are needed: check --label-column"
        )
    if len(distinct) > MAX_CLASSES or (len(distinct) > 20 and len(distinct) > len(keys) // 2):
        raise UserError(
            f"{table.source}: column {column!r} has {len(distinct)} different values in {len(keys)} rows, "
            f"too many for classes: check --label-column; {_other_columns(table, column)}"
        )
    if all(key.lstrip("-").isdecimal() for key in distinct):
        return tuple(sorted(distinct, key=lambda key: (int(key), key)))
    return tuple(sorted(distinct))


def stratified_sample(labels: Integers, size: int, seed: int, stream: str) -> Integers:
    """Positions of `size` rows with the classes in proportion, shuffled; all of them where there are no more.

    The order within a class depends on `seed` and `stream` only, so that a smaller sample is, but for
    rounding between classes, part of a larger one. PCG64's raw stream is the part of NumPy that is promised
    never to change.
    """
    if size >= len(labels):
        return np.arange(len(labels))
    keys = np.random.PCG64([seed, zlib.crc32(stream.encode())]).random_raw(len(labels))
    order = np.argsort(keys, kind="stable")
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * size / len(labels)
    quota = np.floor(exact).astype(int)
    for index in np.argsort(quota - exact, kind="stable")[: size - quota.sum()]:
        quota[index] += 1
    rank = np.empty(len(labels), dtype=np.int64)  # how many rows of its class come before a row
    for label in classes:
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    chosen = rank < quota[np.searchsorted(classes, labels)]
    return order[chosen[order]].astype(np.int64)


def carve(examples: Examples, fraction: float, seed: int, source: str) -> tuple[Examples, Examples]:
    """Train and validation parts of one table, in the order of the file, with the classes in proportion."""
    if not 0 < fraction < 1:
        raise UserError(f"validation fraction {fraction} is not between 0 and 1; 0.1 holds out a tenth")
    size = max(round(len(examples) * fraction), len(examples.label_names))
    if size > len(examples) // 2:
        raise UserError(
            f"{source}: {len(examples)} rows are too few to hold out a validation split for "
            f"{len(examples.label_names)} classes; give more rows, or a second file with --eval-file"
        )
    held_out = np.zeros(len(examples), dtype=bool)
    held_out[stratified_sample(examples.labels, size, seed, "validation")] = True
    return (
        examples.take(np.flatnonzero(~held_out), "train"),
        examples.take(np.flatnonzero(held_out), "validation"),
    )


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _other_columns(table: Table, column: str) -> str:
    rest = [name for name in table.columns if name != column]
    return f"the other columns: {', '.join(rest)}" if rest else "there is no other column"
