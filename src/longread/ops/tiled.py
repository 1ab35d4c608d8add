"""Softmax attention over tiles: the fast path that dense, Longformer, BigBird and Linformer share.

A tile is a slice of queries with the slice of keys it may see. Tiles are handled one after the other, so scores
never take more room than one tile's. Keys that every query sees beside its tile (Longformer's global tokens) are
`extra` keys; they are merged by their log-sum-exp, as partial softmaxes are in Rabe & Staats (2021) and in
FlashAttention (Dao et al. 2022, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longread.ops import by_head
from longread.ops.eager import EagerAttention, is_short
from longread.ops.recomputed import recomputed_gradients
from longread.ops.tile import QUERIES_PER_TILE, Tile


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    tiles: Sequence[Tile] | None = None,
    bias: Tensor | None = None,
    extra_key: Tensor | None = None,
    extra_value: Tensor | None = None,
    extra_bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention. query [b, H, Nq, D], key and value [b, H, Nk, D] -> [b, Nq, H, D].

    Without `tiles` every query sees every key. `bias` [b or 1, 1, 1, Nk]. extra_key, extra_value [b, H, G, D] are
    seen by all queries, with extra_bias [b, 1, 1, G]. `dropout` is the part of the probabilities that is dropped.
    """
    if tiles is None:
        tiles = (Tile(0, query.shape[2], 0, key.shape[2], bias),)
    if query.device.type == "cpu" and not dropout:
        keys = key.shape[2] + (0 if extra_key is None else extra_key.shape[2])
        given = (t for t in (query, key, value, extra_key, extra_value) if t is not None)
        training = torch.is_grad_enabled() and any(t.requires_grad for t in given)
        if len(tiles) == 1 and is_short(keys, query.dtype, training):
            key, value, bias = _with_extra(query, key, value, extra_key, extra_value, extra_bias, tiles[0])
            return EagerAttention.apply(query, key, value, bias)  # type: ignore[no-untyped-call, no-any-return]
        if len(tiles) == 1 and training and query.dtype != torch.float32:  # one softmax is cheaper than two merged
            key, value, bias = _with_extra(query, key, value, extra_key, extra_value, extra_bias, tiles[0])
            tiles, extra_key, extra_value = (Tile(0, query.shape[2], 0, key.shape[2], bias),), None, None
        if not training and by_head.is_faster(query, max(tile.pairs for tile in tiles)):
            return by_head.attend(query, key, value, tiles, extra_key, extra_value, extra_bias)
        return _TiledAttention.apply(query, key, value, extra_key, extra_value, extra_bias, tuple(tiles))  # type: ignore[no-untyped-call, no-any-return]
    return _attend_anywhere(query, key, value, extra_key, extra_value, extra_bias, tiles, dropout)


def _attend_anywhere(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    extra_key: Tensor | None,
    extra_value: Tensor | None,
    extra_bias: Tensor | None,
    tiles: Sequence[Tile],
    dropout: float = 0.0,
) -> Tensor:
    """The same with torch's own operators alone: on an accelerator their fused kernels have fast gradients."""
    parts = []
    for tile in tiles:
        k, v, bias = _with_extra(query, key, value, extra_key, extra_value, extra_bias, tile)
        parts.append(one_tile(query[:, :, tile.q0 : tile.q1], k, v, bias, dropout))
    return torch.cat(parts, dim=2).transpose(1, 2)


def one_tile(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """[b, H, Nq, D] and keys that all queries see -> [b, H, Nq, D]; gradients by autograd.

    torch's fused kernel has no dropout on a CPU: eager products there, some queries at a time, and a matrix that is
    too large to be kept is made anew in the backward pass, with the same probabilities dropped.
    """
    if query.device.type != "cpu" or not dropout:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    if is_short(key.shape[2], query.dtype, True):
        return EagerAttention.apply(query, key, value, bias, dropout).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]
    parts = []
    for start in range(0, query.shape[2], QUERIES_PER_TILE):
        part = slice(start, start + QUERIES_PER_TILE)
        own = bias if bias is None or bias.shape[2] == 1 else bias[:, :, part]
        parts.append(checkpoint(EagerAttention.apply, query[:, :, part], key, value, own, dropout, use_reentrant=False))
    return torch.cat(parts, dim=1).transpose(1, 2)


def _with_extra(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    extra_key: Tensor | None,
    extra_value: Tensor | None,
    extra_bias: Tensor | None,
    tile: Tile,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys, values and bias of one tile, the extra ones behind its own."""
    q0, q1, k0, k1, bias = tile
    key, value = key[:, :, k0:k1], value[:, :, k0:k1]
    if extra_key is None or extra_value is None:
        return key, value, bias
    if bias is not None or extra_bias is not None:
        shape = (query.shape[0], 1, q1 - q0, k1 - k0)
        bias = query.new_zeros(shape) if bias is None else bias.expand(shape)
        beside = query.new_zeros(()) if extra_bias is None else extra_bias
        bias = torch.cat([bias, beside.expand(query.shape[0], 1, q1 - q0, extra_key.shape[2])], dim=3)
    return torch.cat([key, extra_key], dim=2), torch.cat([value, extra_value], dim=2), bias


class _TiledAttention(torch.autograd.Function):
    """Forward through torch's fused CPU kernel tile by tile, gradients from the kept log-sum-exp."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        extra_key: Tensor | None,
        extra_value: Tensor | None,
        extra_bias: Tensor | None,
        tiles: tuple[Tile, ...],
    ) -> Tensor:
        scale = query.shape[-1] ** -0.5
        b, heads, length, dim = query.shape
        if len(tiles) == 1 and extra_key is None:
            _, _, k0, k1, bias = tiles[0]
            out, lse = fused(query, key[:, :, k0:k1], value[:, :, k0:k1], bias)
        else:
            out = query.new_empty(b, length, heads, dim).transpose(1, 2)
            lse = torch.empty(b, heads, length, dtype=wide(query.dtype))
            for q0, q1, k0, k1, bias in tiles:
                out[:, :, q0:q1], lse[:, :, q0:q1] = fused(
                    query[:, :, q0:q1], key[:, :, k0:k1], value[:, :, k0:k1], bias
                )
        if extra_key is not None and extra_value is not None:
            scores = _extra_scores(query, extra_key, extra_bias, scale)
            merged = torch.logaddexp(lse, scores.logsumexp(-1))
            out.mul_(torch.exp(lse - merged).unsqueeze(-1).to(out.dtype))
            out.add_(torch.exp(scores - merged.unsqueeze(-1)).to(out.dtype) @ extra_value)
            lse = merged
        needed = out if query.dtype == torch.float32 else None
        ctx.save_for_backward(query, key, value, extra_key, extra_value, extra_bias, needed, lse)
        ctx.tiles = tiles
        return out.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad_transposed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, extra_key, extra_value, extra_bias, out, lse = ctx.saved_tensors
        grad = grad_transposed.transpose(1, 2).to(query.dtype)
        by_kernel = query.dtype == torch.float32
        whole = len(ctx.tiles) == 1 and ctx.tiles[0].pairs == query.shape[2] * key.shape[2]
        if by_kernel and whole and extra_key is None:  # nothing to add up
            return *fused_gradients(query, key, value, grad, ctx.tiles[0].bias, lse, out), None, None, None, None
        b, heads, length, dim = query.shape
        d_query = query.new_empty(b, length, heads, dim).transpose(1, 2)  # as it goes on to the projections
        # Keys are shared by tiles: their gradients are summed in float32 at least.
        d_key, d_value = (torch.zeros(t.shape, dtype=wide(t.dtype)) for t in (key, value))
        extra = [None if t is None else torch.zeros(t.shape, dtype=wide(t.dtype)) for t in (extra_key, extra_value)]
        for tile in ctx.tiles:
            q0, q1, k0, k1, bias = tile
            q, g = query[:, :, q0:q1], grad[:, :, q0:q1]
            if by_kernel:
                k, v, own = key[:, :, k0:k1], value[:, :, k0:k1], out[:, :, q0:q1]
            else:
                k, v, bias = _with_extra(query, key, value, extra_key, extra_value, extra_bias, tile)
                own = None
            d_q, d_k, d_v = tile_gradients(q, k, v, g, bias, lse[:, :, q0:q1], own)
            d_query[:, :, q0:q1] = d_q
            for total, beside, add in ((d_key, extra[0], d_k), (d_value, extra[1], d_v)):
                total[:, :, k0:k1] += add[:, :, : k1 - k0]
                if beside is not None and not by_kernel:
                    beside += add[:, :, k1 - k0 :]
        if extra_key is not None and by_kernel:
            extra[0], extra[1] = _extra_gradients(query, extra_key, extra_value, extra_bias, grad, out, lse, d_query)
        found = (d_query, d_key, d_value, *extra)
        return *(None if d is None else d.to(query.dtype) for d in found), None, None


def _extra_gradients(
    query: Tensor,
    extra_key: Tensor,
    extra_value: Tensor,
    extra_bias: Tensor | None,
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    d_query: Tensor,
) -> tuple[Tensor, Tensor]:
    """Of the extra keys and values, from the log-sum-exp of all keys; what the queries get from them is added."""
    scale, delta = query.shape[-1] ** -0.5, (grad * out).sum(-1, keepdim=True)
    probabilities = torch.exp(_extra_scores(query, extra_key, extra_bias, scale) - lse.unsqueeze(-1))
    d_scores = probabilities * ((grad @ extra_value.transpose(-1, -2)) - delta) * scale
    d_query += d_scores @ extra_key
    return d_scores.transpose(-1, -2) @ query, probabilities.transpose(-1, -2) @ grad


def tile_gradients(
    query: Tensor, key: Tensor, value: Tensor, grad: Tensor, bias: Tensor | None, lse: Tensor, out: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of queries and the keys that they see, from the log-sum-exp [b, H, Nq] and, in float32, what was attended to.

    In bfloat16 explicit products are faster than the kernel; they want all keys of a query.
    """
    if out is not None:
        return fused_gradients(query, key, value, grad, bias, lse, out)
    return recomputed_gradients(query, key, value, grad, bias, lse)


def fused_gradients(
    query: Tensor, key: Tensor, value: Tensor, grad: Tensor, bias: Tensor | None, lse: Tensor, out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `fused` from its log-sum-exp [b, H, Nq]."""
    query, key, value = _side_by_side(query, key, value)
    mask = None if bias is None else bias.expand(query.shape[0], 1, query.shape[2], key.shape[2])
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(  # type: ignore[no-any-return]
        grad, query, key, value, out, lse, 0.0, False, attn_mask=mask
    )


def fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """out [b, H, Nq, D] and the log-sum-exp of its scores [b, H, Nq]; bias [b or 1, H or 1, Nq or 1, Nk]."""
    query, key, value = _side_by_side(query, key, value)
    if bias is not None:
        bias = bias.expand(query.shape[0], -1, query.shape[2], key.shape[2])
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=bias)  # type: ignore[no-any-return]


def _side_by_side(*tensors: Tensor) -> list[Tensor]:
    """The numbers of a token: the kernel reads them as if they lay so, and checks nothing."""
    return [t if t.stride(-1) == 1 else t.contiguous() for t in tensors]


def _extra_scores(query: Tensor, extra_key: Tensor, extra_bias: Tensor | None, scale: float) -> Tensor:
    """In float32 at least: a large score of 16 bits is off by more than softmax bears, and extra keys are few."""
    scores = (query.to(wide(query.dtype)) @ extra_key.to(wide(query.dtype)).transpose(-1, -2)) * scale
    return scores if extra_bias is None else scores + extra_bias


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
