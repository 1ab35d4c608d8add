"""Which blocks of a sequence attend to which, and the index and bias tensors that say so to the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longread.ops.packed import Group, bias_from, to_device


@dataclass(frozen=True)
class BlockPattern:
    """Blocks of `size` tokens in H heads: the first and last see all, each other its neighbours and random ones.

    draw: seed and layer, which decide the random blocks; None: each of them is the first block.
    """

    size: int
    num_random: int
    heads: int
    draw: tuple[int, int] | None

    @property
    def longest_full(self) -> int:
        """Tokens of the longest sequence that has full attention instead, as in the published model."""
        return (5 + 2 * self.num_random) * self.size

    def count(self, length: int) -> int:
        """Blocks of a sequence of so many tokens."""
        return -(-length // self.size)

    def random_blocks(self, num_blocks: int) -> Tensor:
        """int64 [H, num_blocks - 2, num_random]: for each middle block, the blocks it sees by chance."""
        if self.draw is None:
            return torch.zeros(self.heads, num_blocks - 2, self.num_random, dtype=torch.long)
        generator = np.random.default_rng([*self.draw, num_blocks])
        # Those that are seen anyway are never drawn: a random order of all blocks, the excluded ones at its end.
        order = generator.random((self.heads, num_blocks - 2, num_blocks))
        middle = np.arange(1, num_blocks - 1)
        for seen in (0 * middle, middle - 1, middle, middle + 1, 0 * middle + num_blocks - 1):
            order[:, middle - 1, seen] = 2.0
        drawn = np.argpartition(order, self.num_random - 1, axis=-1)[..., : self.num_random]
        return torch.from_numpy(np.sort(drawn, axis=-1))

    def seen(self, num_blocks: int) -> tuple[Tensor, Tensor]:
        """int64 [H, middle, seen]: the blocks that each middle one sees, and bool: which of them count."""
        middle = torch.arange(1, num_blocks - 1)
        fixed = torch.stack([0 * middle, middle - 1, middle, middle + 1, 0 * middle + num_blocks - 1], dim=-1)
        blocks = torch.cat([fixed.expand(self.heads, -1, -1), self.random_blocks(num_blocks)], dim=-1)
        wanted = torch.ones_like(blocks, dtype=torch.bool)
        wanted[:, 0, 1] = False  # block 1: its left neighbour is the first block, counted already
        wanted[:, -1, 3] = False
        return blocks, wanted

    def times(self, length: int) -> Tensor:
        """float64 [H, num_blocks, num_blocks]: how often each block of a sequence sees each."""
        num_blocks = self.count(length)
        times = torch.ones(self.heads, num_blocks, num_blocks, dtype=torch.float64)
        if length > self.longest_full:
            seen, wanted = self.seen(num_blocks)
            times[:, 1:-1] = 0.0
            times[:, 1:-1].scatter_add_(2, seen, wanted.to(times.dtype))
        return times

    def bias(self, group: Group, dtype: torch.dtype) -> Tensor:
        """[b, H, N, N] to add to scores: ln m for a key whose block is seen m times, very negative for m = 0."""
        block = torch.arange(group.longest) // self.size
        lowest = torch.finfo(dtype).min / 4
        by_count: dict[int, Tensor] = {}
        for length in group.lengths:
            num_blocks = self.count(length)
            if num_blocks not in by_count:
                at = block.clamp(max=num_blocks - 1)
                bias = self.times(length).log().clamp(min=lowest).to(dtype)
                by_count[num_blocks] = bias[:, at][:, :, at]
        whole = torch.stack([by_count[self.count(length)] for length in group.lengths])
        valid = group.planned_valid
        if valid is not None:
            whole = whole.masked_fill(~valid[:, None, None, :], lowest)
        return to_device(whole, group.device)

    def gathered(self, group: Group, dtype: torch.dtype) -> GatheredBlocks:
        """For sequences of one number of blocks (`cut`)."""
        num_blocks = self.count(group.longest)
        blocks, wanted = self.seen(num_blocks)
        sequence_and_head = torch.arange(group.count)[:, None] * self.heads + torch.arange(self.heads)
        index = (sequence_and_head * num_blocks)[:, :, None, None] + blocks  # [b, H, middle, seen]
        token = torch.arange(num_blocks * self.size)
        real = (token < torch.tensor(group.lengths)[:, None]).unflatten(1, (num_blocks, self.size))
        allowed = real[:, blocks] & wanted[..., None]  # [b, H, middle, seen, size]
        bias = bias_from(allowed.flatten(0, 2).flatten(1), dtype)[:, None, None, :]
        key_bias = bias_from(real.flatten(1), dtype)[:, None, None, :]
        steps = blocks - torch.arange(1, num_blocks - 1)[:, None]
        return GatheredBlocks(*(to_device(tensor, group.device) for tensor in (index, bias, key_bias, steps)))

    def cut(self, group: Group) -> list[Group]:
        """The group cut where the number of blocks changes: the sequences of one part share a pattern."""
        parts: list[Group] = []
        begin = 0
        for end in range(1, group.count + 1):
            if end == group.count or self.count(group.lengths[end]) != self.count(group.lengths[begin]):
                parts.append(Group(group.lengths[begin:end], group.first + begin, group.device))
                begin = end
        return parts


@dataclass(frozen=True)
class GatheredBlocks:
    """index [b, H, middle, seen] of blocks, bias [b * H * middle, 1, 1, seen * size], key_bias [b, 1, 1, N],

    steps [H, middle, seen]: by how many blocks those seen lie behind the one that sees them.
    """

    index: Tensor
    bias: Tensor
    key_bias: Tensor
    steps: Tensor
