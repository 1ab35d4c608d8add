"""Performer's mixing in one pass: features, sums over keys and normaliser, with gradients from what is kept.

Shapes: G matrices (sequences of a group times heads), N tokens, D = head_dim, M features. The features are
φ(x) = e(x) + floor with e(x) = exp(w·x' − |x'|²/2 − m), x' = x / D^¼; the floor is never added to the [G, N, M] tensors
but enters the products as a sum. A query's own |x'|²/2 is left out beside its maximum m: the normaliser takes it out.
A key may have a log-weight of its own, added to the exponent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def favor(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    features: Tensor,
    weight: Tensor | None,
    valid: Tensor | None,
    floor: float,
) -> Tensor:
    """query, key, value [b, H, N, D], features [M, D] or [H, M, D], weight [b, H, N] (None: zero), valid bool [b, N]

    (None: all slots hold tokens) -> [b, N, H, D]. Exponents and the normaliser are in float32 at least, whatever the
    type of the products.
    """
    with torch.autocast(query.device.type, enabled=False):
        return _Favor.apply(query, key, value, features, weight, valid, floor)  # type: ignore[no-untyped-call, no-any-return]


class _Favor(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        features: Tensor,
        weight: Tensor | None,
        valid: Tensor | None,
        floor: float,
    ) -> Tensor:
        b, heads, length, dim = query.shape
        q, k, v = (t.reshape(b * heads, length, dim) for t in (query, key, value))
        wide = torch.promote_types(torch.float32, q.dtype)
        weights = features.to(wide) * dim**-0.25
        if weights.dim() == 3:
            weights = weights.repeat(b, 1, 1)  # [G, M, D]
        exponent = q.to(wide) @ weights.mT
        e_q = exponent.sub_(exponent.amax(-1, keepdim=True)).exp_().to(q.dtype)
        exponent = k.to(wide) @ weights.mT
        norm = k.to(wide).square().sum(-1, keepdim=True) * (0.5 * dim**-0.5)
        if weight is not None:
            norm.sub_(weight.reshape(b * heads, length, 1))
        highest = exponent.amax(-1, keepdim=True) - norm  # [G, N, 1]
        if valid is not None:
            empty = ~valid.repeat_interleave(heads, 0).unsqueeze(-1)
            norm = norm.masked_fill(empty, torch.inf)  # no features, not even the floor: its values are zero
            highest = highest.masked_fill(empty, -torch.inf)
            v = v.masked_fill(empty, 0)
        e_k = exponent.sub_(norm + highest.amax(1, keepdim=True)).exp_().to(q.dtype)
        tokens = _tokens(valid, heads, length, wide, q.device)
        sums = (e_k.transpose(1, 2) @ v).add_(v.sum(1, keepdim=True), alpha=floor)  # [G, M, D]
        normaliser = (e_k.sum(1, dtype=wide) + floor * tokens).unsqueeze(-1)  # [G, M, 1]
        total = e_q.to(wide) @ normaliser + floor * normaliser.sum(1, keepdim=True)  # [G, N, 1]
        out = (e_q @ sums).add_(sums.sum(1, keepdim=True), alpha=floor).to(wide).div_(total)
        ctx.save_for_backward(q, k, v, e_q, e_k, sums, normaliser, total, out, weights)
        ctx.shape, ctx.floor = (b, heads), floor
        return out.to(q.dtype).unflatten(0, (b, heads)).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad_transposed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, e_q, e_k, sums, normaliser, total, out, weights = ctx.saved_tensors
        floor, wide, low = ctx.floor, total.dtype, e_q.dtype
        scale = k.shape[-1] ** -0.5
        with torch.autocast(k.device.type, enabled=False):
            grad = grad_transposed.transpose(1, 2).reshape(out.shape).to(wide)
            d_total = -(grad * out).sum(-1, keepdim=True).div_(total)  # [G, N, 1]
            d_num = (grad / total).to(low)
            d_sums = e_q.transpose(1, 2) @ d_num
            d_sums.add_(d_num.sum(1, keepdim=True), alpha=floor)  # [G, M, D]
            d_normaliser = e_q.transpose(1, 2).to(wide) @ d_total + floor * d_total.sum(1, keepdim=True)  # [G, M, 1]
            d_e = (d_num @ sums.transpose(1, 2)).to(wide)
            d_e.addcmul_(d_total, normaliser.transpose(1, 2))
            d_e.mul_(e_q)
            # Beside the floor, a query's |x'|²/2 is no mere factor: it has a gradient, if a small one.
            d_query = (d_e @ weights).addcmul_(q.to(wide), d_e.sum(-1, keepdim=True), value=-scale).to(low)
            d_features = d_e.mT @ q.to(wide) if ctx.needs_input_grad[3] else None
            d_value = (e_k @ d_sums).add_(d_sums.sum(1, keepdim=True), alpha=floor)
            d_e = (v @ d_sums.transpose(1, 2)).to(wide).add_(d_normaliser.transpose(1, 2))
            d_e.mul_(e_k)
            d_weight = d_e.sum(-1, keepdim=True)
            d_key = (d_e @ weights).addcmul_(k.to(wide), d_weight, value=-scale).to(low)
            if d_features is not None:
                d_features = (d_features + d_e.mT @ k.to(wide)).mul_(scale**0.5).unflatten(0, ctx.shape).sum(0)
                d_features = d_features if weights.dim() == 3 else d_features.sum(0)
        own = (d.unflatten(0, ctx.shape) for d in (d_query, d_key, d_value))
        d_weight = d_weight.squeeze(-1).unflatten(0, ctx.shape) if ctx.needs_input_grad[4] else None
        return (*own, d_features, d_weight, None, None)


def _tokens(valid: Tensor | None, heads: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The number of tokens of each matrix, [G, 1], or [1] where all have as many."""
    if valid is None:
        return torch.full((1,), float(length), dtype=dtype, device=device)
    return valid.sum(1).repeat_interleave(heads).to(dtype).unsqueeze(-1)
