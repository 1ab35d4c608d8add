"""A slice of queries with the slice of keys that they may see: the unit in which tiled attention works."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


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
