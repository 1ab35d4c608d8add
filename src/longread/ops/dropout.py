"""Dropout whose random numbers do not cost more than the layer it follows, and do not depend on how a batch is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 2**16
DROPS_PER_WORD = 4  # a word of 64 bits has four numbers of 16


@dataclass(frozen=True)
class Noise:
    """Where a micro-batch lies in the batch of its training step.

    Dropout draws the numbers of these places, so that a token's are the same in whatever micro-batch, and on whatever
    process, it is computed.
    """

    seed: int
    step: int
    first_token: int  # tokens of the batch in front of this micro-batch
    first_sequence: int  # and sequences that hold tokens

    def factors(self, x: Tensor, rate: float, site: int, first: int) -> Tensor:
        """As `factors_like`, of x [rows, width] whose rows are the batch's from `first` on; `site`: which dropout."""
        width = x.shape[1]
        words = -(-width // DROPS_PER_WORD)
        bits = np.random.PCG64([self.seed, self.step, site]).advance(first * words)  # type: ignore[arg-type]
        drawn = bits.random_raw(x.shape[0] * words).view(np.uint16).reshape(x.shape[0], -1)[:, :width]
        return _factors(drawn, rate, x.dtype)

    def factors_of(self, rows: Sequence[int], x: Tensor, rate: float, site: int) -> Tensor:
        """As `factors`, of x [B, width] whose rows are these of the micro-batch's tokens, in rising order."""
        words = -(-x.shape[1] // DROPS_PER_WORD)
        bits, drawn, at = np.random.PCG64([self.seed, self.step, site]), [], 0  # type: ignore[arg-type]
        for row in rows:
            ahead = (self.first_token + row) * words
            drawn.append(bits.advance(ahead - at).random_raw(words))
            at = ahead + words
        return _factors(np.stack(drawn).view(np.uint16)[:, : x.shape[1]], rate, x.dtype)

    def seed_generators(self) -> None:
        """What is not drawn by place, attention dropout and all dropout of an accelerator, is a micro-batch's own."""
        mixed = np.random.SeedSequence([self.seed, self.step, self.first_token]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(mixed) % 2**63)


class Dropout(nn.Module):
    """Inverted dropout, as torch's. The rate is kept to 1 / 65,536.

    torch draws a CPU's random numbers one after the other; in a small encoder that is an eighth of a training step
    (docs/log.md). numpy's generators are faster. Where nobody says which noise, one number from torch's generator
    seeds each mask.
    """

    site = 0  # which of the model's dropouts this is

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, x: Tensor, noise: Noise | None = None, *, sequences: bool = False, rows: Sequence[int] | None = None
    ) -> Tensor:
        """x of any shape; with `noise` [T, width], the micro-batch's tokens, or with `sequences` [B, width].

        rows: x has these of the tokens alone, in rising order.
        """
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.rate)
        if noise is None:
            return x * factors_like(x, self.rate)
        if rows is not None:
            return x * noise.factors_of(rows, x, self.rate, self.site)
        first = noise.first_sequence if sequences else noise.first_token
        return x * noise.factors(x, self.rate, self.site, first)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def factors_like(x: Tensor, rate: float) -> Tensor:
    """Of a CPU tensor's shape: 0 with probability `rate`, else 1 / (1 - rate). The seed is torch's generator's next."""
    seed = int(torch.randint(2**62, (), dtype=torch.int64).numpy())
    words = np.random.SFC64(seed).random_raw(-(-x.numel() // DROPS_PER_WORD)).view(np.uint16)
    return _factors(words[: x.numel()], rate, x.dtype).view(x.shape)


def _factors(drawn: np.ndarray, rate: float, dtype: torch.dtype) -> Tensor:
    """Of numbers from 0 to LEVELS - 1. The bits of a bfloat16 are set by integers: torch's cast from bool is slow."""
    dropped = round(rate * LEVELS)
    kept, scale = drawn >= dropped, LEVELS / (LEVELS - dropped)
    if dtype == torch.bfloat16:
        bits = torch.full((), scale, dtype=dtype).view(torch.int16).numpy()
        return torch.from_numpy(kept * bits).view(dtype)
    if dtype == torch.float32:
        return torch.from_numpy(kept * np.float32(scale))
    return torch.from_numpy(kept).to(dtype) * scale
