"""Rotary positions (Su et al. 2021, section 3.2.2): query and key are turned by angles that grow with their position.

A head of D numbers is D / 2 pairs, number i with number i + D / 2; pair i of the token at position p is turned by
p * base^(-2i / D). A score then depends on positions through their difference alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def cosines_and_sines(positions: Tensor, dim: int, base: float) -> tuple[Tensor, Tensor]:
    """positions int64 [...] -> cosines and sines of all angles, float32 [..., D / 2] each.

    In float32 throughout, as published models were trained: at position 8,000 an exact angle is some 1e-4 away.
    """
    frequencies = 1.0 / (base ** (torch.arange(0, dim, 2, device=positions.device).float() / dim))
    angles = positions.unsqueeze(-1).float() * frequencies
    return angles.cos(), angles.sin()


def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """x [..., D] with its pairs turned, in operators that a graph knows. cosines, sines: broadcast to [..., D / 2]."""
    one, two = x.chunk(2, -1)
    return torch.cat([one * cosines - two * sines, two * cosines + one * sines], -1).to(x.dtype)


class Turn(torch.autograd.Function):
    """`turn` for training: nothing is kept but the angles, since the gradient is turned back by the same."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(cosines, sines)
        return _turned(x, cosines, sines, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cosines, sines = ctx.saved_tensors
        return _turned(grad, cosines, sines, -1), None, None


def turned(x: Tensor, cosines: Tensor, sines: Tensor, direction: int = 1) -> Tensor:
    """`turn` of numbers as wide as the angles; direction -1: back."""
    one, two = x.chunk(2, -1)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first, second = out.chunk(2, -1)
    torch.mul(one, cosines, out=first).addcmul_(two, sines, value=-direction)
    torch.mul(two, cosines, out=second).addcmul_(one, sines, value=direction)
    return out


def _turned(x: Tensor, cosines: Tensor, sines: Tensor, direction: int) -> Tensor:
    wide = torch.promote_types(x.dtype, cosines.dtype)
    return turned(x.to(wide), cosines.to(wide), sines.to(wide), direction).to(x.dtype)
