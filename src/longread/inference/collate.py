"""Micro-batches as tensors: the packed layout an encoder computes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from longread.data.dataset import Indices, Split
from longread.models.classifier import Classifier
from longread.ops.packed import PackedBatch


@dataclass(frozen=True)
class Batch:
    """tokens [T], token types [T] or None, labels [B], and the rows' layout."""

    tokens: Tensor
    types: Tensor | None
    labels: Tensor
    rows: PackedBatch


def make_batch(
    split: Split,
    indices: Indices,
    device: torch.device,
    drop: float = 0.0,
    generator: np.random.Generator | None = None,
) -> Batch:
    """`drop`: share of tokens, the first of each row apart, that are left out (`generator` decides which)."""
    tokens, types = split.gather(indices)
    lengths = split.lengths[indices]
    if drop > 0 and generator is not None:
        kept = generator.random(len(tokens)) >= drop
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        kept[starts] = True
        lengths = np.add.reduceat(kept, starts)
        tokens, types = tokens[kept], None if types is None else types[kept]
    return Batch(
        torch.from_numpy(tokens).to(device),
        None if types is None else torch.from_numpy(types).to(device),
        torch.from_numpy(split.labels[indices]).to(device),
        PackedBatch(tuple(lengths.tolist()), device),
    )


@dataclass
class Usage:
    """What really ran: tokens, padded slots, and tokens per kind of attention, summed over batches."""

    tokens: int = 0
    slots: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, model: Classifier, rows: PackedBatch) -> None:
        self.tokens += rows.offsets[-1]
        self.slots += rows.padded_slots
        for block in model.blocks:
            self.kinds.update(block.attention.coverage(rows.lengths))  # type: ignore[operator, union-attr]

    @property
    def padded_fraction(self) -> float:
        return 1 - self.tokens / self.slots if self.slots else 0.0

    @property
    def effective_attention(self) -> dict[str, float]:
        """Kind -> share of tokens, over all layers."""
        total = sum(self.kinds.values())
        return {kind: round(count / total, 6) for kind, count in sorted(self.kinds.items()) if count}
