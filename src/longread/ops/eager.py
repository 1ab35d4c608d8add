"""Softmax attention by eager products, for short sequences: their matrices are small, and three products and a softmax
beat a fused kernel that recomputes them in its backward pass (docs/log.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from longread.ops.dropout import factors_like

# Keys up to which the eager products were faster, with gradients and without (docs/log.md). With gradients the matrix
# is kept for the backward pass: at most this many numbers for each token and head.
LONGEST_TRAINED = {torch.bfloat16: 256, torch.float32: 128, torch.float64: 128}
LONGEST_INFERRED = 64


def is_short(keys: int, dtype: torch.dtype, training: bool) -> bool:
    """Whether sequences of so many keys are attended to by eager products."""
    return keys <= (longest_kept(dtype) if training else LONGEST_INFERRED)


def longest_kept(dtype: torch.dtype) -> int:
    """Keys up to which the eager products' matrix may be kept for the backward pass."""
    return LONGEST_TRAINED.get(dtype, 0)


class EagerAttention(torch.autograd.Function):
    """query [b, H, Nq, D], key, value [b, H, Nk, D], bias [b or 1, H or 1, Nq or 1, Nk] or None -> [b, Nq, H, D].

    Of the attention probabilities, `dropout` are dropped behind the softmax, as in Vaswani et al.'s code and BERT.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0
    ) -> Tensor:
        b, heads, length, dim = query.shape
        # One copy each into [b * H, N, D]: a batched product of anything else makes its own.
        q, k, v = (tensor.reshape(b * heads, -1, dim) for tensor in (query, key, value))
        probabilities = probabilities_of(q, k, bias, b)
        factors = factors_like(probabilities, dropout) if dropout else None
        ctx.save_for_backward(q, k, v, probabilities, factors)
        ctx.count = b
        ctx.bias_shape = bias.shape if bias is not None and ctx.needs_input_grad[3] else None
        used = probabilities if factors is None else probabilities * factors
        return torch.bmm(used, v).view(b, heads, length, dim).transpose(1, 2)

    @staticmethod
    @once_differentiable  # kept probabilities are numbers, not a function of query and key
    def backward(ctx: Any, grad_transposed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, probabilities, factors = ctx.saved_tensors
        grad = grad_transposed.transpose(1, 2).to(q.dtype).reshape(q.shape)
        d_scores = gradient_of_scores(v, probabilities, grad, factors)
        found = gradients(q, k, v, probabilities, grad, factors, d_scores)
        d_bias = None
        if ctx.bias_shape is not None:
            d_bias = d_scores.unflatten(0, (ctx.count, -1)).sum_to_size(ctx.bias_shape)
        return (*(d.unflatten(0, (ctx.count, -1)) for d in found), d_bias, None)


def probabilities_of(q: Tensor, k: Tensor, bias: Tensor | None, count: int) -> Tensor:
    """Softmax of scaled scores: q [b * H, Nq, D], k [b * H, Nk, D], bias as above -> [b * H, Nq, Nk]; b is `count`."""
    scale, keys = q.shape[-1] ** -0.5, k.transpose(1, 2)
    added = None
    if bias is not None:
        added = bias.expand(count, q.shape[0] // count, -1, -1).reshape(q.shape[0], -1, k.shape[1])
    scores = _scores(q, keys, added, scale)
    if scores.dtype in (torch.bfloat16, torch.float16):
        # Of 8 bits, a score near 100 is off by up to a quarter, and exp of it by as much. Without the largest score
        # of its query, which softmax does not see, what counts is near 0 when it is rounded.
        top = scores.amax(-1, keepdim=True)
        scores = _scores(q, keys, -top if added is None else added - top, scale)
    return torch.softmax(scores, -1)


def _scores(q: Tensor, keys: Tensor, added: Tensor | None, scale: float) -> Tensor:
    if added is None:
        return torch.baddbmm(q.new_empty(()), q, keys, beta=0, alpha=scale)
    return torch.baddbmm(added, q, keys, alpha=scale)


def gradient_of_scores(v: Tensor, probabilities: Tensor, grad: Tensor, factors: Tensor | None = None) -> Tensor:
    """Of the scaled scores [b * H, Nq, Nk], from the gradient [b * H, Nq, D] of (probabilities * factors) @ v."""
    d_probabilities = torch.bmm(grad, v.transpose(1, 2))
    if factors is not None:
        d_probabilities *= factors
    return torch._softmax_backward_data(d_probabilities, probabilities, -1, probabilities.dtype)


def gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    probabilities: Tensor,
    grad: Tensor,
    factors: Tensor | None = None,
    d_scores: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of q, k and v, from the same gradient; d_scores: as above, where it is known already."""
    scale = q.shape[-1] ** -0.5
    if d_scores is None:
        d_scores = gradient_of_scores(v, probabilities, grad, factors)
    used = probabilities if factors is None else probabilities * factors
    nothing = q.new_empty(())
    d_q = torch.baddbmm(nothing, d_scores, k, beta=0, alpha=scale)
    d_k = torch.baddbmm(nothing, d_scores.transpose(1, 2), q, beta=0, alpha=scale)
    return d_q, d_k, torch.bmm(used.transpose(1, 2), grad)
