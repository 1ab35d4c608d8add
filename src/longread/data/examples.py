"""The rows of one split as texts and labels, and stratified samples of them."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.errors import UserError
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """One split, read. R rows; `rows` are their indices in the source split (from 0)."""

    task: str
    split: str
    texts: list[str]
    pairs: list[str] | None  # the second text of each row, where a task compares two
    labels: npt.NDArray[Any]  # [R], or [R, C] of several labels: see data/targets.py
    rows: Integers  # [R]
    label_names: tuple[str, ...]
    problem_type: ProblemType = SINGLE_LABEL
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
    if examples.problem_type != SINGLE_LABEL:
        digest.update(examples.problem_type.encode())
    kind = "<f8" if examples.problem_type == REGRESSION else "<i8"
    digest.update(examples.labels.astype(kind).tobytes())
    digest.update(examples.rows.astype("<i8").tobytes())
    digest.update(repr(examples.label_names).encode())
    return digest.hexdigest()[:16]


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


def strata(examples: Examples) -> Integers:
    """[R], what a sample has in proportion: the class, the rarest of several labels, or the tenth of the numbers."""
    labels = examples.labels
    if examples.problem_type == REGRESSION:
        rank = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
        return (rank * 10 // max(1, len(labels))).astype(np.int64)
    if examples.problem_type == MULTI_LABEL:
        by_rarity = np.argsort(labels.sum(axis=0), kind="stable")
        first = labels[:, by_rarity].argmax(axis=1)
        return np.where(labels.any(axis=1), by_rarity[first], -1).astype(np.int64)
    return labels


def carve(examples: Examples, fraction: float, seed: int, source: str) -> tuple[Examples, Examples]:
    """Train and validation parts of one table, in the order of the file, with the classes in proportion."""
    if not 0 < fraction < 1:
        raise UserError(f"validation fraction {fraction} is not between 0 and 1; 0.1 holds out a tenth")
    size = max(round(len(examples) * fraction), len(examples.label_names))
    if size > len(examples) // 2:
        classes = "" if examples.problem_type == REGRESSION else f" for {len(examples.label_names)} classes"
        raise UserError(
            f"{source}: {len(examples)} rows are too few to hold out a validation split{classes}; "
            "give more rows, or a second file with --eval-file"
        )
    held_out = np.zeros(len(examples), dtype=bool)
    held_out[stratified_sample(strata(examples), size, seed, "validation")] = True
    return (
        examples.take(np.flatnonzero(~held_out), "train"),
        examples.take(np.flatnonzero(held_out), "validation"),
    )
