"""What a pass of Longformer over a batch needs, made ahead from its lengths: tiles, and where global tokens are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longread.ops import flex
from longread.ops.band import band
from longread.ops.packed import Group, bias_from, to_device
from longread.ops.rotary import Turn, turn
from longread.ops.tile import Tile

# Global tokens that go through their projections together, at most: each is as wide as all heads times the tokens.
TOGETHER = 256


@dataclass(frozen=True)
class Plan:
    parts: tuple[Part, ...]  # one for each group of the batch
    tokens: Tensor  # int64: the global tokens among all packed ones, in the order of the parts
    packed: bool = False  # whether kernels for packed sequences mix the local tokens
    pattern: flex.Pattern | None = None  # then: what they see, None: their whole sequence


@dataclass(frozen=True)
class Part:
    """What a group needs. G: the most global tokens that one of its b sequences has."""

    group: Group
    index: Tensor | None  # int64 [b, G]: their positions; None: the first token of each sequence alone
    chosen: Tensor | None  # int64: which of the b * G are global tokens and no filling; None: all
    bias: Tensor | None  # [b, 1, 1, G] to add to scores; None: all are global tokens
    tiles: tuple[Tile, ...] | None  # None: every window is the whole sequence
    angles: tuple[Tensor, Tensor] | None = None  # of rotary positions 0 to N - 1, [N, 1, D / 2]

    def gather(self, heads: Tensor) -> Tensor:
        """[b, H, N, D] -> [b, H, G, D]."""
        if self.index is None:
            return heads[:, :, :1]
        return heads.gather(2, self.index[:, None, :, None].expand(-1, heads.shape[1], -1, heads.shape[3]))

    @property
    def num_globals(self) -> int:
        """How many global tokens it has."""
        return self.group.count if self.chosen is None else self.chosen.shape[0]

    def spread(self, own: Tensor) -> Tensor:
        """Of its global tokens [num_globals, H, ...] -> [b, G, H, ...], zeros where a sequence has fewer than G."""
        if self.chosen is None or self.index is None:
            return own.unsqueeze(1)
        slots = own.new_zeros(self.index.numel(), *own.shape[1:])
        return slots.index_copy(0, self.chosen, own).unflatten(0, self.index.shape)

    def collect(self, made: Tensor) -> Tensor:
        """[b, G * H, ...] -> of its global tokens [num_globals, H, ...]: the reverse of `spread`."""
        most = 1 if self.index is None else self.index.shape[1]
        own = made.unflatten(1, (most, -1)).flatten(0, 1)
        return own if self.chosen is None else own.index_select(0, self.chosen)

    def positions(self, device: torch.device) -> Tensor:
        """int64 [b or 1, G]: where the global tokens are."""
        return torch.zeros(1, 1, dtype=torch.long, device=device) if self.index is None else self.index

    def turned_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Of global queries [b, G, H, D] and keys [b, N, H, D] turned by their positions -> [b, G * H, N]."""
        assert self.angles is not None
        own = [part[:1] if self.index is None else part[self.index] for part in self.angles]
        query, key = turn(query, *own), Turn.apply(key, *self.angles)  # type: ignore[no-untyped-call]
        return torch.einsum("bghd,bnhd->bghn", query, key).flatten(1, 2)


def few_at_a_time(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """The parts in order, neighbours together up to so many global tokens."""
    begin = count = 0
    for place, part in enumerate(parts):
        if place > begin and count + part.num_globals > TOGETHER:
            yield parts[begin:place]
            begin, count = place, 0
        count += part.num_globals
    yield parts[begin:]


def part_of(
    group: Group, positions: Sequence[Sequence[int]] | None, side: int, dtype: torch.dtype, tiled: bool
) -> tuple[Part, Sequence[Sequence[int]]]:
    """The plan of a group, and the global tokens of each of its sequences. positions None: the first of each."""
    tiles = None
    if positions is None:
        if tiled and group.longest > side + 1:
            tiles = band(group, group.planned_valid, 1, side, dtype)
        return Part(group, None, None, None, tiles), [(0,)] * group.count
    most = max(1, *map(len, positions))  # a slot, even an unused one, where no sequence has a global token
    count = torch.tensor([len(own) for own in positions])
    there = torch.arange(most) < count[:, None]
    index = torch.zeros(group.count, most, dtype=torch.long)
    index[there] = torch.tensor([place for own in positions for place in own], dtype=torch.long)
    if tiled and group.longest > side + 1:
        valid = group.planned_valid
        local = torch.ones(group.count, group.longest, dtype=torch.bool) if valid is None else valid.clone()
        local[torch.arange(group.count)[:, None].expand_as(index)[there], index[there]] = False
        tiles = band(group, local, 0, side, dtype)
    index, chosen, bias = (
        to_device(tensor, group.device)
        for tensor in (index, there.flatten().nonzero().squeeze(1), bias_from(there, dtype)[:, None, None, :])
    )
    return Part(group, index, chosen, bias, tiles), positions
