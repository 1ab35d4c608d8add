"""Micro-batches as tensors: the packed layout an encoder computes on, planned before the device needs it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longread.data.batches import Indices
from longread.data.dataset import Split
from longread.data.masking import Masking
from longread.models.classifier import Classifier
from longread.ops.packed import PackedBatch, to_device
from longread.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType
from longread.system import processes

# Batches that are made before they are asked for: one is enough unless making one takes longer than computing on it.
BATCHES_AHEAD = 2
Item = TypeVar("Item")


@dataclass(frozen=True)
class Chunks:
    """Which sequences are of which text. places [B, K]: of each text its sequences; there bool [B, K]: there is one."""

    places: Tensor
    there: Tensor

    @classmethod
    def of(cls, counts: Indices, device: torch.device) -> Chunks:
        """counts [B]: how many sequences each text has, one text behind the other."""
        along = np.arange(counts.max(initial=1))
        there = along < counts[:, None]
        places = np.where(there, (np.cumsum(counts) - counts)[:, None] + along, 0)
        return cls(to_device(torch.from_numpy(places), device), to_device(torch.from_numpy(there), device))

    def pooled(self, logits: Tensor, problem_type: ProblemType) -> Tensor:
        """Logits [S, C] of the sequences -> [B, C] of the texts: the mean, of several labels the greatest."""
        own, there = logits[self.places], self.there[:, :, None]
        if problem_type == MULTI_LABEL:
            return own.masked_fill(~there, -torch.inf).amax(1)
        return own.masked_fill(~there, 0).sum(1) / there.sum(1)


@dataclass(frozen=True)
class Masked:
    """places int64 [M]: which of the tokens are to be guessed; wanted int64 [M]: what stood there."""

    places: Tensor
    wanted: Tensor


@dataclass(frozen=True)
class Batch:
    """tokens [T], token types [T] or None, labels, the sequences' layout, and whose they are.

    labels of the B texts: classes int64 [B], or float32 of several labels [B, C] or a number [B]. chunks: None where
    each text is one sequence. masked: None where no token is to be guessed.
    """

    tokens: Tensor
    types: Tensor | None
    labels: Tensor
    packed: PackedBatch
    chunks: Chunks | None = None
    masked: Masked | None = None

    def by_text(self, logits: Tensor, problem_type: ProblemType) -> Tensor:
        """Logits [S, C] of the sequences -> [B, C] of the texts."""
        return logits if self.chunks is None else self.chunks.pooled(logits, problem_type)


def kept_tokens(split: Split, indices: Indices, drop: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """bool [T], of the rows' tokens one after the other: False for the fraction `drop` that is left out.

    `generator` decides which; the first of each sequence and the marks that the tokenizer puts around texts stay.
    """
    tokens, _ = split.gather(indices)
    _, lengths = split.sequences_of(indices)
    kept = (generator.random(len(tokens)) >= drop) | np.isin(tokens, split.marks)
    kept[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    return kept


def make_batch(
    split: Split,
    indices: Indices,
    device: torch.device,
    kept: npt.NDArray[np.bool_] | None = None,
    masking: Masking | None = None,
    step: int | None = None,
) -> Batch:
    """The rows `indices`; of their tokens only those that are `kept` (bool [T]; None: all), or masked as at `step`."""
    tokens, types = split.gather(indices)
    masked = None
    if masking is not None:
        assert kept is None, "tokens are masked or dropped"
        tokens, *chosen = masking.draw(tokens, split.lengths[indices], indices, step)
        masked = Masked(*(to_device(torch.from_numpy(own), device) for own in chosen))
    labels = split.labels[indices]
    labels = labels.astype(np.int64 if split.problem_type == SINGLE_LABEL else np.float32)
    counts, lengths = split.sequences_of(indices)
    several = split.encoded.sequences is not None  # never of pairs
    first_texts = np.zeros(len(lengths), dtype=np.int64) if several else split.first_texts(indices)
    if kept is not None:
        starts = np.cumsum(lengths) - lengths
        before = np.concatenate([[0], np.cumsum(kept)])  # tokens kept in front of each place
        lengths, first_texts = before[starts + lengths] - before[starts], before[starts + first_texts] - before[starts]
        tokens, types = tokens[kept], None if types is None else types[kept]
    return Batch(
        to_device(torch.from_numpy(tokens), device),
        None if types is None else to_device(torch.from_numpy(types), device),
        to_device(torch.from_numpy(labels), device),
        PackedBatch(lengths.tolist(), device, first_text_lengths=first_texts.tolist()),
        Chunks.of(counts, device) if several else None,
        masked,
    )


def planned_batches(
    model: Classifier,
    batches: Iterable[Batch],
    *,
    precision: str = "float32",
    gradients: bool = False,
    teacher: Classifier | None = None,
) -> Generator[Batch]:
    """The batches, each with all that a pass of `model` needs to know of its lengths, and one of `teacher` beside it.

    Where an accelerator computes, they are made and planned in a background thread while it does; a processor would
    only share its cores. `batches` must not draw from torch's random state: the order of draws would depend on time.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else None

    def plan() -> Generator[Batch]:
        for batch in batches:
            model.plan(batch.packed, dtype, gradients)
            if teacher is not None:
                teacher.plan(batch.packed, dtype)
            yield batch

    on_processor = model.embeddings.word.weight.device.type == "cpu"
    return plan() if on_processor else made_ahead(plan(), BATCHES_AHEAD)


def made_ahead(items: Iterator[Item], ahead: int) -> Generator[Item]:
    """The same items in the same order, made by a background thread up to `ahead` before they are asked for.

    An error in making one is raised where that one would come. Whoever stops early closes the generator: the thread
    then ends with the item it is at.
    """
    end = object()
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = deque(pool.submit(next, items, end) for _ in range(ahead))
        try:
            while (item := coming.popleft().result()) is not end:
                coming.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            for waiting in coming:
                waiting.cancel()


@dataclass
class Usage:
    """What really ran: tokens, padded slots, and tokens per attention that mixed them, summed over batches."""

    tokens: int = 0
    slots: int = 0
    coverage: Counter[str] = field(default_factory=Counter)
    kernels: set[str] = field(default_factory=set)  # of torch's for packed sequences; none on a processor

    def copy(self) -> Usage:
        return Usage(self.tokens, self.slots, self.coverage.copy(), self.kernels.copy())

    def add(self, model: Classifier, batch: PackedBatch) -> None:
        self.tokens += batch.num_tokens
        self.slots += batch.padded_slots
        self.kernels |= batch.kernels
        for block in model.blocks:
            self.coverage.update(block.attention.covered(batch))  # type: ignore[operator, union-attr]

    def of_all_processes(self) -> Usage:
        """The sum over the processes of a run."""
        total = Usage()
        own = [self.tokens, self.slots, self.coverage, sorted(self.kernels)]
        for tokens, slots, coverage, kernels in processes.everyones(own):
            total.tokens, total.slots = total.tokens + tokens, total.slots + slots
            total.kernels.update(kernels)
            total.coverage.update(coverage)
        return total

    @property
    def padded_fraction(self) -> float:
        return 1 - self.tokens / self.slots if self.slots else 0.0

    @property
    def effective_attention(self) -> dict[str, float]:
        """Name of an attention -> fraction of the tokens that it ran over, over all layers."""
        total = sum(self.coverage.values())
        return {name: round(count / total, 6) for name, count in sorted(self.coverage.items()) if count}
