"""Performer's mixing with a relative position bias: exp(b(j − i)) φ(q)·φ(k) is the kernel in place of φ(q)·φ(k).

exp(q·k + b) = exp(b) exp(q·k), and features follow the second factor alone. Offsets beyond R count as R
(ops/relative_bias.py), so for a tile of queries the first factor is one number for all keys further back than R and
one for those further ahead: sums over keys serve these, as without a bias. The kernel of the nearer keys is formed.
Time and memory are linear in the length N. Shapes: D = head_dim, M features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longread.ops.relative_bias import tile_bias
from longread.ops.tile import QUERIES_PER_TILE, cut, edges_of, joined


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

    Its gradient too. A tile's kernel is made anew in the backward pass where there are several.
    """
    low, length = query.dtype, query.shape[2]
    middle, reach = vector.shape[1] // 2, min(vector.shape[1] // 2, length - 1)
    with torch.autocast(query.device.type, enabled=False):
        q, k = _features(query, key, features, weight, valid, floor)
        vector = vector[:, middle - reach : middle + reach + 1].to(torch.promote_types(torch.float32, low))
        value = value if valid is None else value.masked_fill(~valid[:, None, :, None], 0)
        if length <= QUERIES_PER_TILE:
            return _tile(q, [k], [value], vector, (None, None), valid, 0, 0)
        near = near_keys(length, reach)
        edges = edges_of(near, length)
        keys, values = cut(k, edges, 2), cut(value, edges, 2)
        sums = [_sums(*part) for part in zip(keys, values, strict=True)]
        behind = [None, *accumulate(sums, _both)]
        ahead = [None, *accumulate(reversed(sums), _both)][::-1]
        parts = []
        for number, (own, (k0, k1)) in enumerate(zip(q.split(QUERIES_PER_TILE, dim=2), near, strict=True)):
            first, last = edges.index(k0), edges.index(k1)
            far = behind[first], ahead[last]
            given = own, keys[first:last], values[first:last], vector, far, None, number * QUERIES_PER_TILE, k0
            parts.append(checkpoint(_tile, *given, use_reentrant=False) if torch.is_grad_enabled() else _tile(*given))
        return torch.cat(parts, dim=1)


def near_keys(length: int, reach: int) -> list[tuple[int, int]]:
    """For each tile of queries the span [start, end) of the keys that some of them reach."""
    starts = range(0, length, QUERIES_PER_TILE)
    return [(max(0, start - reach), min(length, start + QUERIES_PER_TILE + reach)) for start in starts]


def flops(length: int, reach: int, num_features: int, head_dim: int) -> float:
    """Of a head's products of features with each other and with values: those of near keys, and sums over all keys."""
    near = near_keys(length, reach)
    pairs = sum(min(QUERIES_PER_TILE, length - QUERIES_PER_TILE * n) * (end - k0) for n, (k0, end) in enumerate(near))
    sums = 4.0 * length * num_features * head_dim if len(near) > 1 else 0.0
    return sums + 2.0 * pairs * (num_features + head_dim)


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


def _both(some: Sums, others: Sums) -> Sums:
    return some[0] + others[0], some[1] + others[1]


def _tile(
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    vector: Tensor,
    far: tuple[Sums | None, Sums | None],
    valid: Tensor | None,
    q0: int,
    k0: int,
) -> Tensor:
    """q [b, H, n, M] from position q0 on, parts of the near keys from k0 on -> [b, n, H, D].

    far: the sums over the keys further back, and further ahead, than the vector reaches. valid bool [b, near keys].
    """
    k, value, wide = joined(keys, 2), joined(values, 2), vector.dtype
    bias = tile_bias(vector, q0, q0 + q.shape[2], k0, k0 + k.shape[2])
    bias = bias if valid is None else bias.masked_fill(~valid[:, None, None], -torch.inf)
    beyond = [
        (sums, number[:, None, None])
        for sums, number in zip(far, (vector[:, 0], vector[:, -1]), strict=True)
        if sums is not None
    ]
    # What all factors of a query have in common, the normaliser takes out: divided by the largest, none overflows
    # and not all vanish.
    largest = bias.detach().amax(-1, keepdim=True)
    for _, number in beyond:
        largest = largest.maximum(number.detach())
    kernel = (q @ k.mT).to(wide) * (bias - largest).exp()
    total = kernel.sum(-1, keepdim=True)
    mixed = (kernel.to(q.dtype) @ value).to(wide)
    for sums, number in beyond:
        factor = (number - largest).exp()
        total = total + factor * (q.to(wide) @ sums[1])
        mixed = mixed + factor * (q @ sums[0].to(q.dtype)).to(wide)
    return (mixed / total).to(q.dtype).transpose(1, 2)
