"""The layout of a packed batch: the tokens of all its sequences one after the other, without padding.

A batch is planned before it is computed. Lengths are plain integers, by which the processor plans; every index and
mask made from them is a tensor, made on the processor, moved to the device once and kept. A pass over a planned batch
asks the device for nothing.

Shapes: T tokens of all sequences, B sequences that hold tokens, N tokens of one, b sequences of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from longread.ops.dropout import Noise

# Sequences of unequal length are padded together only while that is cheaper than handling them apart. One more group
# costs about as much time as this many query-key pairs (a handful of operator calls).
PAIRS_PER_GROUP = 16_384
# A longer sequence is never padded: alone, its queries and keys are views, and no copy is made.
LONGEST_PADDED = 256
CPU = torch.device("cpu")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor's, on the device. Pinned memory lets a GPU fetch it without anybody waiting."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Group:
    """Neighbouring sequences of a batch that are mixed together, padded to the longest of them.

    Sequences of one length need no padding: they are views of the packed batch and `valid` is None.
    """

    lengths: tuple[int, ...]
    first: int  # which of the batch's sequences its first one is
    device: torch.device
    _biases: dict[torch.dtype, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def count(self) -> int:
        return len(self.lengths)

    @cached_property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        return max(self.lengths)

    @cached_property
    def is_padded(self) -> bool:
        return min(self.lengths) < self.longest

    @cached_property
    def planned_valid(self) -> Tensor | None:
        """`valid` on the processor: what further plans are made from."""
        if not self.is_padded:
            return None
        return torch.arange(self.longest) < torch.tensor(self.lengths)[:, None]

    @cached_property
    def valid(self) -> Tensor | None:
        """bool [b, N], True where a slot holds a token; None if all do."""
        return None if self.planned_valid is None else to_device(self.planned_valid, self.device)

    @cached_property
    def _slots(self) -> Tensor:
        """int64 [tokens]: where each packed token of the group lies among its b * N slots."""
        assert self.planned_valid is not None
        return to_device(self.planned_valid.flatten().nonzero().squeeze(1), self.device)

    def pad(self, own: Tensor) -> Tensor:
        """[tokens of the group, ...] -> [b, N, ...]; slots without a token are zero."""
        if not self.is_padded:
            return own.unflatten(0, (self.count, self.longest))
        padded = own.new_zeros(self.count * self.longest, *own.shape[1:]).index_copy_(0, self._slots, own)
        return padded.unflatten(0, (self.count, self.longest))

    def pack(self, padded: Tensor) -> Tensor:
        """[b, N, ...] -> [tokens of the group, ...]."""
        flat = padded.flatten(0, 1)
        return flat.index_select(0, self._slots) if self.is_padded else flat

    def key_bias(self, dtype: torch.dtype) -> Tensor | None:
        """[b, 1, 1, N] to add to scores: 0 for tokens, very negative for empty slots; None if all are tokens."""
        if self.planned_valid is None:
            return None
        if dtype not in self._biases:
            bias = bias_from(self.planned_valid, dtype)[:, None, None, :]
            self._biases[dtype] = to_device(bias, self.device)
        return self._biases[dtype]

    def plan(self, dtype: torch.dtype) -> None:
        """Makes what `pad`, `pack`, `valid` and `key_bias` need."""
        if self.is_padded:
            self.key_bias(dtype)
            _ = self.valid, self._slots


def split(packed: Tensor, groups: Sequence[Group]) -> tuple[Tensor, ...]:
    """[T, ...] -> the tokens of each group, as views; their gradients are put together once, not once a group."""
    if len(groups) == 1:  # the gradient of a split is a copy, even where there is nothing to put together
        return (packed,)
    return packed.split([group.num_tokens for group in groups])


def join(parts: Sequence[Tensor]) -> Tensor:
    """The tokens of all groups again, [T, ...]; a single group is no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))


def bias_from(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask of a bool tensor. Finite, so that a query without any key gives numbers and no NaN."""
    lowest = torch.finfo(dtype).min / 4
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, lowest)


class PackedBatch:
    """The layout of a packed batch: sequences of `lengths` tokens follow each other without a gap.

    Neighbours of similar length are mixed together, so a batch sorted by length is the cheapest; any order is right.
    A length of 0 is a sequence without a token: it is counted in `count` and nowhere else.

    global_positions: for each sequence the positions that see and are seen by all (Longformer; None: its settings
    decide). first_text_lengths: for each sequence the tokens of a pair's first text, 0 for a text that has no partner
    (None: nobody knows).
    """

    def __init__(
        self,
        lengths: Sequence[int],
        device: torch.device = CPU,
        global_positions: Sequence[Sequence[int]] | None = None,
        first_text_lengths: Sequence[int] | None = None,
    ) -> None:
        self.count = len(lengths)  # sequences, those without a token included
        filled = [i for i, length in enumerate(lengths) if length]
        self._filled = None if len(filled) == len(lengths) else filled
        self.lengths = tuple(lengths[i] for i in filled)
        self.device = device
        self.global_positions = None if global_positions is None else tuple(tuple(global_positions[i]) for i in filled)
        self.first_text_lengths = None if first_text_lengths is None else tuple(first_text_lengths[i] for i in filled)
        self.kernels: set[str] = set()  # torch's for packed sequences that have run over it
        self.noise: Noise | None = None  # which random numbers dropout draws; None: torch's next ones
        self._plans: dict[Any, Any] = {}

    @property
    def knows_globals(self) -> bool:
        """Whether somebody said which tokens see all, or where they would end."""
        return self.global_positions is not None or self.first_text_lengths is not None

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First token of each sequence, and T at the end, as plain integers."""
        offsets = [0]
        for length in self.lengths:
            offsets.append(offsets[-1] + length)
        return tuple(offsets)

    @property
    def num_tokens(self) -> int:
        return self.offsets[-1]

    @cached_property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """int32 [B + 1]: `offsets` on the device, in the type that variable-length kernels take."""
        return to_device(torch.tensor(self.offsets, dtype=torch.int32), self.device)

    @cached_property
    def seqlens(self) -> Tensor:
        """int64 [B]: `lengths` on the device."""
        return to_device(torch.tensor(self.lengths, dtype=torch.long), self.device)

    @cached_property
    def positions(self) -> Tensor:
        """int64 [T]: the place of each token in its sequence."""
        starts = torch.tensor(self.offsets[:-1], dtype=torch.long)
        lengths = torch.tensor(self.lengths, dtype=torch.long)
        positions = torch.arange(self.num_tokens) - torch.repeat_interleave(starts, lengths)
        return to_device(positions, self.device)

    @cached_property
    def sequence_of_token(self) -> Tensor:
        """int64 [T]."""
        lengths = torch.tensor(self.lengths, dtype=torch.long)
        return to_device(torch.repeat_interleave(torch.arange(len(self.lengths)), lengths), self.device)

    @property
    def first_tokens(self) -> Tensor:
        """int32 [B]: where each sequence begins."""
        return self.cu_seqlens[:-1]

    @cached_property
    def filled(self) -> Tensor | None:
        """int64 [B]: which of the `count` sequences hold tokens; None: all."""
        return None if self._filled is None else to_device(torch.tensor(self._filled), self.device)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        groups = []
        begin = 0
        pairs = longest = 0
        for place, length in enumerate(self.lengths):
            widest = max(longest, length)
            extra = (place + 1 - begin) * widest**2 - (pairs + length**2)
            equal = all(n == length for n in self.lengths[begin:place]) if widest > LONGEST_PADDED else True
            if place > begin and (not equal or extra > max(PAIRS_PER_GROUP, 0.15 * pairs)):
                groups.append(Group(self.lengths[begin:place], begin, self.device))
                begin, pairs, longest = place, 0, 0
            pairs += length**2
            longest = max(longest, length)
        if self.lengths:
            groups.append(Group(self.lengths[begin:], begin, self.device))
        return tuple(groups)

    @property
    def padded_slots(self) -> int:
        """Slots of all groups, those without a token included."""
        return sum(group.count * group.longest for group in self.groups)

    def plan(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, made once per batch and key: what the layers of a model share."""
        if key not in self._plans:
            self._plans[key] = make()
        return self._plans[key]
