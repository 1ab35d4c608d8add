"""Blocks of queries over gathered blocks of keys, first and last block over all: BigBird's pattern.

Every middle block of queries has its own list of key blocks. Gathered all at once they take (blocks seen) times the
room of the keys, and autograd would keep them; here a few blocks of queries at a time get theirs, in a buffer that
stays in cache, and the backward pass gathers again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longread.ops.offsets import biased
from longread.ops.relative_bias import along, tile_bias
from longread.ops.tiled import fused, one_tile, tile_gradients, wide

# Gathered keys of one step. Larger buffers leave the cache, and from 32 MiB on the allocator maps them anew each time.
BUFFER_BYTES = 4 * 1024**2


def attend_blocks(
    query: Tensor, key: Tensor, value: Tensor, index: Tensor, bias: Tensor, ends_bias: Tensor, dropout: float = 0.0
) -> Tensor:
    """query, key, value [b, H, blocks, size, D] -> [b, blocks * size, H, D].

    index int64 [b, H, blocks - 2, seen]: the key blocks that each middle block sees, counted over sequences and heads;
    bias [b * H * (blocks - 2), 1, 1, seen * size] and, for the first and the last block, ends_bias [b, 1, 1, blocks *
    size] are added to the scores. `dropout` is the part of the probabilities that is dropped.
    """
    if query.device.type == "cpu" and not dropout:
        out = _Gathered.apply(query, key, value, index, bias, ends_bias)  # type: ignore[no-untyped-call]
        return out.flatten(2, 3).transpose(1, 2)  # type: ignore[no-any-return]
    b, heads, _, size, dim = query.shape
    k, v = (_gather(t.flatten(0, 2), index.flatten(0, 2)) for t in (key, value))
    middle = query[:, :, 1:-1].reshape(-1, 1, size, dim)
    between = one_tile(middle, k, v, bias, dropout).reshape(b, heads, -1, dim)
    outer = one_tile(_ends(query), key.flatten(2, 3), value.flatten(2, 3), ends_bias, dropout)
    return torch.cat([outer[:, :, :size], between, outer[:, :, size:]], dim=2).transpose(1, 2)


def attend_blocks_by_offset(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    index: Tensor,
    bias: Tensor,
    ends_bias: Tensor,
    steps: Tensor,
    vector: Tensor,
    dropout: float = 0.0,
) -> Tensor:
    """The same, with the numbers of `vector` [H, offsets] on the scores (ops/relative_bias.py) and a gradient for them.

    steps int64 [H, blocks - 2, seen]: by how many blocks each key block lies behind its queries.
    """
    if torch.is_grad_enabled():  # gathered keys and their scores are made anew in the backward pass
        everything = (query, key, value, index, bias, ends_bias, steps, vector, dropout)
        return checkpoint(_by_offset, *everything, use_reentrant=False)  # type: ignore[no-any-return]
    return _by_offset(query, key, value, index, bias, ends_bias, steps, vector, dropout)


def _by_offset(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    index: Tensor,
    bias: Tensor,
    ends_bias: Tensor,
    steps: Tensor,
    vector: Tensor,
    dropout: float,
) -> Tensor:
    b, heads, blocks, size, dim = query.shape
    seen = index.shape[-1]
    k, v = (_gather(t.flatten(0, 2), index.flatten(0, 2)) for t in (key, value))
    # A block's bias depends on how far away it lies, and beyond the vector's reach no more.
    reach = vector.shape[1] // 2 // size + 2
    place = torch.arange(size, device=query.device)
    distance = torch.arange(-reach, reach + 1, device=query.device)[:, None, None] * size
    table = along(vector, distance + place - place[:, None])  # [H, distances, size, size]
    head = torch.arange(heads, device=query.device)[:, None, None]
    own = table[head, steps.clamp(-reach, reach) + reach].transpose(2, 3).flatten(3)  # [H, middle, size, seen * size]
    own = own.to(query.dtype).expand(b, -1, -1, -1, -1).reshape(-1, 1, size, seen * size) + bias
    between = biased(query[:, :, 1:-1].reshape(-1, 1, size, dim), k, v, own, dropout)
    between = between.reshape(b, heads, -1, dim)
    length = blocks * size
    outer_bias = torch.cat([tile_bias(vector, q0, q0 + size, 0, length) for q0 in (0, length - size)], dim=1)
    outer_bias = outer_bias.to(query.dtype) + ends_bias
    outer = biased(_ends(query), key.flatten(2, 3), value.flatten(2, 3), outer_bias, dropout).transpose(1, 2)
    return torch.cat([outer[:, :, :size], between, outer[:, :, size:]], dim=2).transpose(1, 2)


class _Gathered(torch.autograd.Function):
    """[b, H, blocks, size, D] -> the same shape."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, index: Tensor, bias: Tensor, ends_bias: Tensor
    ) -> Tensor:
        size = query.shape[3]
        out = torch.empty_like(query)
        lse = torch.empty(query.shape[:4], dtype=wide(query.dtype))
        outer, outer_lse = fused(_ends(query), key.flatten(2, 3), value.flatten(2, 3), ends_bias)
        out[:, :, 0], out[:, :, -1] = outer[:, :, :size], outer[:, :, size:]
        lse[:, :, 0], lse[:, :, -1] = outer_lse[:, :, :size], outer_lse[:, :, size:]
        for place, chosen, part in _parts(key, index):
            k, v = (_gather(t.flatten(0, 2), chosen) for t in (key, value))
            some, some_lse = fused(query[place].unsqueeze(1), k, v, bias[part])
            out[place], lse[place] = some.squeeze(1), some_lse.squeeze(1)
        ctx.save_for_backward(
            query, key, value, index, bias, ends_bias, out if query.dtype == torch.float32 else None, lse
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, index, bias, ends_bias, out, lse = ctx.saved_tensors
        grad = grad.to(query.dtype)
        size = query.shape[3]
        d_query = torch.empty_like(query)
        lse = lse.unsqueeze(-1)
        d_q, d_key, d_value = tile_gradients(
            _ends(query), key.flatten(2, 3), value.flatten(2, 3), _ends(grad), ends_bias, _ends(lse).squeeze(-1),
            None if out is None else _ends(out),
        )  # fmt: skip
        d_query[:, :, 0], d_query[:, :, -1] = d_q[:, :, :size], d_q[:, :, size:]
        # Blocks of keys are seen by many: their gradients are summed in float32 at least.
        d_key, d_value = (d.to(wide(key.dtype)).contiguous().view(-1, *key.shape[3:]) for d in (d_key, d_value))
        for place, chosen, part in _parts(key, index):
            k, v = (_gather(t.flatten(0, 2), chosen) for t in (key, value))
            q, g, own_lse = (t[place].unsqueeze(1) for t in (query, grad, lse))
            own = None if out is None else out[place].unsqueeze(1)
            d_q, d_k, d_v = tile_gradients(q, k, v, g, bias[part], own_lse.squeeze(-1), own)
            d_query[place] = d_q.squeeze(1)
            blocks = chosen.flatten()
            d_key.index_add_(0, blocks, d_k.reshape(-1, *key.shape[3:]).to(d_key.dtype))
            d_value.index_add_(0, blocks, d_v.reshape(-1, *key.shape[3:]).to(d_value.dtype))
        return d_query, d_key.view(key.shape).to(key.dtype), d_value.view(key.shape).to(key.dtype), None, None, None


Place = tuple[int, int, slice]


def _parts(key: Tensor, index: Tensor) -> Iterator[tuple[Place, Tensor, slice]]:
    """Some middle blocks of one sequence and head at a time: where they are, what they see, their part of bias."""
    b, heads, middle, seen = index.shape
    count = max(1, BUFFER_BYTES // (seen * key[0, 0, 0].numel() * key.element_size()))
    for sequence in range(b):
        for head in range(heads):
            first = (sequence * heads + head) * middle
            for begin in range(0, middle, count):
                end = min(middle, begin + count)
                yield (
                    (sequence, head, slice(1 + begin, 1 + end)),
                    index[sequence, head, begin:end],
                    slice(first + begin, first + end),
                )


def _gather(blocks: Tensor, index: Tensor) -> Tensor:
    """[all blocks, size, D] -> [n, 1, seen * size, D]."""
    return blocks.index_select(0, index.flatten()).view(len(index), 1, -1, blocks.shape[-1])


def _ends(blocks: Tensor) -> Tensor:
    """[b, H, blocks, size, x] -> the first and the last one, [b, H, 2 * size, x]."""
    return torch.cat([blocks[:, :, 0], blocks[:, :, -1]], dim=2)
