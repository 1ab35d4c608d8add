"""Softmax attention whose scores have a number added for the offset of a key from its query (ops/relative_bias.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longread.ops import by_head
from longread.ops.eager import EagerAttention, is_short
from longread.ops.offset_tile import OffsetTile, queries_at_once
from longread.ops.relative_bias import along, tile_bias
from longread.ops.tile import QUERIES_PER_TILE, Tile, cut, edges_of, joined


@dataclass(frozen=True)
class ExtraKeys:
    """Keys that all queries see beside their tile: key, value [b, H, G, D] at positions int64 [b or 1, G], bias as in

    `tiled.attend`.
    """

    key: Tensor
    value: Tensor
    positions: Tensor
    bias: Tensor | None


def attend_by_offset(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    vector: Tensor,
    *,
    tiles: Sequence[Tile] | None = None,
    bias: Tensor | None = None,
    extra: ExtraKeys | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`tiled.attend` of queries and keys of one sequence each, with the vector's numbers on its scores.

    Gradients for the vector too. A tile's scores are made anew in the backward pass unless they are small.
    """
    length, keys = query.shape[2], key.shape[2]
    fused = query.device.type == "cpu" and not dropout and torch.is_grad_enabled()
    if tiles is None:
        side = queries_at_once(keys) if fused else QUERIES_PER_TILE
        tiles = [Tile(q0, min(length, q0 + side), 0, keys, _rows(bias, q0, q0 + side)) for q0 in range(0, length, side)]
    edges = edges_of([(tile.k0, tile.k1) for tile in tiles], keys)
    cut_keys, cut_values = cut(key, edges, 2), cut(value, edges, 2)
    queries = query.split([tile.q1 - tile.q0 for tile in tiles], dim=2)
    parts = []
    for tile, own in zip(tiles, queries, strict=True):
        near = slice(edges.index(tile.k0), edges.index(tile.k1))
        given = own, cut_keys[near], cut_values[near], vector, tile, extra, dropout
        seen = tile.k1 - tile.k0 + (0 if extra is None else extra.key.shape[2])
        if not torch.is_grad_enabled() or (len(tiles) == 1 and is_short(seen, query.dtype, True)):
            parts.append(_tile(*given))
        elif fused:
            parts.append(_fused_tile(*given[:-1]))
        else:
            parts.append(checkpoint(_tile, *given, use_reentrant=False))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _rows(bias: Tensor | None, q0: int, q1: int) -> Tensor | None:
    return bias if bias is None or bias.shape[2] == 1 else bias[:, :, q0:q1]


def _tile(
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    vector: Tensor,
    tile: Tile,
    extra: ExtraKeys | None,
    dropout: float,
) -> Tensor:
    """The tile's queries [b, H, n, D], the parts of its keys and values -> [b, n, H, D]."""
    q0, q1, k0, k1, own = tile
    if not torch.is_grad_enabled():  # a gradient would be summed in the lower precision
        vector = vector.to(q.dtype)
    bias = tile_bias(vector, q0, q1, k0, k1).to(q.dtype).unsqueeze(0)
    bias = bias if own is None else bias + own
    if extra is not None:
        keys, values = (*keys, extra.key), (*values, extra.value)
        beside = _beside(vector, tile, extra, q.dtype)
        count = max(bias.shape[0], beside.shape[0])
        bias = torch.cat([part.expand(count, -1, -1, -1) for part in (bias, beside)], dim=3)
    return biased(q, joined(keys, 2), joined(values, 2), bias, dropout)


def _fused_tile(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], vector: Tensor, tile: Tile, extra: ExtraKeys | None
) -> Tensor:
    """The same, without dropout, where gradients are wanted on a processor."""
    beside = None
    if extra is not None:
        keys, values = (*keys, extra.key), (*values, extra.value)
        beside = _beside(vector, tile, extra, q.dtype)
    return OffsetTile.apply(q, vector, beside, tile, *keys, *values)  # type: ignore[no-untyped-call, no-any-return]


def _beside(vector: Tensor, tile: Tile, extra: ExtraKeys, dtype: torch.dtype) -> Tensor:
    """The bias of a tile's queries for the extra keys, [b or 1, H, n, G]."""
    places = torch.arange(tile.q0, tile.q1, device=vector.device)[:, None]
    beside = along(vector, extra.positions[:, None, :] - places).to(dtype).transpose(0, 1)
    return beside if extra.bias is None else beside + extra.bias


def biased(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float) -> Tensor:
    """Attention with a bias [b or 1, H or 1, Nq, Nk] that may want a gradient -> [b, Nq, H, D]."""
    if query.device.type == "cpu" and (dropout or torch.is_grad_enabled()):
        return EagerAttention.apply(query, key, value, bias, dropout)  # type: ignore[no-untyped-call, no-any-return]
    if not dropout and by_head.is_faster(query, query.shape[2] * key.shape[2]):
        return by_head.attend(query, key, value, [Tile(0, query.shape[2], 0, key.shape[2], bias)])
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout).transpose(1, 2)
