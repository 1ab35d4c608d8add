"""Softmax attention of one head after the other through oneDNN, without gradients, on a processor.

torch's fused kernel multiplies with MKL (see ops/linear.py), and is no faster in bfloat16. Here oneDNN multiplies: some
queries with all of their keys, in float32 and so few that a cache holds the scores, then their softmax with the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import torch
from torch import Tensor

from longread.ops.linear import onednn_is_faster, product
from longread.ops.tile import Tile

# Query-key pairs of a head below which the fused kernel is as fast.
FEWEST = 60_000
# Queries below which it does not pay to copy all keys.
FEWEST_QUERIES = 64
# Scores that are made at once, at most: four megabytes.
SCORES = 1 << 20


def is_faster(query: Tensor, pairs: int) -> bool:
    """Whether `attend` is for queries like these, with tiles of so many pairs, where no gradients are wanted."""
    return (
        pairs >= FEWEST
        and query.shape[2] >= FEWEST_QUERIES
        and query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.bfloat16)
        and not torch.compiler.is_compiling()
        and onednn_is_faster()
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tiles: Sequence[Tile],
    extra_key: Tensor | None = None,
    extra_value: Tensor | None = None,
    extra_bias: Tensor | None = None,
) -> Tensor:
    """query [b, H, Nq, D], key and value [b, H, Nk, D] -> [b, Nq, H, D]; tiles and extra keys as in ops/tiled.py.

    A tile's bias may have a part for each head.
    """
    b, heads, length, dim = query.shape
    extra = 0 if extra_key is None else extra_key.shape[2]
    k = key.new_empty(b, heads, extra + key.shape[2], dim, dtype=torch.float32)
    v = value.new_empty(k.shape)
    torch.mul(key.float(), dim**-0.5, out=k[:, :, extra:])
    v[:, :, extra:] = value
    extra_key = None if extra_key is None else extra_key.float() * dim**-0.5
    out = query.new_empty(b, length, heads, dim)
    for tile in sorted(tiles, key=attrgetter("k0")):
        if extra_key is not None and extra_value is not None:  # before the tile's keys, where no later tile looks
            k[:, :, tile.k0 : tile.k0 + extra], v[:, :, tile.k0 : tile.k0 + extra] = extra_key, extra_value
        seen = slice(tile.k0, tile.k1 + extra)
        keys, values = k[:, :, seen], v[:, :, seen].transpose(2, 3)
        biases = [(slice(extra, None), tile.bias), (slice(extra), extra_bias)]
        added = [(part, bias.expand(b, heads, -1, -1)) for part, bias in biases if bias is not None]
        at_once = max(1, SCORES // (tile.k1 - tile.k0 + extra))
        for start in range(tile.q0, tile.q1, at_once):
            asked = slice(start, min(tile.q1, start + at_once))
            of_tile = slice(start - tile.q0, asked.stop - tile.q0)
            masks = [(part, bias if bias.shape[2] == 1 else bias[:, :, of_tile]) for part, bias in added]
            for row in range(b):
                own = zip(query[row, :, asked], keys[row], values[row], out[row, asked].unbind(1), strict=True)
                for head, (q, k_head, v_head, place) in enumerate(own):
                    scores = product(q.float(), k_head)
                    for part, mask in masks:
                        scores[:, part].add_(mask[row, head])
                    torch.softmax(scores, -1, out=scores)
                    place.copy_(product(scores.to(v.dtype), v_head))
    return out
