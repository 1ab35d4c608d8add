"""Gradients of softmax attention on a processor from probabilities that are made anew: no score is kept.

Some heads at a time, in two buffers that are written over: what one step has written, the next one finds in cache, and
no memory is asked for in between. Only where each query's whole softmax is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from longread.ops.tile import QUERIES_PER_TILE

# Scores in one of the two buffers: of several rows, or of some heads of one row.
SCORES = 1 << 21

One = tuple[slice, slice]  # rows and heads


def recomputed_gradients(
    query: Tensor, key: Tensor, value: Tensor, grad: Tensor, bias: Tensor | None, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of query [b, H, Nq, D], key and value [b, H, Nk, D], from the gradient [b, H, Nq, D] of what they give.

    bias [b or 1, 1, Nq or 1, Nk]; lse [b, H, Nq]: the log-sum-exp of the scores, used where these are rounded to 16
    bits. The gradients of key and value are in float32 at least where they are summed over slices of queries.
    """
    b, heads, length, dim = query.shape
    keys = key.shape[2]
    d_query = query.new_empty(b, length, heads, dim).transpose(1, 2)
    kind = query.dtype if length <= QUERIES_PER_TILE else torch.promote_types(query.dtype, torch.float32)
    d_key, d_value = (query.new_empty(t.shape, dtype=kind) for t in (key, value))
    level = None if lse.dtype == query.dtype else level_of(lse, query, key)
    pairs = min(length, QUERIES_PER_TILE) * keys
    buffers = Buffers(query, b, heads, pairs)
    for one in pieces(b, heads, pairs):
        for begin in range(0, length, QUERIES_PER_TILE):
            part = slice(begin, begin + QUERIES_PER_TILE)
            place = (*one, part)
            own = None if bias is None else bias[part_of(bias, one[0])]
            own = own if own is None or own.shape[2] == 1 else own[:, :, part]
            some = None if level is None else level[place]
            d_q, d_k, d_v, _ = buffers.gradients(query[place], key[one], value[one], grad[place], own, some)
            d_query[place] = d_q
            for total, add in ((d_key, d_k), (d_value, d_v)):
                if begin:
                    total[one] += add
                else:
                    total[one] = add
    return d_query, d_key, d_value


class Buffers:
    """Room for the scores of a piece and for their gradients."""

    def __init__(self, like: Tensor, rows: int, heads: int, pairs: int) -> None:
        rows, heads = at_once(rows, heads, pairs)
        self.numbers = [like.new_empty(rows * heads * pairs) for _ in range(2)]

    def gradients(
        self, query: Tensor, key: Tensor, value: Tensor, grad: Tensor, bias: Tensor | None, level: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a piece's queries, keys and values [r, h, N, D], and of its scores [r, h, n, keys], until the next piece.

        level: `level_of` the queries, None where no score is rounded to 16 bits.
        """
        (r, h, length, dim), keys = query.shape, key.shape[2]
        scale, nothing = dim**-0.5, query.new_empty(())
        q, k, v, g = (t.reshape(r * h, -1, dim) for t in (query, key, value, grad))
        scores, d_scores = (x[: r * h * length * keys].view(r * h, length, keys) for x in self.numbers)
        asked, seen = (q, k) if level is None else _less(q, k, level)
        if bias is None:
            torch.baddbmm(nothing, asked, seen.transpose(1, 2), beta=0, alpha=scale, out=scores)
        else:
            scores.view(r, h, length, keys).copy_(bias)
            scores.baddbmm_(asked, seen.transpose(1, 2), alpha=scale)
        probabilities = torch.softmax(scores, -1, out=scores)
        d_v = torch.bmm(probabilities.transpose(1, 2), g)
        torch.bmm(g, v.transpose(1, 2), out=d_scores)
        of_softmax = torch.ops.aten._softmax_backward_data.out
        of_softmax(d_scores, probabilities, -1, d_scores.dtype, grad_input=d_scores)
        d_q = torch.baddbmm(nothing, d_scores, k, beta=0, alpha=scale)
        d_k = torch.baddbmm(nothing, d_scores.transpose(1, 2), q, beta=0, alpha=scale)
        return *(d.view(r, h, -1, dim) for d in (d_q, d_k, d_v)), d_scores.view(r, h, length, keys)  # type: ignore[return-value]


def pieces(rows: int, heads: int, pairs: int) -> Iterator[One]:
    """Rows and heads whose scores, `pairs` each, fill a buffer."""
    rows_at_once, heads_at_once = at_once(rows, heads, pairs)
    for some in slices(heads, heads_at_once):
        for these in slices(rows, rows_at_once):
            yield these, some


def at_once(rows: int, heads: int, pairs: int) -> tuple[int, int]:
    """All heads of some rows, or some heads of one."""
    fitting = max(1, SCORES // pairs)
    return min(rows, max(1, fitting // heads)), min(heads, fitting)


def slices(length: int, size: int) -> list[slice]:
    """That cover a length, each of them `size` long but the last one."""
    return [slice(start, min(length, start + size)) for start in range(0, length, size)]


def part_of(bias: Tensor, rows: slice) -> slice:
    """These rows of a bias that may be one for all."""
    return slice(None) if len(bias) == 1 else rows


def level_of(lse: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """[b, H, n, 1]: about where a query's probability lies among its scores, divided by their scale.

    Of normally distributed scores that is twice as far above their mean as the mean of their exponentials is, and no
    further up than the log-sum-exp. Where the mean of the exponentials lies below the mean score, keys are masked; half
    of that distance is near enough.
    """
    scale = query.shape[3] ** -0.5
    # All scores of a query may lie far from 0, and near each other.
    mean = (query @ key.mean(2, keepdim=True).mT).squeeze(-1).to(lse.dtype) * scale
    above = lse - math.log(key.shape[2]) - mean
    level = torch.minimum(lse, mean + torch.maximum(above / 2, 2 * above)) / scale
    largest = torch.finfo(query.dtype).max / 2  # more where all keys are masked
    return level.clamp(-largest, largest).to(query.dtype).unsqueeze(-1)


def _less(q: Tensor, k: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """q and k [batch, N, D] with a number more, so that their products are smaller by each query's level.

    Of 8 bits, a score near 200 is off by up to a half, and exp of it by as much. Taken off inside the product, before
    its one rounding, the level leaves numbers near 0 where probability lies; softmax does not see it.
    """
    return torch.cat([q, -level.reshape(len(q), -1, 1)], 2), torch.nn.functional.pad(k, (0, 1), value=1.0)
