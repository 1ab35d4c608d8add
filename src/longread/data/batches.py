"""The order of the rows, and what is in memory at once: functions of numbers of rows and tokens alone.

What the optimizer sees is a batch of `batch_size` random rows; what memory sees are micro-batches: the batch's rows
sorted by length and cut under a budget of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def shuffled(rows: int, seed: Sequence[int]) -> npt.NDArray[Any]:
    """numpy's permutation, which shuffles numbers of eight bytes, in four: the shuffle is the same for any size."""
    order = np.arange(rows, dtype=np.uint32 if rows < 1 << 32 else np.int64)
    np.random.default_rng(seed).shuffle(order)
    return order


class EpochBatches(Sequence[Indices]):
    """Every row once, in an order that seed and epoch decide, in batches; the last one may be smaller.

    The order is an array, and a batch is made when it is asked for: of millions of rows nothing else is held.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int, epoch: int) -> None:
        self.batch_size = batch_size
        self.order = shuffled(num_rows, [seed, epoch])

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    @overload
    def __getitem__(self, place: int) -> Indices: ...

    @overload
    def __getitem__(self, place: slice) -> list[Indices]: ...

    def __getitem__(self, place: int | slice) -> Indices | list[Indices]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.order[place * self.batch_size : (place + 1) * self.batch_size].astype(np.int64)


def by_length(indices: Indices, lengths: Indices) -> Indices:
    """The rows sorted by their length; `lengths` [R] are of all rows of the split."""
    return indices[np.argsort(lengths[indices], kind="stable")]


def micro_batches(indices: Indices, lengths: Indices, tokens: int) -> Iterator[Indices]:
    """The rows sorted by length, cut so that no part exceeds `tokens` (a single longer row is a part by itself).

    `lengths` [R] are of all rows of the split.
    """
    ordered = by_length(indices, lengths)
    begin = total = 0
    for end, length in enumerate(lengths[ordered].tolist()):
        if total and total + length > tokens:
            yield ordered[begin:end]
            begin, total = end, 0
        total += length
    if len(ordered):
        yield ordered[begin:]


def shares(lengths: Indices, count: int) -> list[slice]:
    """Rows of `lengths` [R] tokens in order, as `count` neighbouring shares of about as many tokens each."""
    if count == 1:
        return [slice(0, len(lengths))]
    middles = np.cumsum(lengths) - lengths / 2
    owners = np.floor(middles * count / max(1, lengths.sum())).clip(0, count - 1)
    ends = np.searchsorted(owners, np.arange(count), side="right")
    return [slice(int(begin), int(end)) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
