"""Sequences projected along their tokens, each to a fixed length: Linformer's first step.

One product for each sequence, without padding. P: the projected length in use, the smaller of projection_size and the
longest sequence's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from longread.ops.linear import mm


class ProjectSequences(torch.autograd.Function):
    """x [T, hidden], lengths as integers and as a tensor (int64 [B]), S projections [max_length, projection_size]

    -> [B, S, P, hidden], and what a constant is projected to, [B, S, P]. The projections' gradients are gathered in
    one place, where slices of them would each bring a gradient as large as the whole.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, lengths: tuple[int, ...], ends: Tensor, *projections: Tensor
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        used = _side_by_side(projections, max(lengths))  # [longest, S, P]
        most = used.shape[2]
        low, matrix = x.to(dtype), used.flatten(1).to(dtype)
        projected = low.new_zeros(len(lengths), len(projections), most, x.shape[1])
        # Sums over the first N positions, for every N at once.
        sums = used.cumsum(0)[ends - 1]
        sums = sums * (torch.arange(most, device=x.device) < ends[:, None])[:, None]
        for place, own in enumerate(low.split(lengths)):
            for columns, out in _columns(matrix, projected[place], len(own)):
                out.copy_(mm(columns.t(), own))
        ctx.save_for_backward(x, *projections)
        ctx.lengths, ctx.dtype = lengths, dtype
        return projected, sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_sums: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *projections = ctx.saved_tensors
        lengths = ctx.lengths
        used = _side_by_side(projections, max(lengths))
        most = used.shape[2]
        low, matrix = x.to(ctx.dtype), used.flatten(1).to(ctx.dtype)
        d_x = torch.zeros_like(low)
        d_used = torch.zeros_like(used).flatten(1)
        grad = grad.contiguous()
        for place, (own, d_own) in enumerate(zip(low.split(lengths), d_x.split(lengths), strict=True)):
            parts = zip(
                _columns(matrix, grad[place], len(own)), _columns(d_used, grad_sums[place, :, :, None], len(own)),
                strict=True,
            )  # fmt: skip
            for (columns, d_out), (d_columns, d_sum) in parts:
                d_own += mm(columns, d_out)
                d_columns += mm(own, d_out.t())
                d_columns += d_sum.squeeze(-1)
        found = [torch.zeros_like(t) for t in projections]
        for whole, part in zip(found, d_used.unflatten(1, (len(found), most)).unbind(1), strict=True):
            whole[: max(lengths), :most] = part
        return d_x.to(x.dtype), None, None, *found


def _side_by_side(projections: Sequence[Tensor], longest: int) -> Tensor:
    """The part of each projection that sequences of up to `longest` tokens use, [longest, S, P]."""
    most = min(longest, projections[0].shape[1])
    return torch.stack([projection[:longest, :most] for projection in projections], dim=1)


def _columns(matrix: Tensor, projected: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """What a sequence of `length` tokens uses of matrix [longest, S * P], with its part of projected [S, P, x]."""
    count, most, _ = projected.shape
    if length >= most:
        return [(matrix[:length], projected.flatten(0, 1))]
    return [(matrix[:length, at * most : at * most + length], projected[at, :length]) for at in range(count)]
