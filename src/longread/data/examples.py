"""The rows of one split as texts and labels, and stratified samples of them."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data import cache
from longread.data.batches import Indices
from longread.data.digests import ReadFile
from longread.data.rows import Files
from longread.data.stored import StoredTexts
from longread.data.tenths import tenths
from longread.errors import UserError
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

log = logging.getLogger("longread")

PART = 1 << 18  # rows that are looked at together
CLEARLY_MORE = 1.5  # times the part that was to be held out
MANY_CLASSES = 10  # whole numbers: they may be meant as numbers


@dataclass(frozen=True)
class Examples:
    """One split, read. R rows; `rows` are their indices in the source split (from 0)."""

    task: str
    split: str
    texts: Sequence[str]
    pairs: Sequence[str] | None  # the second text of each row, where a task compares two
    labels: npt.NDArray[Any]  # [R], or [R, C] of several labels: see data/targets.py
    rows: npt.NDArray[Any]  # [R], integers
    label_names: tuple[str, ...]
    problem_type: ProblemType = SINGLE_LABEL
    files: Files | None = None  # of rows that are not in memory
    text_columns: tuple[str, ...] = ()  # of a table, where the texts stand
    sources: tuple[ReadFile, ...] = ()  # of a user's own table: its files, one after the other

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over texts, labels and rows, wherever they are kept."""
        if not isinstance(self.texts, StoredTexts):
            return _fingerprint(self)
        # To read all texts again takes longer than the first batch may.
        own = hashlib.sha256(self.texts.digest.encode())
        for part in _bytes_of(self):
            own.update(part)
        path = self.texts.folder.parent / f"fingerprint-{own.hexdigest()[:16]}"
        kept = cache.read(path)
        if kept is None:
            kept = _fingerprint(self).encode()
            cache.write(path, kept)
        return kept.decode()

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: npt.NDArray[Any], split: str | None = None) -> Examples:
        """The rows at `indices` (positions here, not source indices), in that order."""
        rows = self.rows[indices]

        def taken(texts: Sequence[str]) -> Sequence[str]:
            return texts.at(rows) if isinstance(texts, StoredTexts) else [texts[index] for index in indices]

        return replace(
            self,
            split=split or self.split,
            texts=taken(self.texts),
            pairs=None if self.pairs is None else taken(self.pairs),
            labels=self.labels[indices],
            rows=rows,
        )


def _fingerprint(examples: Examples) -> str:
    digest = hashlib.sha256()
    for texts in (examples.texts, examples.pairs or ()):
        digest.update(f"{len(texts)}:".encode())
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(data))
            digest.update(data)
    for part in _bytes_of(examples):
        digest.update(part)
    return digest.hexdigest()[:16]


def _bytes_of(examples: Examples) -> Iterator[bytes]:
    """Of what is no text, a part at a time."""
    if examples.problem_type != SINGLE_LABEL:
        yield examples.problem_type.encode()
    kind = "<f8" if examples.problem_type == REGRESSION else "<i8"
    for begin in range(0, len(examples), PART):
        yield examples.labels[begin : begin + PART].astype(kind).tobytes()
    for begin in range(0, len(examples), PART):
        yield examples.rows[begin : begin + PART].astype("<i8").tobytes()
    yield repr(examples.label_names).encode()


def stratified_sample(labels: npt.NDArray[np.integer[Any]], size: int, seed: int, stream: str) -> Indices:
    """Positions of `size` rows with the classes in proportion, shuffled; all of them where there are no more.

    The order within a class depends on `seed` and `stream` only, so that a smaller sample is, but for
    rounding between classes, part of a larger one. PCG64's raw stream is the part of NumPy that is promised
    never to change.
    """
    if size >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * size / len(labels)
    quota = np.floor(exact).astype(int)
    for index in np.argsort(quota - exact, kind="stable")[: size - quota.sum()]:
        quota[index] += 1
    # Which sixteenth, say, of all keys the last chosen one of each class is in: then few rows have to be sorted.
    parts = max(16, min(4096, len(labels) // 256))
    width = 2**64 // parts
    found = np.zeros((len(classes), parts), dtype=np.int64)
    for _, keys, own in _keyed(labels, classes, seed, stream):
        np.add.at(found, (own, np.minimum(keys // np.uint64(width), parts - 1).astype(int)), 1)
    last = (np.cumsum(found, axis=1) < quota[:, None]).sum(axis=1)
    chosen: list[tuple[Indices, Any, Any]] = []
    for begin, keys, own in _keyed(labels, classes, seed, stream):
        there = np.flatnonzero(np.minimum(keys // np.uint64(width), parts - 1).astype(int) <= last[own])
        chosen.append((begin + there, keys[there], own[there]))
    places, keys, own = (np.concatenate(part) for part in zip(*chosen, strict=True))
    order = np.argsort(keys, kind="stable")
    places, own = places[order], own[order]
    kept = np.zeros(len(places), dtype=bool)
    for label, most in enumerate(quota.tolist()):
        kept[np.flatnonzero(own == label)[:most]] = True
    return places[kept]


def _keyed(
    labels: npt.NDArray[np.integer[Any]], classes: npt.NDArray[np.integer[Any]], seed: int, stream: str
) -> Iterator[tuple[int, Any, Indices]]:
    """A part of the rows at a time: where it begins, a random key of each row, and which of the classes it has."""
    generator = np.random.PCG64([seed, zlib.crc32(stream.encode())])
    for begin in range(0, len(labels), PART):
        part = labels[begin : begin + PART]
        yield begin, generator.random_raw(len(part)), np.searchsorted(classes, part)


def strata(examples: Examples) -> npt.NDArray[np.integer[Any]]:
    """[R], what a sample has in proportion: the class, the rarest of several labels, or the tenth of the numbers."""
    labels = examples.labels
    if examples.problem_type == REGRESSION:
        return tenths(labels)
    if examples.problem_type == MULTI_LABEL:
        by_rarity = np.argsort(labels.sum(axis=0), kind="stable")
        found = np.empty(len(labels), dtype=np.int32)
        for begin in range(0, len(labels), PART):
            part = labels[begin : begin + PART]
            first = part[:, by_rarity].argmax(axis=1)
            found[begin : begin + PART] = np.where(part.any(axis=1), by_rarity[first], -1)
        return found
    return labels


def carve(examples: Examples, fraction: float, seed: int, source: str) -> tuple[Examples, Examples]:
    """Train and validation parts of one table, in the order of the file, with the classes in proportion.

    As many rows are held out as there are classes, at least; it is said where that is clearly more than `fraction`.
    """
    if not 0 < fraction < 1:
        raise UserError(f"validation fraction {fraction} is not between 0 and 1; 0.1 holds out a tenth")
    names = examples.label_names
    size = max(round(len(examples) * fraction), len(names))
    numbers = len(names) >= MANY_CLASSES and all(name.lstrip("-").isdecimal() for name in names)
    hint = "; --problem-type regression would predict the number" if numbers else ""
    if size > len(examples) // 2:
        classes = "" if examples.problem_type == REGRESSION else f" for {len(names)} classes"
        raise UserError(
            f"{source}: {len(examples)} rows are too few to hold out a validation split{classes}; "
            f"give more rows, or a second file with --eval-file{hint}"
        )
    if size > CLEARLY_MORE * fraction * len(examples):
        kind = "labels" if examples.problem_type == MULTI_LABEL else "classes"
        log.warning(
            "%s: %d of %d rows (%.0f %%) are held out, not %g %%: as many as there are %s%s",
            source, size, len(examples), 100 * size / len(examples), 100 * fraction, kind, hint,
        )  # fmt: skip
    held_out = np.zeros(len(examples), dtype=bool)
    held_out[stratified_sample(strata(examples), size, seed, "validation")] = True
    train, validation = examples.take(_where(~held_out), "train"), examples.take(_where(held_out), "validation")
    if not isinstance(examples.texts, StoredTexts):
        _say_what_is_in_both(train, validation, source)
    return train, validation


def _say_what_is_in_both(train: Examples, validation: Examples, source: str) -> None:
    def texts(part: Examples) -> Iterable[int]:
        pairs = part.pairs or [""] * len(part)
        return (hash(text) for text in zip(part.texts, pairs, strict=True))

    known = set(texts(train))
    both = sum(text in known for text in texts(validation))
    if both:
        log.warning(
            "%s: %d of %d rows that are held out have a text that a training row has, too: what is measured on them "
            "is better than on new texts", source, both, len(validation),
        )  # fmt: skip


def _where(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """numpy's flatnonzero, in half the bytes where that does."""
    found, end = np.empty(np.count_nonzero(chosen), dtype=np.uint32 if len(chosen) < 1 << 32 else np.int64), 0
    for begin in range(0, len(chosen), PART):
        own = np.flatnonzero(chosen[begin : begin + PART])
        found[end : end + len(own)] = own + begin
        end += len(own)
    return found
