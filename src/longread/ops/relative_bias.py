"""Relative position bias: a number that is added to a score for the offset of its key from its query.

(Shaw et al. 2018; in buckets of offsets that widen with the distance, as in T5: Raffel et al. 2020, section 2.1.) The
numbers are a vector over offsets, [H, 2 R + 1] for -R to R, and offsets beyond R count as R. A tile of scores has the
same number along each diagonal, so that its bias is made from the vector when it is needed, and never kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RelativeBias(nn.Module):
    """One number for each bucket of offsets and each head: what all layers of a model share."""

    def __init__(self, num_buckets: int, num_attention_heads: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance  # offsets from here on are one bucket on each side
        offsets = torch.arange(-max_distance, max_distance + 1, device="cpu")
        of = buckets(offsets, num_buckets, max_distance)
        places = (of[1:] != of[:-1]).nonzero().squeeze(1) + 1  # where another bucket begins
        # Their offsets, the buckets before and from there on, int64 [3, S]: transformers would empty a buffer.
        self.changes = torch.stack([offsets[places], of[places - 1], of[places]])
        self.starts: list[int] = self.changes[0].tolist()
        self.weight = nn.Parameter(torch.zeros(num_buckets, num_attention_heads))

    def forward(self) -> Tensor:
        """The vector over offsets from -max_distance to max_distance, [H, 2 * max_distance + 1]."""
        reach = self.max_distance
        offsets = torch.arange(-reach, reach + 1, device=self.weight.device)
        return self.weight.index_select(0, buckets(offsets, self.weight.shape[0], reach)).t()

    def steps(self, changes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same as a step function, from `changes` on the device: at which offsets int64 [S] the numbers change, by

        how much [S, H], and the number of every offset from the last of them on [H].
        """
        starts, before, after = changes
        numbers = self.weight.index_select(0, after)
        return starts, numbers - self.weight.index_select(0, before), numbers[-1]


def buckets(offsets: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """int64 of the same shape: half of the buckets for each direction, the first half of those one offset wide.

    The others widen with the logarithm of the offset, up to max_distance.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = offsets.abs()
    # In float32, as published models were trained.
    steps = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    wide = (exact + steps.long()).clamp(max=half - 1)
    return torch.where(offsets > 0, half, 0) + torch.where(distance < exact, distance, wide)


def along(vector: Tensor, offsets: Tensor) -> Tensor:
    """The numbers of offsets int64 [...] -> [H, ...]."""
    reach = vector.shape[1] // 2
    return vector[:, offsets.clamp(-reach, reach) + reach]


def tile_bias(vector: Tensor, q0: int, q1: int, k0: int, k1: int) -> Tensor:
    """Of queries [q0, q1) and keys [k0, k1), [H, q1 - q0, k1 - k0]."""
    offsets = torch.arange(k0 - q1 + 1, k1 - q0, device=vector.device)  # from the last query to the first
    numbers = along(vector, offsets).unfold(1, k1 - k0, 1)
    # Not flipped: that is laid out by columns, and whoever adds it to scores goes through one of the two the wrong way.
    return numbers.index_select(1, torch.arange(q1 - q0 - 1, -1, -1, device=vector.device))
