"""Following a teacher: the loss on a batch, and the distance on rows that are held out.

Every hidden state is compared, as in TinyBERT (Jiao et al. 2020, section 3.1), and where the teacher's classifier is
trained, its probabilities too (Hinton et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from longread.attention.base import SelfAttention
from longread.config import RunConfig
from longread.data.batches import Indices, micro_batches, shuffled
from longread.data.dataset import Split
from longread.inference.collate import Batch, make_batch, planned_batches
from longread.models.classifier import Classifier
from longread.problems import MULTI_LABEL, REGRESSION, ProblemType
from longread.system.measure import Stopwatch
from longread.training.events import Event, Listener
from longread.training.state import State
from longread.training.trainer import Trainer

HELD_OUT_ROWS = 128
# A distance up to here is rounding. Two ways through the same sums differ by some 1e-7 of a number in float32, which
# squared is 1e-14; hidden states whose mean is far greater than their spread, and many layers, make it some thousand
# times that. Distances are always taken in float32, since autocast in bfloat16 is of the training steps alone. What a
# pattern leaves out of a single text is orders of magnitude more.
ROUNDING = 1e-9


def distillation_trainer(
    student: Classifier, teacher: Classifier, split: Split, config: RunConfig, steps: int, directory: Path,
    on_event: Listener,
) -> Trainer:  # fmt: skip
    """The blocks of `student` learn; its embedding, relative position bias and head stay. `config` is resolved."""
    assert config.tokens_per_micro_batch and config.learning_rate
    device = next(student.parameters()).device
    teacher = teacher.to(device).eval()
    order = shuffled(len(split), [config.seed, 2])
    count = min(HELD_OUT_ROWS, len(split) // 4)
    rows = order[count:]
    mean_length = (split.total_length() - int(split.lengths[order[:count]].sum())) / len(rows)
    for parameter in student.parameters():
        parameter.requires_grad_(False)
    factors = {
        f"{place}.{name}": factor
        for place, layer in student.blocks.named_modules()
        if isinstance(layer, SelfAttention)
        for name, factor in layer.distillation_factors(mean_length).items()
    }
    groups: list[dict[str, Any]] = []
    for name, parameter in student.blocks.named_parameters():
        parameter.requires_grad_(True)
        groups.append({"params": [parameter], "lr": config.learning_rate * factors.get(name, 1.0)})
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=0.0, fused=True)
    known = dict(student.blocks.named_parameters())
    held_out = HeldOut(student, teacher, split, order[:count].astype(np.int64), config.tokens_per_micro_batch)
    held_out.factors = {name: factor for name, factor in factors.items() if name in known}
    objective = Distillation(teacher, split, held_out.spread)
    return Trainer(
        student, split, objective, held_out, optimizer, config, directory, on_event, rows=rows, steps=steps
    )  # fmt: skip


class Distillation:
    """Distance of the hidden states from the teacher's, and of the outputs where the teacher's classifier is trained.

    The distance: |own - teacher's|² over the teacher's variance, mean over layers, tokens and dimensions. Each
    layer's variance is a constant of the run, so that a sum over micro-batches is the whole batch's loss. Nothing is
    dropped: the noise of dropout is of the size of what a distilled student still differs by.
    """

    drops = False
    masking = None

    def __init__(self, teacher: Classifier, split: Split, spread: tuple[float, ...]) -> None:
        self.teacher, self.split, self.spread = teacher, split, spread
        # A number is a sum over the last hidden states, which are compared already, and its unit is not theirs.
        told = teacher.config.problem_type != REGRESSION
        self.with_outputs = told and not (teacher.loading and teacher.loading.head_is_untrained)
        self._tokens, self._rows = 1, 1

    def begin(self, indices: Indices) -> None:
        self._tokens, self._rows = int(self.split.lengths[indices].sum()), len(indices)

    def loss(self, model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            theirs = self.teacher.hidden_states(batch.tokens, batch.packed, batch.types)
        own = model.hidden_states(batch.tokens, batch.packed, batch.types)
        loss = squared_distance(own, theirs, self.spread) / self._tokens
        if self.with_outputs:
            with torch.no_grad():
                wanted = _wide(self.teacher.head(self.teacher.pool(theirs[-1], batch.packed)))
            given = _wide(model.head(model.pool(own[-1], batch.packed)))
            loss = loss + divergence(given, wanted, self.teacher.config.problem_type) / self._rows
        return loss, loss.new_zeros(())


def divergence(given: Tensor, wanted: Tensor, problem_type: ProblemType | None) -> Tensor:
    """Kullback and Leibler's, of the probabilities of logits [B, C] summed over the rows; each of several labels is a
    distribution of its own."""
    own, theirs = _log_probabilities(given, problem_type), _log_probabilities(wanted, problem_type)
    return F.kl_div(own, theirs, reduction="sum", log_target=True)


def _log_probabilities(logits: Tensor, problem_type: ProblemType | None) -> Tensor:
    if problem_type == MULTI_LABEL:
        return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)])
    return logits.log_softmax(1)


class HeldOut:
    """The distance on rows that are not learned from; where it grew, the student gets its first weights back.

    Where there is none to begin with, no step is taken.
    """

    def __init__(self, student: Classifier, teacher: Classifier, split: Split, rows: Indices, tokens: int) -> None:
        self.student, self.teacher, self.split, self.rows, self.tokens = student, teacher, split, rows, tokens
        self.device = next(student.parameters()).device
        self.watch = Stopwatch(self.device)
        self.factors: dict[str, float] = {}  # of the learning rate, of the parameters that learn faster
        self.before = self.after = math.nan
        self.first = {name: tensor.detach().clone() for name, tensor in student.blocks.state_dict().items()}
        with self.watch:
            self.spread = self._spread()

    def begin(self) -> None:
        with self.watch:
            self.before = self.after = self.distance()

    def after_epoch(self, epoch: int) -> Event:
        self.after = self.distance()
        if not math.isfinite(self.after):
            raise FloatingPointError(f"the distance from the teacher is {self.after}")
        return {"distance": self.after}

    def is_enough(self, epoch: int) -> bool:
        return self.has_nothing_to_teach

    def end(self, epoch: int) -> None:
        if not self.kept:
            self.student.blocks.load_state_dict(self.first)

    @property
    def has_nothing_to_teach(self) -> bool:
        """Whether the student answers as its teacher before it has learned."""
        return self.before <= ROUNDING

    @property
    def kept(self) -> bool:
        return self.after <= self.before

    @property
    def kept_distance(self) -> float:
        return min(self.before, self.after)

    def state(self) -> State:
        return State(values={"before": self.before})

    def load(self, state: State) -> None:
        self.before = self.after = state.values["before"]

    @torch.no_grad()
    def distance(self) -> float:
        total, was_training = 0.0, self.student.training
        self.student.eval()
        for batch in planned_batches(self.student, self._batches(), teacher=self.teacher):
            theirs = self.teacher.hidden_states(batch.tokens, batch.packed, batch.types)
            own = self.student.hidden_states(batch.tokens, batch.packed, batch.types)
            total += float(squared_distance(own, theirs, self.spread))
        self.student.train(was_training)
        return total / int(self.split.lengths[self.rows].sum())

    @torch.no_grad()
    def _spread(self) -> tuple[float, ...]:
        """Of each layer: the variance of the teacher's hidden states over the held-out tokens, mean over dimensions."""
        sums: list[Tensor] = []
        squares: list[Tensor] = []
        for batch in planned_batches(self.teacher, self._batches()):
            wide = [x.double() for x in self.teacher.hidden_states(batch.tokens, batch.packed, batch.types)[1:]]
            here = [x.sum(0) for x in wide], [x.square().sum() for x in wide]
            sums = [a + b for a, b in zip(sums, here[0], strict=True)] if sums else here[0]
            squares = [a + b for a, b in zip(squares, here[1], strict=True)] if squares else here[1]
        tokens = int(self.split.lengths[self.rows].sum())
        width = self.teacher.config.hidden_size
        spreads = [(s - m.square().sum() / tokens) / (tokens * width) for m, s in zip(sums, squares, strict=True)]
        return tuple(max(float(spread), 1e-12) for spread in spreads)

    def _batches(self) -> Iterator[Batch]:
        for part in micro_batches(self.rows, self.split.lengths, self.tokens):
            yield make_batch(self.split, part, self.device)


def squared_distance(own: list[Tensor], theirs: list[Tensor], spread: tuple[float, ...]) -> Tensor:
    """Over the blocks' hidden states [T, hidden], |own - theirs|² / spread: a sum over tokens, a mean over the rest."""
    parts = [
        (_wide(mine) - _wide(target)).square().mean(1).sum() / layer
        for mine, target, layer in zip(own[1:], theirs[1:], spread, strict=True)
    ]
    return torch.stack(parts).mean()


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
