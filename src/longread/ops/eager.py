"""Softmax attention by explicit products, for short rows: their matrices are small, and three products and a softmax
beat a fused kernel that recomputes them in its backward pass (LOG.md, "short rows").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from longread.ops.dropout import factors_like

# Keys up to which the explicit products were faster, with gradients and without (LOG.md). With gradients the matrix is
# kept for the backward pass: at most this many numbers for each token and head.
LONGEST_TRAINED = {torch.bfloat16: 256, torch.float32: 128, torch.float64: 128}
LONGEST_INFERRED = 64


def is_short(keys: int, dtype: torch.dtype, training: bool) -> bool:
    """Whether rows of so many keys are attended to by explicit products."""
    return keys <= (longest_kept(dtype) if training else LONGEST_INFERRED)


def longest_kept(dtype: torch.dtype) -> int:
    """Keys up to which the explicit products' matrix may be kept for the backward pass."""
    return LONGEST_TRAINED.get(dtype, 0)


class EagerAttention(torch.autograd.Function):
    """query [b, H, Nq, D], key, value [b, H, Nk, D], bias [b or 1, H or 1, Nq or 1, Nk] or None -> [b, Nq, H, D].

    Of the shares, `dropout` are dropped behind the softmax, as in Vaswani et al.'s code and BERT.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0
    ) -> Tensor:
        b, heads, length, dim = query.shape
        # One copy each into [b * H, N, D]: a batched product of anything else makes its own.
        q, k, v = (tensor.reshape(b * heads, -1, dim) for tensor in (query, key, value))
        shares = shares_of(q, k, bias, b)
        factors = factors_like(shares, dropout) if dropout else None
        ctx.save_for_backward(q, k, v, shares, factors)
        ctx.rows = b
        used = shares if factors is None else shares * factors
        return torch.bmm(used, v).view(b, heads, length, dim).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad_transposed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, shares, factors = ctx.saved_tensors
        grad = grad_transposed.transpose(1, 2).to(q.dtype).reshape(q.shape)
        found = gradients(q, k, v, shares, grad, factors)
        return (*(d.unflatten(0, (ctx.rows, -1)) for d in found), None, None)


def shares_of(q: Tensor, k: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    """Softmax of scaled scores: q [b * H, Nq, D], k [b * H, Nk, D], bias as above -> [b * H, Nq, Nk]; b is `rows`."""
    scale = q.shape[-1] ** -0.5
    if bias is None:
        scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
    else:
        added = bias.expand(rows, q.shape[0] // rows, -1, -1).reshape(q.shape[0], -1, k.shape[1])
        scores = torch.baddbmm(added, q, k.transpose(1, 2), alpha=scale)
    return torch.softmax(scores, -1)


def gradients(
    q: Tensor, k: Tensor, v: Tensor, shares: Tensor, grad: Tensor, factors: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of q, k and v, from the gradient [b * H, Nq, D] of (shares * factors) @ v."""
    scale = q.shape[-1] ** -0.5
    d_shares = torch.bmm(grad, v.transpose(1, 2))
    used = shares
    if factors is not None:
        d_shares *= factors
        used = shares * factors
    d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
    nothing = q.new_empty(())
    d_q = torch.baddbmm(nothing, d_scores, k, beta=0, alpha=scale)
    d_k = torch.baddbmm(nothing, d_scores.transpose(1, 2), q, beta=0, alpha=scale)
    return d_q, d_k, torch.bmm(used.transpose(1, 2), grad)
