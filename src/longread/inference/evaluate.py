"""Predictions of a model for all rows of a split; what they are worth is in metrics.py."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from longread.data.batches import Indices, micro_batches
from longread.data.dataset import Split
from longread.inference import side_by_side
from longread.inference.collate import Batch, Usage, make_batch, planned_batches
from longread.inference.metrics import answers_of, mean_loss
from longread.models.classifier import Classifier
from longread.ops.packed import PackedBatch
from longread.system import processes, sharding
from longread.system.measure import Stopwatch
from longread.system.memory import is_failed_allocation

log = logging.getLogger("longread")
# Told after each batch: how many rows have answers, and the fraction of all tokens that these rows hold.
OnRows = Callable[[int, float], None]


@dataclass(frozen=True)
class Scores:
    """Of all rows of a split, in its order: logits [R, C], and what they took."""

    logits: npt.NDArray[np.float32]
    seconds: float
    cpu_seconds: float
    usage: Usage


@dataclass(frozen=True)
class Predictions:
    """Of all rows of a split, in its order: answers [R, C] (metrics.py), the mean loss, and what they took."""

    answers: npt.NDArray[np.float32]
    loss: float
    seconds: float
    cpu_seconds: float
    usage: Usage


def predict_split(
    model: Classifier,
    split: Split,
    *,
    tokens: int,
    device: torch.device,
    precision: str = "float32",
    on_rows: OnRows | None = None,
) -> Predictions:
    """Answers for every row, as `split_logits` computes the logits."""
    scores = split_logits(model, split, tokens=tokens, device=device, precision=precision, on_rows=on_rows)
    answers = answers_of(scores.logits, split.problem_type)
    loss = mean_loss(scores.logits, split.labels, split.problem_type)
    return Predictions(answers, loss, scores.seconds, scores.cpu_seconds, scores.usage)


def split_logits(
    model: Classifier,
    split: Split,
    *,
    tokens: int,
    device: torch.device,
    precision: str = "float32",
    alone: bool = False,
    on_rows: OnRows | None = None,
) -> Scores:
    """Logits of every row. Sorted by length, so hardly anything is padded; `tokens` bounds memory.

    On several processes each computes a share and all get the whole; `alone`: the split is this process's own. On one,
    where that many do not fit into memory, all is done again with half as many at a time.
    """
    was_training = model.training
    if was_training:
        model.eval()
    try:
        while True:
            try:
                return _split_logits(model, split, tokens, device, precision, alone, on_rows)
            except Exception as error:
                shortest = int(split.lengths.min()) if len(split) else 0
                on_one = (alone or processes.count() == 1) and not sharding.is_sharded(model)
                if not (is_failed_allocation(error) and on_one and tokens > shortest):
                    raise
            tokens = max(1, tokens // 2)
            log.warning("the texts did not fit into memory: they are read again, %d tokens at a time", tokens)
    finally:
        if was_training:
            model.train()


def _split_logits(
    model: Classifier,
    split: Split,
    tokens: int,
    device: torch.device,
    precision: str,
    alone: bool,
    on_rows: OnRows | None,
) -> Scores:
    usage = Usage()
    progress = _Progress(split, 1 if alone else processes.count(), on_rows)
    logits = np.zeros((len(split), model.config.num_labels), dtype=np.float32)
    watch = Stopwatch(device)
    forward = _Forward(model, split, device, precision)
    rows = np.arange(len(split))
    with watch:
        if (alone or processes.count() == 1) and not sharding.is_sharded(model):
            at_once, together, parts = side_by_side.plan(rows, split.lengths, tokens, device)
        else:
            at_once, together, parts = 1, [], list(micro_batches(rows, split.lengths, tokens))
        _one_after_the_other(forward, parts, alone, logits, usage, progress)
        if together:
            with side_by_side.computed(forward.logits_of, together, at_once) as found:
                for part, (own, packed) in zip(together, found, strict=True):
                    logits[part] = own.numpy()
                    usage.add(model, packed)
                    progress.add(part)
        if not alone:
            processes.add_up([torch.from_numpy(logits)])
            usage = usage.of_all_processes()
    return Scores(logits, watch.seconds, watch.cpu_seconds, usage)


def _one_after_the_other(
    forward: _Forward,
    every: list[Indices],
    alone: bool,
    logits: npt.NDArray[np.float32],
    usage: Usage,
    progress: _Progress,
) -> None:
    """Logits of the parts that are this process's, written to their places."""
    # Each row is some process's.
    parts = every if alone else every[processes.rank() :: processes.count()]
    # Where weights are in shards, all processes compute equally often.
    idle = -(-len(every) // processes.count()) - len(parts) if sharding.is_sharded(forward.model) else 0
    found = []  # read when all have run: a device that is asked at once waits for the answer to be fetched
    with forward.ready():
        for batch in forward.batches([*parts, *every[:1] * idle]):
            found.append(forward.logits(batch))
            if len(found) <= len(parts):
                usage.add(forward.model, batch.packed)
                progress.add(parts[len(found) - 1])
        for part, some in zip(parts, found[: len(parts)], strict=True):
            logits[part] = some.cpu().numpy()


class _Progress:
    """Says how far it is; where several processes share the rows, by what this one has done of its part."""

    def __init__(self, split: Split, shared_by: int, on_rows: OnRows | None) -> None:
        self.lengths, self.shared_by, self.on_rows = split.lengths, shared_by, on_rows
        self.rows = self.tokens = 0
        self.all_tokens = max(1, int(split.lengths.sum()))

    def add(self, part: Indices) -> None:
        """The rows `part` have answers."""
        self.rows += len(part) * self.shared_by
        self.tokens += int(self.lengths[part].sum()) * self.shared_by
        if self.on_rows is not None:
            self.on_rows(min(self.rows, len(self.lengths)), min(1.0, self.tokens / self.all_tokens))


@dataclass(frozen=True)
class _Forward:
    """A model's answers to the rows of a split."""

    model: Classifier
    split: Split
    device: torch.device
    precision: str

    @contextmanager
    def ready(self) -> Generator[None]:
        """What this thread computes in it has the precision, and no gradients."""
        # Shards that were gathered here are used again in training, which torch refuses behind its inference mode.
        without_gradients = torch.no_grad() if sharding.is_sharded(self.model) else torch.inference_mode()
        with without_gradients, torch.autocast(self.device.type, torch.bfloat16, self.precision == "bfloat16"):
            yield

    def batches(self, parts: Iterable[Indices]) -> Generator[Batch]:
        made = (make_batch(self.split, part, self.device) for part in parts)
        return planned_batches(self.model, made, precision=self.precision)

    def logits(self, batch: Batch) -> torch.Tensor:
        own = self.model.classify(batch.tokens, batch.packed, batch.types).float()
        return batch.by_text(own, self.split.problem_type)

    def logits_of(self, part: Indices) -> tuple[torch.Tensor, PackedBatch]:
        """Of some rows, and how they lay together."""
        with self.ready():
            batch = next(self.batches([part]))
            return self.logits(batch), batch.packed
