"""A tile of attention by offset (ops/offsets.py) with gradients, on a processor: no score is kept.

The forward pass is torch's fused kernel, whose log-sum-exp is kept where scores are rounded to 16 bits. The backward
pass makes the probabilities anew, some heads at a time, in two buffers that are written over, and sums the gradient of
the scores along their diagonals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from longread.ops.recomputed import Buffers, at_once, level_of, part_of, slices
from longread.ops.relative_bias import tile_bias
from longread.ops.tile import QUERIES_PER_TILE, Tile, joined
from longread.ops.tiled import fused, wide

# Scores of one head in a tile, unless that would be fewer than QUERIES_PER_TILE queries.
LARGEST_TILE = 1 << 19


class OffsetTile(torch.autograd.Function):
    """The tile's queries [b, H, n, D], the vector and the parts of its keys and values [b, H, part, D] -> [b, n, H, D].

    beside: bias [b or 1, H, n, G] of keys behind the tile's own, which are the last part; it may want a gradient.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, vector: Tensor, beside: Tensor | None, tile: Tile, *parts: Tensor
    ) -> Tensor:
        key, value = _keys_and_values(parts)
        b, heads, length, dim = query.shape
        out = query.new_empty(b, length, heads, dim).transpose(1, 2)
        lse = torch.empty(b, heads, length, dtype=wide(query.dtype))
        for some in slices(heads, at_once(b, heads, length * key.shape[2])[1]):
            by_offset = tile_bias(vector[some].to(query.dtype), *tile[:4]).unsqueeze(0)
            for rows in slices(b, 1):
                one = (rows, some)
                bias = _bias(by_offset, tile.bias, beside, one)
                out[one], lse[one] = fused(query[one], key[one], value[one], bias)
        ctx.save_for_backward(query, vector, beside, None if lse.dtype == query.dtype else lse, *parts)
        ctx.tile = tile
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable  # what is written over has no second derivative
    def backward(ctx: Any, grad_transposed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, vector, beside, lse, *parts = ctx.saved_tensors
        key, value = _keys_and_values(parts)
        grad = grad_transposed.transpose(1, 2).to(query.dtype)
        b, heads, length, dim = query.shape
        keys, own_keys = key.shape[2], ctx.tile.k1 - ctx.tile.k0
        d_query = query.new_empty(b, length, heads, dim).transpose(1, 2)
        d_key, d_value = query.new_empty(key.shape), query.new_empty(value.shape)
        d_beside = None if beside is None else torch.zeros(beside.shape, dtype=wide(query.dtype))
        d_vector = torch.zeros(vector.shape, dtype=wide(vector.dtype))
        rows_at_once, heads_at_once = at_once(b, heads, length * keys)
        buffers = Buffers(query, b, heads, length * keys)
        level = None if lse is None else level_of(lse, query, key)
        for some in slices(heads, heads_at_once):
            by_offset = tile_bias(vector[some].to(query.dtype), *ctx.tile[:4]).unsqueeze(0)
            diagonals = _Diagonals(some.stop - some.start, length, own_keys, d_vector.dtype)
            for rows in slices(b, rows_at_once):
                one = rows, some
                bias = _bias(by_offset, ctx.tile.bias, beside, one)
                d_query[one], d_key[one], d_value[one], d_scores = buffers.gradients(
                    query[one], key[one], value[one], grad[one], bias, None if level is None else level[one]
                )
                for row in d_scores:
                    diagonals.matrix += row[..., :own_keys]
                if d_beside is not None:
                    place = d_beside[part_of(d_beside, rows), some]
                    place += d_scores[..., own_keys:].to(place.dtype).sum_to_size(place.shape)
            diagonals.add_to(d_vector[some], ctx.tile.k0 - ctx.tile.q0)
        sizes = [part.shape[2] for part in parts[: len(parts) // 2]]
        if d_beside is not None:
            d_beside = d_beside.to(query.dtype)
        return d_query, d_vector.to(vector.dtype), d_beside, None, *d_key.split(sizes, 2), *d_value.split(sizes, 2)


class _Diagonals:
    """The sum of matrices [H, n, N] along each of their diagonals."""

    def __init__(self, heads: int, queries: int, keys: int, dtype: torch.dtype) -> None:
        self.shape = heads, queries, queries + keys
        # In rows that are one number shorter than those that `add_to` reads, where a diagonal is a column.
        self.numbers = torch.zeros(heads, queries * (queries + keys), dtype=dtype)
        self.matrix = self.numbers[:, :-queries].view(heads, queries, queries + keys - 1)[..., :keys]

    def add_to(self, d_vector: Tensor, first: int) -> None:
        """To a gradient over offsets [H, 2 R + 1], where the first key is `first` behind the first query."""
        _, queries, width = self.shape
        offsets = torch.arange(width)  # from 0 up, then from the lowest to -1
        offsets = torch.where(offsets < width - queries, offsets, offsets - width) + first
        reach = d_vector.shape[1] // 2
        d_vector.index_add_(1, offsets.clamp(-reach, reach) + reach, self.numbers.view(self.shape).sum(1))


def queries_at_once(keys: int) -> int:
    """Of a tile that sees so many keys."""
    return max(QUERIES_PER_TILE, LARGEST_TILE // keys)


def _bias(by_offset: Tensor, own: Tensor | None, beside: Tensor | None, one: tuple[slice, slice]) -> Tensor:
    """Of these rows and heads [1 or rows, heads, n, keys], from that by offset, of the tile and of the keys beside."""
    rows, some = one
    bias = by_offset if own is None else by_offset + own[part_of(own, rows)]
    if beside is None:
        return bias
    extra = beside[part_of(beside, rows), some]
    count = max(len(bias), len(extra))
    return torch.cat([part.expand(count, -1, -1, -1) for part in (bias, extra)], dim=3)


def _keys_and_values(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    half = len(parts) // 2
    return joined(parts[:half], 2), joined(parts[half:], 2)
