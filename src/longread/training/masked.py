"""Masked-language modelling (Devlin et al. 2019, section 3.1): the loss on a batch, and on rows that are held out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from longread.config import RunConfig
from longread.data.batches import Indices, micro_batches, shuffled
from longread.data.dataset import Split
from longread.data.masking import Masking
from longread.inference.collate import Batch, make_batch, planned_batches
from longread.models.classifier import Classifier
from longread.system.measure import Stopwatch
from longread.training.events import Event, Listener
from longread.training.optimize import make_optimizer
from longread.training.state import State
from longread.training.trainer import Trainer

HELD_OUT_ROWS, HELD_OUT_FRACTION = 500, 0.1  # at most so many, and such a part of all
LOGITS_AT_ONCE = 2**24  # a vocabulary is large: with more of them, they are computed again in the backward pass


def masked_trainer(
    model: Classifier, split: Split, masking: Masking, config: RunConfig, steps: int, directory: Path,
    on_event: Listener,
) -> Trainer:  # fmt: skip
    """All of `model` learns but its classifier, which has no part in the loss. `config` is resolved."""
    assert config.tokens_per_micro_batch and config.learning_rate
    for name, parameter in model.named_parameters():
        if name.startswith(("head.", "score.")):
            parameter.requires_grad_(False)
    order = shuffled(len(split), [config.seed, 2])
    count = min(HELD_OUT_ROWS, max(1, int(len(split) * HELD_OUT_FRACTION)))
    held_out = HeldOut(model, split, masking, order[:count].astype(np.int64), config.tokens_per_micro_batch)
    optimizer = make_optimizer(model, config, config.learning_rate)
    objective = MaskedTokens(split, masking)
    return Trainer(
        model, split, objective, held_out, optimizer, config, directory, on_event, rows=order[count:], steps=steps
    )  # fmt: skip


class MaskedTokens:
    """Cross-entropy of the chosen tokens, the mean over those of the whole batch, however it is cut."""

    drops = True
    teacher = None

    def __init__(self, split: Split, masking: Masking) -> None:
        self.split, self.masking = split, masking
        self._tokens, self._rows = 1, 1

    def begin(self, indices: Indices) -> None:
        self._tokens, self._rows = max(1, int(self.masking.counts(self.split, indices).sum())), len(indices)

    def loss(self, model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
        """The second: tokens guessed right, in rows of the batch, which is what the trainer counts in."""
        loss, right = scored(model, batch)
        return loss / self._tokens, right * (self._rows / self._tokens)


def scored(model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies of the tokens to be guessed, and how many of them are guessed right."""
    assert batch.masked is not None and model.masked_head is not None
    x = model.guess(batch.tokens, batch.packed, batch.types, batch.masked.places)
    size = max(1, LOGITS_AT_ONCE // model.config.vocab_size)

    def part(x: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        assert model.masked_head is not None
        logits = model.masked_head(x, model.embeddings.word.weight)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            return F.cross_entropy(logits, wanted, reduction="sum"), (logits.detach().argmax(1) == wanted).sum()

    parts = list(zip(x.split(size), batch.masked.wanted.split(size), strict=True))
    if torch.is_grad_enabled() and len(parts) > 1:
        found = [checkpoint(part, *own, use_reentrant=False) for own in parts]
    else:
        found = [part(*own) for own in parts]
    losses, right = zip(*found, strict=True)
    return torch.stack(losses).sum(), torch.stack(right).sum()


@dataclass(frozen=True)
class Guesses:
    """Of the masked tokens of the held-out rows: the mean loss, and the fraction that is guessed right."""

    loss: float
    accuracy: float

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))  # e to the 710 is no number any more


class HeldOut:
    """Masked tokens of rows that are not learned from; the same masks each time."""

    def __init__(self, model: Classifier, split: Split, masking: Masking, rows: Indices, tokens: int) -> None:
        self.model, self.split, self.masking, self.rows, self.tokens = model, split, masking, rows, tokens
        self.device = next(model.parameters()).device
        self.watch = Stopwatch(self.device)
        self.before = self.after = Guesses(math.nan, math.nan)

    def begin(self) -> None:
        with self.watch:
            self.before = self.measured()

    def after_epoch(self, epoch: int) -> Event:
        self.after = self.measured()
        if not math.isfinite(self.after.loss):
            raise FloatingPointError(f"the loss on the held-out rows is {self.after.loss}")
        return {"masked_loss": self.after.loss, "masked_accuracy": self.after.accuracy}

    def is_enough(self, epoch: int) -> bool:
        return False

    def end(self, epoch: int) -> None:
        """The last weights are kept."""

    def state(self) -> State:
        return State(values={"before": asdict(self.before)})

    def load(self, state: State) -> None:
        self.before = Guesses(**state.values["before"])

    @property
    def count(self) -> int:
        """Tokens that are guessed."""
        return int(self.masking.counts(self.split, self.rows).sum())

    @torch.no_grad()
    def measured(self) -> Guesses:
        was_training, loss, right = self.model.training, 0.0, 0
        self.model.eval()
        for batch in planned_batches(self.model, self._batches()):
            own_loss, own_right = scored(self.model, batch)
            loss, right = loss + float(own_loss), right + int(own_right)
        self.model.train(was_training)
        count = max(1, self.count)
        return Guesses(loss / count, right / count)

    def _batches(self) -> Iterator[Batch]:
        for part in micro_batches(self.rows, self.split.lengths, self.tokens):
            yield make_batch(self.split, part, self.device, masking=self.masking)
