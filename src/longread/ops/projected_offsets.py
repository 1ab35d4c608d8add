"""Attention to projected keys with a bias by offset: the bias is projected as the keys are.

Linformer's scores are Q (E K)ᵀ, dense attention's scores projected along the keys (Wang et al. 2020, section 4). With a
bias B by offset those are Q Kᵀ + B, so the projection of B is added: number s of query i is Σⱼ E[j, s] b(j − i). As b
is a step function of the offset, that is a few sums over the first rows of E, whatever the length:
b(∞) P[n] − Σ_t (step of b at t) P[i + t], where P[m] is the sum of the first m rows and n the length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longread.ops.eager import is_short
from longread.ops.offsets import biased
from longread.ops.relative_bias import RelativeBias
from longread.ops.tile import QUERIES_PER_TILE, cut, edges_of, joined

GATHERED = 1 << 22  # numbers that one tile gathers at most, if it has more than one query


def sums_of_rows(projection: Tensor) -> Tensor:
    """[N, S] -> [N + 1, S]: row m is the sum of the first m; in float32 at least."""
    wide = torch.promote_types(torch.float32, projection.dtype)
    # In float64: differences of these sums are small beside the sums of a long row.
    return F.pad(projection.double().cumsum(0).to(wide), (0, 0, 1, 0))


def projected_bias(relative: RelativeBias, projection: Tensor, lengths: Tensor) -> Tensor:
    """projection [N, S] of the keys, lengths int64 [b] -> what is added to the scores of all queries, [b, H, N, S]."""
    sums = sums_of_rows(projection)
    starts, steps, last = relative.steps(relative.changes.to(projection.device))
    places = _places(projection.shape[0], starts, lengths)
    return _bias(_of_whole_rows(sums, lengths, last), sums, places, steps)


def attend_projected(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    relative: RelativeBias,
    changes: Tensor,
    projection: Tensor,
    lengths: Tensor,
    *,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """query [b, H, N, D], projected key and value [b, H, S, D] -> [b, N, H, D].

    changes: the relative bias's, on the device; projection [N, S] is the one of the keys; lengths int64 [b]; bias
    [b, 1, 1, S] of the projected keys. What is added to a tile of scores is made anew in the backward pass unless it is
    small.
    """
    count, heads, length, _ = query.shape
    sums = sums_of_rows(projection)
    starts, steps, last = relative.steps(changes)
    whole, places = _of_whole_rows(sums, lengths, last), _places(length, starts, lengths)
    gathered = count * max(heads, len(relative.starts)) * key.shape[2]  # numbers for each query
    size = max(1, min(QUERIES_PER_TILE, GATHERED // gathered))
    spans = []  # of the sums that a tile's queries need
    for q0 in range(0, length, size):
        last_place = min(length, q0 + size) - 1 + relative.starts[-1]
        spans.append((max(0, q0 + relative.starts[0]), min(length, last_place) + 1))
    edges = edges_of(spans, length + 1)
    rows = cut(sums, edges, 0)
    again = torch.is_grad_enabled() and not (len(spans) == 1 and is_short(key.shape[2], query.dtype, True))
    parts = []
    for (first, end), own, at in zip(spans, query.split(size, dim=2), places.split(size, dim=1), strict=True):
        seen = rows[edges.index(first) : edges.index(end)]
        at = (at - first).clamp(min=0)  # below 0 behind a row's end alone
        given = own, key, value, whole, seen, at, steps, bias, dropout
        parts.append(checkpoint(_tile, *given, use_reentrant=False) if again else _tile(*given))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _tile(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    whole: Tensor,
    sums: Sequence[Tensor],
    places: Tensor,
    steps: Tensor,
    bias: Tensor | None,
    dropout: float,
) -> Tensor:
    own = _bias(whole, joined(sums, 0), places, steps)
    own = own if bias is None else own + bias
    return biased(query, key, value, own.to(query.dtype), dropout)


def _of_whole_rows(sums: Tensor, lengths: Tensor, last: Tensor) -> Tensor:
    """b(∞) P[n], [b, H, 1, S]."""
    return sums.index_select(0, lengths)[:, None, None] * last.to(sums.dtype)[:, None, None]


def _places(length: int, starts: Tensor, lengths: Tensor) -> Tensor:
    """i + t within the row, int64 [b, N, T] of its N positions and the T steps."""
    places = torch.arange(length, device=starts.device)[:, None] + starts
    return places.clamp(min=0).minimum(lengths[:, None, None])


def _bias(whole: Tensor, sums: Tensor, places: Tensor, steps: Tensor) -> Tensor:
    """b(∞) P[n] − Σ_t (step of b at t) P[i + t], [b, H, n, S], of queries with these places among the sums."""
    below = F.embedding(places, sums)  # [b, n, T, S]
    with torch.autocast(sums.device.type, enabled=False):
        return whole - torch.einsum("bnts,th->bhns", below, steps.to(sums.dtype))
