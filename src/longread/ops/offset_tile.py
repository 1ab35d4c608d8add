"""A tile of attention by offset (ops/offsets.py) with gradients, on a processor: no score is kept.

The forward pass is torch's fused kernel, whose log-sum-exp is kept where scores are rounded to 16 bits. The backward
pass makes the probabilities anew, some heads at a time, in two buffers that are written over, and sums the gradient of
the scores along their diagonals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from longread.ops.relative_bias import tile_bias
from longread.ops.tile import Tile, joined
from longread.ops.tiled import QUERIES_PER_TILE, fused, wide

# Scores in one of the two buffers: of several rows, or of some heads of one row.
SCORES = 1 << 21
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
        for some in _cut(heads, _at_once(b, heads, length * key.shape[2])[1]):
            by_offset = tile_bias(vector[some].to(query.dtype), *tile[:4]).unsqueeze(0)
            for rows in _cut(b, 1):
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
        keys, own_keys, scale = key.shape[2], ctx.tile.k1 - ctx.tile.k0, dim**-0.5
        d_query = query.new_empty(b, length, heads, dim).transpose(1, 2)
        d_key, d_value = query.new_empty(key.shape), query.new_empty(value.shape)
        d_beside = None if beside is None else torch.zeros(beside.shape, dtype=wide(query.dtype))
        d_vector = torch.zeros(vector.shape, dtype=wide(vector.dtype))
        rows_at_once, heads_at_once = _at_once(b, heads, length * keys)
        buffers = [query.new_empty(rows_at_once * heads_at_once * length * keys) for _ in range(2)]
        level = None if lse is None else _level(lse, keys, query.dtype, scale)
        nothing = query.new_empty(())
        for some in _cut(heads, heads_at_once):
            by_offset = tile_bias(vector[some].to(query.dtype), *ctx.tile[:4]).unsqueeze(0)
            diagonals = _Diagonals(some.stop - some.start, length, own_keys, d_vector.dtype)
            for rows in _cut(b, rows_at_once):
                one, shape = (rows, some), (rows.stop - rows.start, some.stop - some.start)
                q, k, v, g = (t[one].reshape(-1, t.shape[2], dim) for t in (query, key, value, grad))
                scores, d_scores = (x[: len(q) * length * keys].view(-1, length, keys) for x in buffers)
                bias = _bias(by_offset, ctx.tile.bias, beside, one)
                scores.view(*shape, length, keys).copy_(bias)
                asked, seen = (q, k) if level is None else _less(q, k, level[one])
                scores.baddbmm_(asked, seen.transpose(1, 2), alpha=scale)
                probabilities = torch.softmax(scores, -1, out=scores)
                d_value[one] = torch.bmm(probabilities.transpose(1, 2), g).view(*shape, keys, dim)
                torch.bmm(g, v.transpose(1, 2), out=d_scores)
                of_softmax = torch.ops.aten._softmax_backward_data.out
                of_softmax(d_scores, probabilities, -1, d_scores.dtype, grad_input=d_scores)
                turned = d_scores.transpose(1, 2)
                d_query[one] = torch.baddbmm(nothing, d_scores, k, beta=0, alpha=scale).view(*shape, length, dim)
                d_key[one] = torch.baddbmm(nothing, turned, q, beta=0, alpha=scale).view(*shape, keys, dim)
                by_row = d_scores.view(*shape, length, keys)
                for row in by_row:
                    diagonals.matrix += row[..., :own_keys]
                if d_beside is not None:
                    place = d_beside[_part_of(d_beside, rows), some]
                    place += by_row[..., own_keys:].to(place.dtype).sum_to_size(place.shape)
            diagonals.add_to(d_vector[some], ctx.tile.k0 - ctx.tile.q0)
        sizes = [part.shape[2] for part in parts[: len(parts) // 2]]
        if d_beside is not None:
            d_beside = d_beside.to(query.dtype)
        return d_query, d_vector.to(vector.dtype), d_beside, None, *d_key.split(sizes, 2), *d_value.split(sizes, 2)


def _level(lse: Tensor, keys: int, dtype: torch.dtype, scale: float) -> Tensor:
    """[b, H, n, 1]: about where a query's probability lies among its scores, divided by their scale.

    Of normally distributed scores that is twice as far above their mean as the mean of their exponentials is, and no
    further up than the log-sum-exp. A mean below 0 says that keys are masked or that all numbers are low: half of it is
    near enough to both.
    """
    above = lse - math.log(keys)
    level = torch.minimum(lse, torch.maximum(above / 2, 2 * above)) / scale
    largest = torch.finfo(dtype).max / 2  # more where all keys are masked
    return level.clamp(-largest, largest).to(dtype).unsqueeze(-1)


def _less(q: Tensor, k: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """q and k [batch, N, D] with a number more, so that their products are smaller by each query's level.

    Of 8 bits, a score near 200 is off by up to a half, and exp of it by as much. Taken off inside the product, before
    its one rounding, the level leaves numbers near 0 where probability lies; softmax does not see it.
    """
    return torch.cat([q, -level.reshape(len(q), -1, 1)], 2), torch.nn.functional.pad(k, (0, 1), value=1.0)


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


def _at_once(rows: int, heads: int, pairs: int) -> tuple[int, int]:
    """Rows and heads whose scores, so many each, fill a buffer: all heads of some rows, or some heads of one."""
    fitting = max(1, SCORES // pairs)
    return min(rows, max(1, fitting // heads)), min(heads, fitting)


def _cut(length: int, size: int) -> list[slice]:
    return [slice(start, min(length, start + size)) for start in range(0, length, size)]


def _bias(by_offset: Tensor, own: Tensor | None, beside: Tensor | None, one: tuple[slice, slice]) -> Tensor:
    """Of these rows and heads [1 or rows, heads, n, keys], from that by offset, of the tile and of the keys beside."""
    rows, some = one
    bias = by_offset if own is None else by_offset + own[_part_of(own, rows)]
    if beside is None:
        return bias
    extra = beside[_part_of(beside, rows), some]
    count = max(len(bias), len(extra))
    return torch.cat([part.expand(count, -1, -1, -1) for part in (bias, extra)], dim=3)


def _part_of(bias: Tensor, rows: slice) -> slice:
    """These rows of a bias that may be one for all."""
    return slice(None) if len(bias) == 1 else rows


def _keys_and_values(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    half = len(parts) // 2
    return joined(parts[:half], 2), joined(parts[half:], 2)
