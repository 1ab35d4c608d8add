"""Blocks of queries over gathered blocks of keys: BigBird's middle rows.

Every block of queries has its own list of key blocks. Gathered all at once they take (blocks seen) times the room of
the keys, and autograd would keep them; here a few blocks of queries at a time get theirs, in a buffer that stays in
cache, and the backward pass gathers again.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from longread.attention.softmax import fused, tile_gradients, wide

# Gathered keys of one step. Larger buffers leave the cache, and from 32 MiB on the allocator maps them anew each time.
BUFFER_BYTES = 4 * 1024**2


def attend_blocks(query: Tensor, key: Tensor, value: Tensor, index: Tensor, bias: Tensor) -> Tensor:
    """query [n, size, D], key and value [blocks, size, D], index int64 [n, seen] -> [n, size, D].

    Block i of the queries sees the key blocks index[i]; bias [n, 1, 1, seen * size] is added to the scores.
    """
    if query.device.type == "cpu":
        return _Gathered.apply(query, key, value, index, bias)  # type: ignore[no-untyped-call, no-any-return]
    k, v = (_gather(blocks, index) for blocks in (key, value))
    return F.scaled_dot_product_attention(query.unsqueeze(1), k, v, attn_mask=bias).squeeze(1)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, index: Tensor, bias: Tensor
    ) -> Tensor:
        out = torch.empty_like(query)
        lse = torch.empty(query.shape[:2], dtype=wide(query.dtype))
        for part in _parts(key, index):
            k, v = (_gather(t, index[part]) for t in (key, value))
            out_part, lse_part = fused(query[part].unsqueeze(1), k, v, bias[part])
            out[part], lse[part] = out_part.squeeze(1), lse_part.squeeze(1)
        ctx.save_for_backward(query, key, value, index, bias, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, index, bias, out, lse = ctx.saved_tensors
        grad = grad.to(query.dtype).contiguous()
        scale = query.shape[-1] ** -0.5
        delta = (grad * out).sum(-1, dtype=lse.dtype)
        d_query = torch.empty_like(query)
        d_key, d_value = (torch.zeros(t.shape, dtype=wide(t.dtype)) for t in (key, value))
        for part in _parts(key, index):
            k, v = (_gather(t, index[part]) for t in (key, value))
            q, g, o, column, inner = (t[part].unsqueeze(1) for t in (query, grad, out, lse, delta))
            d_q, d_k, d_v = tile_gradients(q, k, v, g, bias[part], column.unsqueeze(-1), inner.unsqueeze(-1), o, scale)
            d_query[part] = d_q.squeeze(1)
            blocks = index[part].flatten()
            d_key.index_add_(0, blocks, d_k.view(len(blocks), *key.shape[1:]).to(d_key.dtype))
            d_value.index_add_(0, blocks, d_v.view(len(blocks), *value.shape[1:]).to(d_value.dtype))
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None, None


def _parts(key: Tensor, index: Tensor) -> list[slice]:
    one = index.shape[1] * key[0].numel() * key.element_size()
    count = max(1, BUFFER_BYTES // one)
    return [slice(begin, begin + count) for begin in range(0, len(index), count)]


def _gather(blocks: Tensor, index: Tensor) -> Tensor:
    """[blocks, size, D] -> [n, 1, seen * size, D]."""
    return blocks.index_select(0, index.flatten()).view(len(index), 1, -1, blocks.shape[-1])
