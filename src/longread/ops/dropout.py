"""Dropout whose random numbers do not cost more than the layer it follows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 2**16


class Dropout(nn.Module):
    """Inverted dropout, as torch's. The rate is kept to 1 / 65,536.

    torch draws a CPU's random numbers one after the other; in a small encoder that is an eighth of a training step
    (docs/log.md). Here one number from torch's generator, so from the state that a checkpoint keeps, seeds a fast
    generator for each mask.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.rate)
        return x * factors_like(x, self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def factors_like(x: Tensor, rate: float) -> Tensor:
    """Of a CPU tensor's shape: 0 with probability `rate`, else 1 / (1 - rate). The seed is torch's generator's next."""
    seed = int(torch.randint(2**62, (), dtype=torch.int64).numpy())
    words = np.random.SFC64(seed).random_raw(-(-x.numel() // 4)).view(np.uint16)
    dropped = round(rate * LEVELS)
    return _factors(words[: x.numel()] >= dropped, LEVELS / (LEVELS - dropped), x.dtype).view(x.shape)


def _factors(kept: np.ndarray, scale: float, dtype: torch.dtype) -> Tensor:
    """`scale` where kept, else 0. The bits of a bfloat16 are set by integers: torch's cast from bool is slow."""
    if dtype == torch.bfloat16:
        bits = torch.full((), scale, dtype=dtype).view(torch.int16).numpy()
        return torch.from_numpy(kept * bits).view(dtype)
    if dtype == torch.float32:
        return torch.from_numpy(kept * np.float32(scale))
    return torch.from_numpy(kept).to(dtype) * scale
