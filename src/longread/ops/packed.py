"""The layout of a packed batch: the tokens of all its sequences one after the other, without padding.

Shapes: T tokens of all sequences, B sequences, N tokens of one, b sequences of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

# PackedBatch of unequal length are padded together only while that is cheaper than handling them apart. One more group
# costs about as much time as this many query-key pairs (a handful of operator calls).
PAIRS_PER_GROUP = 16_384
# A longer row is never padded: alone, its queries and keys are views, and no copy is made.
LONGEST_PADDED_ROW = 256


@dataclass(frozen=True)
class Group:
    """Neighbouring rows of a batch that are mixed together, padded to the longest of them.

    PackedBatch of one length need no padding: they are views of the packed batch and `valid` is None.
    """

    lengths: tuple[int, ...]
    first_row: int
    device: torch.device

    @property
    def count(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        return max(self.lengths)

    @cached_property
    def valid(self) -> Tensor | None:
        """bool [b, N], True where a slot holds a token; None if all do."""
        if min(self.lengths) == self.longest:
            return None
        lengths = torch.tensor(self.lengths, device=self.device)
        return torch.arange(self.longest, device=self.device) < lengths[:, None]

    @cached_property
    def _slots(self) -> Tensor:
        """int64 [tokens]: where each packed token of the group lies among its b * N slots."""
        assert self.valid is not None
        return self.valid.flatten().nonzero().squeeze(1)

    def pad(self, own: Tensor) -> Tensor:
        """[tokens of the group, ...] -> [b, N, ...]; slots without a token are zero."""
        if self.valid is None:
            return own.unflatten(0, (self.count, self.longest))
        padded = own.new_zeros(self.count * self.longest, *own.shape[1:]).index_copy(0, self._slots, own)
        return padded.unflatten(0, (self.count, self.longest))

    def pack(self, padded: Tensor) -> Tensor:
        """[b, N, ...] -> [tokens of the group, ...]."""
        flat = padded.flatten(0, 1)
        return flat if self.valid is None else flat.index_select(0, self._slots)

    def key_bias(self, dtype: torch.dtype) -> Tensor | None:
        """[b, 1, 1, N] to add to scores: 0 for tokens, very negative for empty slots; None if all are tokens."""
        return None if self.valid is None else bias_from(self.valid, dtype)[:, None, None, :]


def split(packed: Tensor, groups: Sequence[Group]) -> tuple[Tensor, ...]:
    """[T, ...] -> the tokens of each group, as views; their gradients are put together once, not once a group."""
    return packed.split([group.num_tokens for group in groups])


def bias_from(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask of a bool tensor. Finite, so that a query without any key gives numbers and no NaN."""
    lowest = torch.finfo(dtype).min / 4
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, lowest)


@dataclass
class PackedBatch:
    """The layout of a packed batch: rows of `lengths` tokens (each at least 1) follow each other without a gap.

    Neighbours of similar length are mixed together, so a batch sorted by length is the cheapest; any order is right.
    `global_positions` holds, per row, the positions that see and are seen by all (Longformer); None: the first token.
    """

    lengths: tuple[int, ...]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    global_positions: tuple[tuple[int, ...], ...] | None = None
    # What layers of one model share: index plans that depend on the lengths alone.
    _plans: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        assert self.lengths and min(self.lengths) > 0, "a packed batch has rows, and no empty ones"

    def with_globals(self, chosen: Tensor) -> PackedBatch:
        """The same rows with the tokens of chosen [T] (bool) as global ones, where none were given."""
        if self.global_positions is not None:
            return self
        parts = chosen.cpu().split(self.lengths)
        return PackedBatch(self.lengths, self.device, tuple(tuple(part.nonzero().flatten().tolist()) for part in parts))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First token of each row, and T at the end."""
        offsets = [0]
        for length in self.lengths:
            offsets.append(offsets[-1] + length)
        return tuple(offsets)

    @cached_property
    def positions(self) -> Tensor:
        """int64 [T]: the place of each token in its row."""
        lengths = torch.tensor(self.lengths)
        starts = torch.tensor(self.offsets[:-1])
        positions = torch.arange(self.offsets[-1]) - torch.repeat_interleave(starts, lengths)
        return positions.to(self.device)

    @cached_property
    def row_of_token(self) -> Tensor:
        """int64 [T]."""
        return torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths)).to(self.device)

    @cached_property
    def first_tokens(self) -> Tensor:
        """int64 [B]."""
        return torch.tensor(self.offsets[:-1], device=self.device)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        groups = []
        begin = 0
        pairs = longest = 0
        for row, length in enumerate(self.lengths):
            widest = max(longest, length)
            extra = (row + 1 - begin) * widest**2 - (pairs + length**2)
            equal = all(n == length for n in self.lengths[begin:row]) if widest > LONGEST_PADDED_ROW else True
            if row > begin and (not equal or extra > max(PAIRS_PER_GROUP, 0.15 * pairs)):
                groups.append(self._group(begin, row))
                begin, pairs, longest = row, 0, 0
            pairs += length**2
            longest = max(longest, length)
        groups.append(self._group(begin, len(self.lengths)))
        return tuple(groups)

    def _group(self, begin: int, end: int) -> Group:
        return Group(self.lengths[begin:end], begin, self.device)

    @property
    def padded_slots(self) -> int:
        """Slots of all groups, those without a token included."""
        return sum(group.count * group.longest for group in self.groups)

    def plan(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, made once per batch and key."""
        if key not in self._plans:
            self._plans[key] = make()
        return self._plans[key]
