"""The gradients of one optimizer step: its rows as micro-batches under a token budget, on one process or on several."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from longread.config import RunConfig
from longread.data.batches import Indices, micro_batches
from longread.data.dataset import Split
from longread.inference.collate import Batch, Usage, make_batch, planned_batches
from longread.models.classifier import Classifier
from longread.ops.row_gradients import RowGradients, clip
from longread.system import processes, sharding
from longread.system.memory import is_failed_allocation
from longread.training.components import Objective
from longread.training.parts import own_share, parts_of, passes_of

log = logging.getLogger("longread")


class Gradients:
    """What a model's parameters hold between two updates. `tokens`: of one micro-batch; halved where memory is short.

    `usage`: what was computed so far. `table`: the gradient of the word embeddings by its rows, None where it is whole.
    """

    def __init__(self, model: Classifier, split: Split, objective: Objective, config: RunConfig) -> None:
        assert config.tokens_per_micro_batch
        self.model, self.split, self.objective, self.config = model, split, objective, config
        self.device = next(model.parameters()).device
        self.tokens = config.tokens_per_micro_batch
        self.usage = Usage()
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.sharded = sharding.is_sharded(model)
        word = model.embeddings.word.weight
        # An accelerator clears a table in no time; shards of it are put together by who sharded them.
        # A decoder tied to the table gives every row of it a gradient.
        tied = model.masked_head is not None
        own = word.requires_grad and self.device.type == "cpu" and not self.sharded and not tied
        self.table = model.embeddings.lookup = RowGradients(word) if own else None

    def planned(self, steps: Iterable[Indices], first: int) -> Generator[Batch]:
        """The micro-batches of all steps from the `first` on, each made before the device has done the one before."""

        def made() -> Iterator[Batch]:
            for step, indices in enumerate(steps, first):
                for part in parts_of(self.split, indices, step, self.config, self.tokens):
                    batch = make_batch(self.split, part.rows, self.device, part.kept, self.objective.masking, step)
                    batch.packed.noise = part.noise
                    yield batch
                for _ in range(self._idle_passes(indices, step)):
                    shortest = indices[np.argmin(self.split.lengths[indices])]
                    yield make_batch(self.split, np.array([shortest]), self.device, None, self.objective.masking, step)

        return planned_batches(
            self.model, made(), precision=self.config.precision, gradients=True, teacher=self.objective.teacher
        )

    def _idle_passes(self, indices: Indices, step: int) -> int:
        """Where weights are in shards, all processes compute equally often: what this one computes for nothing."""
        if not self.sharded:
            return 0
        ordered, share = own_share(self.split, indices, step)
        own = sum(1 for _ in micro_batches(ordered[share], self.split.lengths, self.tokens))
        return passes_of(self.split, indices, step, self.tokens) - own

    def accumulate(self, indices: Indices, planned: Iterator[Batch], step: int) -> tuple[Tensor, Tensor]:
        """The gradients of this process's share of the batch, one micro-batch after the other; its loss and its rows

        classified right.
        """
        self.objective.begin(indices)
        ordered, share = own_share(self.split, indices, step)
        too_much, used = False, self.usage.copy()
        left = share.stop - share.start
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.float64, device=self.device)
        # One autocast context for all micro-batches: the weights are cast once a step.
        with torch.autocast(self.device.type, torch.bfloat16, self.config.precision == "bfloat16"):
            while left:
                batch = next(planned)
                left -= len(batch.labels)
                if too_much:
                    continue
                try:
                    loss, right = self._pass(batch)
                except Exception as error:
                    shortest = int(self.split.lengths[ordered[share]].min())
                    on_one = processes.count() == 1 and not self.sharded
                    if not (is_failed_allocation(error) and on_one and self.tokens > shortest):
                        raise
                    too_much = True
                    continue
                total += loss
                correct += right
                self.usage.add(self.model, batch.packed)
            for _ in range(self._idle_passes(indices, step)):
                loss, _ = self.objective.loss(self.model, next(planned))
                with torch.autocast(self.device.type, enabled=False):
                    (0 * loss).backward()
        return self._in_halves(indices, used, step) if too_much else (total, correct)

    def _pass(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Adds the gradients of a micro-batch; its loss and its rows classified right. Once failed it keeps nothing."""
        if batch.packed.noise is not None:
            batch.packed.noise.seed_generators()
        loss, right = self.objective.loss(self.model, batch)
        with torch.autocast(self.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), right

    def _in_halves(self, indices: Indices, used: Usage, step: int) -> tuple[Tensor, Tensor]:
        """The step again in smaller micro-batches, which are kept for the rest of the run: it is the same update."""
        self.drop()
        self.usage = used
        self.tokens = max(1, self.tokens // 2)
        log.warning("step %d did not fit into memory: it is done again, %d tokens at a time", step + 1, self.tokens)
        with closing(self.planned([indices], step)) as planned:
            return self.accumulate(indices, planned, step)

    def drop(self) -> None:
        for parameter in self.trained:
            if self.table is None or parameter is not self.table.weight:
                parameter.grad = None
        if self.table is not None:
            self.table.clear()

    def add_up(self, total: Tensor, correct: Tensor, asked: bool, due: bool) -> tuple[bool, bool]:
        """Loss and gradients of the whole batch, on every process of a run on several.

        Whether any of them was `asked` to stop, and whether the first is `due` to save: what all of them then do.
        """
        flags = torch.tensor([float(p.grad is not None) for p in self.trained] + [float(asked), float(due)])
        processes.add_up([total, correct, flags])
        *has, any_asked, save = flags.tolist()
        if not self.sharded:  # else the gradients were added up as they came
            self._add_gradients(has)
        return bool(any_asked), bool(save)

    def _add_gradients(self, has: Sequence[float]) -> None:
        """has: for each trained parameter, on how many processes it has a gradient."""
        grads = []
        for parameter, some in zip(self.trained, has, strict=True):
            if some and (self.table is None or parameter is not self.table.weight):
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                grads.append(parameter.grad)
        if self.table is not None:
            self.table.see(processes.all_of(self.table.rows))
            own = self.table.gradient()
            grads.append(own)
        processes.add_up(grads)
        if self.table is not None:
            self.table.replace(own)

    def clip(self) -> Tensor:
        """The norm of all gradients before they are made shorter."""
        summed = self._summed if self.sharded else None
        return clip(self.trained, self.config.gradient_clip or math.inf, self.table, summed)

    def _summed(self, square: Tensor) -> Tensor:
        processes.add_up([square])
        return square
