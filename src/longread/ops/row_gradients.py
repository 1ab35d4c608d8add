"""The word embedding's gradient, kept in one buffer of which a step touches only the rows of the tokens it saw.

autograd makes a gradient as large as the table for every micro-batch and clears it first: on short rows that is more
memory traffic than the layers' (docs/log.md). The optimizer sees the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor) -> Tensor:  # type: ignore[override]
        ctx.weight, ctx.tokens = weight, tokens
        return weight.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:  # type: ignore[override]
        ctx.weight.grad.index_add_(0, ctx.tokens, grad)
        return None, None


class RowGradients:
    """Stands in for `nn.Embedding.__call__` in a training loop: tokens int64 [T] -> [T, hidden]."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._seen: list[Tensor] = []
        self._rows: Tensor | None = None
        weight.grad = torch.zeros_like(weight)

    def __call__(self, tokens: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self._seen.append(tokens)
            self._rows = None
        return _Lookup.apply(self.weight, tokens)  # type: ignore[no-untyped-call, no-any-return]

    @property
    def rows(self) -> Tensor:
        """int64: the rows of the table that may have a gradient."""
        if self._rows is None:
            self._rows = torch.unique(torch.cat(self._seen)) if self._seen else torch.empty(0, dtype=torch.long)
        return self._rows

    def see(self, rows: Tensor) -> None:
        """int64, sorted and each once: these rows, among them all that were seen here, may have a gradient."""
        self._rows = rows

    def gradient(self) -> Tensor:
        """Of `rows`, a copy [rows, hidden]."""
        assert self.weight.grad is not None
        return self.weight.grad.index_select(0, self.rows)

    def replace(self, gradient: Tensor) -> None:
        """Puts the gradient [rows, hidden] of `rows` in the place of what they had."""
        assert self.weight.grad is not None
        self.weight.grad.index_copy_(0, self.rows, gradient)

    def clear(self) -> None:
        """Zero again, for the next step."""
        assert self.weight.grad is not None
        rows = self.rows
        self.weight.grad.index_copy_(0, rows, self.weight.new_zeros(len(rows), self.weight.shape[1]))
        self._seen, self._rows = [], None


@torch.no_grad()
def clip(
    parameters: Sequence[Tensor],
    largest: float,
    table: RowGradients | None,
    summed: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Scales the gradients to a norm of at most `largest`, as torch's clip_grad_norm_; the table's by its rows.

    Returns the norm that they had: not finite where one of them is not. summed: where gradients are in
    shards, given the square of the norm of this process's, that of all.
    """
    grads = [p.grad for p in parameters if p.grad is not None and (table is None or p is not table.weight)]
    if summed is not None:
        grads = [grad.to_local() for grad in grads]  # type: ignore[attr-defined]
    norms = list(torch._foreach_norm(grads))
    own = None
    if table is not None:
        own = table.gradient()
        norms.append(torch.linalg.vector_norm(own))
    if not norms:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if summed is not None:
        norm = summed(norm.square()).sqrt()
    factor = largest / (norm + 1e-6)
    if factor < 1:
        torch._foreach_mul_(grads, factor)
        if table is not None and own is not None:
            table.replace(own.mul_(factor))
    return norm
