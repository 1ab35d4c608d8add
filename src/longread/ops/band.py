"""Tiles that cover a band of the attention matrix: every query with the keys within a distance of it."""

from __future__ import annotations

import torch
from torch import Tensor

from longread.ops.packed import Group, bias_from, to_device
from longread.ops.tile import Tile

# Queries of one tile of the band. A tile of Q queries looks at Q + attention_window keys: smaller wastes less on
# masked corners, larger makes fewer calls.
BAND_QUERIES = 128


def band(group: Group, allowed: Tensor | None, first: int, side: int, dtype: torch.dtype) -> tuple[Tile, ...]:
    """The tiles of a group whose queries see up to `side` keys on each side, with a bias for what is outside.

    allowed: bool [b, N] on the processor, the keys that count (None: all); those before `first` do not. So Longformer
    leaves out its global tokens, which come as extra keys: each is counted once.
    """
    length = group.longest
    shapes: dict[tuple[int, int, int], Tensor] = {}
    tiles = []
    # A sequence that one inner tile's keys would cover anyway is one tile: cutting it up would save nothing.
    queries = length if length <= BAND_QUERIES + 2 * side else BAND_QUERIES
    for q0 in range(0, length, queries):
        q1 = min(length, q0 + queries)
        k0, k1 = max(first, q0 - side), min(length, q1 + side)
        bias = None
        if q1 - 1 - side > k0 or q0 + side < k1 - 1:  # some pair of the tile lies outside the window
            shape = (q1 - q0, k1 - k0, q0 - k0)
            if shape not in shapes:
                query = torch.arange(q0, q1)[:, None]
                inside = bias_from((query - torch.arange(k0, k1)).abs() <= side, dtype)[None, None]
                shapes[shape] = inside if allowed is not None else to_device(inside, group.device)
            bias = shapes[shape]
        if allowed is not None:
            tokens = bias_from(allowed[:, k0:k1], dtype)[:, None, None, :]
            bias = to_device(tokens if bias is None else bias + tokens, group.device)
        tiles.append(Tile(q0, q1, k0, k1, bias))
    return tuple(tiles)
