"""A slice of queries with the slice of keys that they may see: the unit in which tiled attention works."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

# Queries at once of eager products: the scores of a tile should stay in cache.
QUERIES_PER_TILE = 256


class Tile(NamedTuple):
    """Queries [q0, q1) see keys [k0, k1); `bias` [b or 1, 1, q1-q0 or 1, k1-k0] is added to the scores."""

    q0: int
    q1: int
    k0: int
    k1: int
    bias: Tensor | None = None

    @property
    def pairs(self) -> int:
        return (self.q1 - self.q0) * (self.k1 - self.k0)


def edges_of(spans: Sequence[tuple[int, int]], length: int) -> list[int]:
    """Where spans [start, end) of a row begin and end, and where the row does, in rising order."""
    return sorted({0, length, *chain.from_iterable(spans)})


def cut(x: Tensor, edges: Sequence[int], dim: int) -> tuple[Tensor, ...]:
    """Its parts between neighbouring edges. What overlapping spans make of x is cut once, into parts that they share:

    the gradient of a slice is as long as x, those of the parts are put together once.
    """
    return x.split([end - start for start, end in pairwise(edges)], dim)


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Neighbouring parts as one; a single part is no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim)
