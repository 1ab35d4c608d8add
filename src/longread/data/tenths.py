"""Which tenth of all numbers each one is in, without sorting them all at once: a sort of millions would need memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PART = 1 << 18  # numbers that are looked at together
BITS = 16  # of the numbers' 64 that one pass over them decides


def tenths(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """[R], 0 to 9: a tenth of the R finite numbers in each, of equal ones the earlier in the lower."""
    size, found = len(numbers), np.zeros(len(numbers), dtype=np.int8)
    ranks = [rank for tenth in range(1, 10) if (rank := -(-size * tenth // 10)) < size]  # where the next one begins
    bounds = _of_ranks(numbers, ranks)
    # In front of a rank are the numbers below its own, and as many of those equal to it as there is room for.
    room = [rank - bound.below for rank, bound in zip(ranks, bounds, strict=True)]
    for begin in range(0, size, PART):
        keys = _keys(numbers[begin : begin + PART])
        for place, bound in enumerate(bounds):
            equal = np.flatnonzero(keys == bound.key)
            above = keys > bound.key
            above[equal[room[place] :]] = True
            room[place] = max(0, room[place] - len(equal))
            found[begin : begin + PART] += above
    return found


@dataclass
class _Bound:
    """The number at a rank: the first bits of its key, as many as are decided, and how many numbers are below them."""

    key: np.uint64
    below: int


def _of_ranks(numbers: npt.NDArray[np.float64], ranks: Sequence[int]) -> list[_Bound]:
    bounds = [_Bound(np.uint64(0), 0) for _ in ranks]
    for shift in range(64 - BITS, -1, -BITS):
        counts = np.zeros((len(ranks), 1 << BITS), dtype=np.int64)
        for begin in range(0, len(numbers), PART):
            keys = _keys(numbers[begin : begin + PART]) >> np.uint64(shift)
            before = keys >> np.uint64(BITS)
            for own, bound in zip(counts, bounds, strict=True):
                digits = keys[before == bound.key] & np.uint64((1 << BITS) - 1)
                own += np.bincount(digits.astype(np.int64), minlength=1 << BITS)
        for own, bound, rank in zip(counts, bounds, ranks, strict=True):
            upto = bound.below + np.cumsum(own)
            digit = int(np.searchsorted(upto, rank, side="right"))
            bound.below = int(upto[digit] - own[digit])
            bound.key = bound.key << np.uint64(BITS) | np.uint64(digit)
    return bounds


def _keys(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Integers in the order of the numbers: their bits, turned round where the sign is minus."""
    bits = (numbers.astype(np.float64) + 0.0).view(np.uint64)  # -0.0 is 0.0
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)
