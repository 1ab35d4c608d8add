"""Performer's mixing with a relative position bias: exp(b(j − i)) φ(q)·φ(k) is the kernel in place of φ(q)·φ(k).

exp(q·k + b) = exp(b) exp(q·k), and features follow the second factor alone. Offsets beyond R count as R
(ops/offsets.py), so for a tile of queries the first factor is one number for all keys further back than R and one for
those further ahead: sums over keys serve these, as without a bias. The kernel of the nearer keys is formed. Time and
memory are linear in the length N. Shapes: D = head_dim, M features.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longread.ops.offsets import tile_bias
from longread.ops.tiled import QUERIES_PER_TILE


def favor_by_offset(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    features: Tensor,
    weight: Tensor | None,
    valid: Tensor | None,
    floor: float,
    vector: Tensor,
) -> Tensor:
    """`favor` with a vector [H, 2 R + 1] over offsets, whose numbers are logarithms of factors of the kernel.

    Its gradient too. Only what lies between tiles is kept for the backward pass; a tile's kernel is made anew.
    """
    low, length = query.dtype, query.shape[2]
    reach = min(vector.shape[1] // 2, length - 1)
    with torch.autocast(query.device.type, enabled=False):
        q, k = _features(query, key, features, weight, valid, floor)
        middle = vector.shape[1] // 2
        vector = vector[:, middle - reach : middle + reach + 1].to(torch.promote_types(torch.float32, low))
        vector = vector - vector.detach().amax(1, keepdim=True)  # a factor of all keys, which the normaliser takes out
        value = value if valid is None else value.masked_fill(~valid[:, None, :, None], 0)
        starts = range(0, length, QUERIES_PER_TILE)
        if len(starts) == 1:
            return _tile(q, k, value, vector, None, 0, length)
        ends = [min(length, start + QUERIES_PER_TILE) for start in starts]
        behind = _sums_up_to([max(0, start - reach) for start in starts], k, value)
        ahead = _sums_from([min(length, end + reach) for end in ends], k, value)
        parts = []
        for start, end, back, front in zip(starts, ends, behind, ahead, strict=True):
            given = q, k, value, vector, (back, front), start, end
            parts.append(checkpoint(_tile, *given, use_reentrant=False) if torch.is_grad_enabled() else _tile(*given))
        return torch.cat(parts, dim=1)


def _features(
    query: Tensor, key: Tensor, features: Tensor, weight: Tensor | None, valid: Tensor | None, floor: float
) -> tuple[Tensor, Tensor]:
    """φ of queries and keys, [b, H, N, M] each; zero where there is no token. Exponents are in float32 at least."""
    wide = torch.promote_types(torch.float32, query.dtype)
    root = query.shape[-1] ** -0.25
    q, k = query.to(wide) * root, key.to(wide) * root
    to_features = features.to(wide).mT
    q_log = q @ to_features - q.square().sum(-1, keepdim=True) / 2
    k_log = k @ to_features - k.square().sum(-1, keepdim=True) / 2
    if weight is not None:
        k_log = k_log + weight.to(wide).unsqueeze(-1)
    if valid is not None:
        k_log = k_log.masked_fill(~valid[:, None, :, None], -torch.inf)
    q_phi = torch.exp(q_log - q_log.detach().amax(-1, keepdim=True)) + floor
    k_phi = torch.exp(k_log - k_log.detach().amax((2, 3), keepdim=True)) + floor
    if valid is not None:
        k_phi = k_phi.masked_fill(~valid[:, None, :, None], 0)
    return q_phi.to(query.dtype), k_phi.to(query.dtype)


Sums = tuple[Tensor, Tensor]  # of keys' features with their values [b, H, M, D], and of the features alone [b, H, M, 1]


def _sums(k: Tensor, value: Tensor) -> Sums:
    wide = torch.promote_types(torch.float32, k.dtype)
    return (k.mT @ value).to(wide), k.sum(2, dtype=wide).unsqueeze(-1)


def _sums_up_to(ends: list[int], k: Tensor, value: Tensor) -> list[Sums]:
    """Over the keys before each end; ends do not fall."""
    found = [_sums(k[:, :, : ends[0]], value[:, :, : ends[0]])]
    for before, end in pairwise(ends):
        added = _sums(k[:, :, before:end], value[:, :, before:end])
        found.append((found[-1][0] + added[0], found[-1][1] + added[1]))
    return found


def _sums_from(starts: list[int], k: Tensor, value: Tensor) -> list[Sums]:
    """Over the keys from each start on; starts do not fall."""
    found = [_sums(k[:, :, starts[-1] :], value[:, :, starts[-1] :])]
    for start, behind in zip(starts[-2::-1], starts[:0:-1], strict=True):
        added = _sums(k[:, :, start:behind], value[:, :, start:behind])
        found.append((found[-1][0] + added[0], found[-1][1] + added[1]))
    return found[::-1]


def _tile(
    q: Tensor, k: Tensor, value: Tensor, vector: Tensor, far: tuple[Sums, Sums] | None, q0: int, q1: int
) -> Tensor:
    """[b, q1 - q0, H, D]; far: the sums over the keys further back, and further ahead, than the vector reaches."""
    reach, wide = vector.shape[1] // 2, vector.dtype
    k0, k1 = max(0, q0 - reach), min(k.shape[2], q1 + reach)
    own = q[:, :, q0:q1]
    kernel = (own @ k[:, :, k0:k1].mT).to(wide) * tile_bias(vector, q0, q1, k0, k1).exp()
    total = kernel.sum(-1, keepdim=True)
    mixed = (kernel.to(q.dtype) @ value[:, :, k0:k1]).to(wide)
    for (sums, counts), number in zip(far or (), (vector[:, 0], vector[:, -1]), strict=False):
        factor = number.exp()[:, None, None]
        total = total + factor * (own.to(wide) @ counts)
        mixed = mixed + factor * (own @ sums.to(q.dtype)).to(wide)
    return (mixed / total.clamp(min=torch.finfo(wide).tiny)).to(q.dtype).transpose(1, 2)
