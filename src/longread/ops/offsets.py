"""Softmax attention whose scores have a number added for the offset of a key from its query (relative position bias).

(Shaw et al. 2018; in buckets of offsets that widen with the distance, as in T5: Raffel et al. 2020, section 2.1.) The
numbers are a vector over offsets, [H, 2 R + 1] for -R to R, and offsets beyond R count as R. A tile of scores has the
same number along each diagonal, so that its bias is made from the vector when it is needed, and never kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from longread.ops import by_head
from longread.ops.eager import EagerAttention, is_short
from longread.ops.tile import Tile, cut, edges_of, joined
from longread.ops.tiled import QUERIES_PER_TILE


class RelativeBias(nn.Module):
    """One number for each bucket of offsets and each head: what all layers of a model share."""

    def __init__(self, num_buckets: int, num_attention_heads: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance  # offsets from here on are one bucket on each side
        offsets = torch.arange(-max_distance, max_distance + 1, device="cpu")
        of = buckets(offsets, num_buckets, max_distance)
        places = (of[1:] != of[:-1]).nonzero().squeeze(1) + 1  # where another bucket begins
        # Their offsets, the buckets before and from there on, int64 [3, S]: transformers would empty a buffer.
        self.changes = torch.stack([offsets[places], of[places - 1], of[places]])
        self.starts: list[int] = self.changes[0].tolist()
        self.weight = nn.Parameter(torch.zeros(num_buckets, num_attention_heads))

    def forward(self) -> Tensor:
        """The vector over offsets from -max_distance to max_distance, [H, 2 * max_distance + 1]."""
        reach = self.max_distance
        offsets = torch.arange(-reach, reach + 1, device=self.weight.device)
        return self.weight.index_select(0, buckets(offsets, self.weight.shape[0], reach)).t()

    def steps(self, changes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same as a step function, from `changes` on the device: at which offsets int64 [S] the numbers change, by

        how much [S, H], and the number of every offset from the last of them on [H].
        """
        starts, before, after = changes
        numbers = self.weight.index_select(0, after)
        return starts, numbers - self.weight.index_select(0, before), numbers[-1]


def buckets(offsets: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """int64 of the same shape: half of the buckets for each direction, the first half of those one offset wide.

    The others widen with the logarithm of the offset, up to max_distance.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = offsets.abs()
    # In float32, as published models were trained.
    steps = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    wide = (exact + steps.long()).clamp(max=half - 1)
    return torch.where(offsets > 0, half, 0) + torch.where(distance < exact, distance, wide)


def along(vector: Tensor, offsets: Tensor) -> Tensor:
    """The numbers of offsets int64 [...] -> [H, ...]."""
    reach = vector.shape[1] // 2
    return vector[:, offsets.clamp(-reach, reach) + reach]


def tile_bias(vector: Tensor, q0: int, q1: int, k0: int, k1: int) -> Tensor:
    """Of queries [q0, q1) and keys [k0, k1), [H, q1 - q0, k1 - k0]."""
    offsets = torch.arange(k0 - q1 + 1, k1 - q0, device=vector.device)  # from the last query to the first
    return along(vector, offsets).unfold(1, k1 - k0, 1).flip(1)


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
    if tiles is None:
        starts = range(0, length, QUERIES_PER_TILE)
        tiles = [
            Tile(q0, min(length, q0 + QUERIES_PER_TILE), 0, keys, _rows(bias, q0, q0 + QUERIES_PER_TILE))
            for q0 in starts
        ]
    edges = edges_of([(tile.k0, tile.k1) for tile in tiles], keys)
    cut_keys, cut_values = cut(key, edges, 2), cut(value, edges, 2)
    queries = query.split([tile.q1 - tile.q0 for tile in tiles], dim=2)
    parts = []
    for tile, own in zip(tiles, queries, strict=True):
        near = slice(edges.index(tile.k0), edges.index(tile.k1))
        given = own, cut_keys[near], cut_values[near], vector, tile, extra, dropout
        seen = tile.k1 - tile.k0 + (0 if extra is None else extra.key.shape[2])
        if torch.is_grad_enabled() and not (len(tiles) == 1 and is_short(seen, query.dtype, True)):
            parts.append(checkpoint(_tile, *given, use_reentrant=False))
        else:
            parts.append(_tile(*given))
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
    bias = tile_bias(vector, q0, q1, k0, k1).to(q.dtype).unsqueeze(0)
    bias = bias if own is None else bias + own
    if extra is not None:
        keys, values = (*keys, extra.key), (*values, extra.value)
        places = torch.arange(q0, q1, device=q.device)[:, None]
        beside = along(vector, extra.positions[:, None, :] - places).to(q.dtype).transpose(0, 1)
        beside = beside if extra.bias is None else beside + extra.bias
        count = max(bias.shape[0], beside.shape[0])
        bias = torch.cat([part.expand(count, -1, -1, -1) for part in (bias, beside)], dim=3)
    return biased(q, joined(keys, 2), joined(values, 2), bias, dropout)


def biased(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float) -> Tensor:
    """Attention with a bias [b or 1, H or 1, Nq, Nk] that may want a gradient -> [b, Nq, H, D]."""
    if query.device.type == "cpu" and (dropout or torch.is_grad_enabled()):
        return EagerAttention.apply(query, key, value, bias, dropout)  # type: ignore[no-untyped-call, no-any-return]
    if not dropout and by_head.is_faster(query, query.shape[2] * key.shape[2]):
        return by_head.attend(query, key, value, [Tile(0, query.shape[2], 0, key.shape[2], bias)])
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout).transpose(1, 2)
