"""The only training loop: batches in, weights changed in place, one line of history an epoch."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longread.attention.base import SelfAttention
from longread.config import RunConfig
from longread.data.dataset import Indices, Split, epoch_batches, micro_batches
from longread.data.reading import one_line
from longread.errors import ProcessLost, UserError
from longread.inference.collate import Batch, Usage, make_batch, planned_batches
from longread.models.classifier import Classifier
from longread.ops.row_gradients import RowGradients, clip
from longread.problems import MATCH
from longread.records import write_atomically
from longread.system import processes, sharding
from longread.system.measure import Stopwatch
from longread.system.memory import is_failed_allocation
from longread.training import state as states
from longread.training.average import WeightAverage
from longread.training.components import Evaluation, Objective
from longread.training.optimize import rate_at
from longread.training.parts import own_share, parts_of, passes_of
from longread.training.signals import Interrupted, StopRequest
from longread.training.state import State

log = logging.getLogger("longread")

Event = dict[str, Any]
SECONDS_BETWEEN_EVENTS = 0.5


class Diverged(Exception):
    """The loss or the gradient is no longer a number."""


class Trainer:
    """One run under way. `run` trains to the end; afterwards the model has the weights that `evaluation` keeps."""

    def __init__(
        self,
        model: Classifier,
        split: Split,
        objective: Objective,
        evaluation: Evaluation,
        optimizer: torch.optim.Optimizer,
        config: RunConfig,
        directory: Path,
        on_event: Callable[[Event], None],
        *,
        rows: Indices | None = None,
        steps: int | None = None,
    ) -> None:
        """`config` is resolved: nothing that training reads is left open. `rows` of `split` are seen (None: all).

        `steps`: how many updates (None: as many as `config.epochs` passes over the rows take).
        """
        assert config.tokens_per_micro_batch
        self.model, self.split, self.objective, self.evaluation = model, split, objective, evaluation
        self.optimizer, self.config, self.directory, self.on_event = optimizer, config, directory, on_event
        self.rows = np.arange(len(split)) if rows is None else rows
        self.device = next(model.parameters()).device
        self.tokens = config.tokens_per_micro_batch
        self.base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.trained = [p for p in model.parameters() if p.requires_grad]
        word = model.embeddings.word.weight
        self.sharded = sharding.is_sharded(model)
        # An accelerator clears a table in no time; shards of it are put together by who sharded them.
        own = word.requires_grad and self.device.type == "cpu" and not self.sharded
        self.table = model.embeddings.lookup = RowGradients(word) if own else None
        self.steps_per_epoch = -(-len(self.rows) // config.batch_size)
        self.steps = self.steps_per_epoch * (config.epochs or 1) if steps is None else steps
        self.epochs = -(-self.steps // self.steps_per_epoch)  # the last one may be cut short by `steps`
        self.average = WeightAverage(model, config.average_weights) if config.average_weights else None
        self.usage = Usage()
        self.watch = Stopwatch(self.device)
        self.history: list[Event] = []
        self.epoch, self.step = 0, 0  # finished epochs, and steps of all
        self.sums = [0.0, 0.0, 0.0]  # of the epoch under way: loss, correct rows, rows
        self.work_id = ""  # of the state, for finding it again (training/identity.py)
        self.save_seconds = config.save_seconds
        self._last_event, self._last_state = 0.0, time.monotonic()
        self._stop = StopRequest()
        self._all_stop = self._all_save = False  # of a run on several processes: as all of them know

    def run(self, resume_from: State | None = None) -> None:
        """Raises Diverged or Interrupted; what was learned until then is on disk."""
        if resume_from is None:
            self.evaluation.begin()
        else:
            try:
                self._load(resume_from)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise UserError(
                    f"{self.directory}: the saved state does not fit the run ({one_line(error)}); --restart begins anew"
                ) from error
        self.model.train(self.objective.drops)
        self._last_state = time.monotonic()
        try:
            with StopRequest(says=processes.count() == 1) as stop:
                self._stop = stop
                while self.epoch < self.epochs and not self.evaluation.is_enough(self.epoch):
                    self._train_epoch(stop)
                    self._finish_epoch(stop)
        finally:
            self.model.embeddings.lookup = None
            self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.exchange()
        self.evaluation.end(self.epoch)

    def _train_epoch(self, stop: StopRequest) -> None:
        batches = epoch_batches(len(self.rows), self.config.batch_size, self.config.seed, self.epoch)
        done = self.step - self.epoch * self.steps_per_epoch
        steps = [self.rows[places] for places in batches[done : done + self.steps - self.step]]
        with closing(self._planned(steps)) as planned:
            for indices in steps:
                try:
                    with self.watch:
                        loss = self._step(indices, planned)
                except ProcessLost as lost:  # no weight has been changed since the last step
                    self._save(self.evaluation.state(), lost)
                    raise
                self._report(loss)
                if stop.asked if processes.count() == 1 else self._all_stop:
                    self._save(self.evaluation.state())
                    raise Interrupted
                if self._is_due if processes.count() == 1 else self._all_save:
                    self._save(self.evaluation.state())

    @property
    def _is_due(self) -> bool:
        return time.monotonic() - self._last_state > self.save_seconds

    def _planned(self, steps: Sequence[Indices]) -> Generator[Batch]:
        """The micro-batches of all steps, one after the other, each made before the device has done the one before."""
        first = self.step

        def made() -> Iterator[Batch]:
            for step, indices in enumerate(steps, first):
                for part in parts_of(self.split, indices, step, self.config, self.tokens):
                    batch = make_batch(self.split, part.rows, self.device, part.kept)
                    batch.packed.noise = part.noise
                    yield batch
                for _ in range(self._idle_passes(indices, step)):
                    shortest = indices[np.argmin(self.split.lengths[indices])]
                    yield make_batch(self.split, np.array([shortest]), self.device)

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

    def _step(self, indices: Indices, planned: Iterator[Batch]) -> float:
        """One optimizer step on the rows `indices`, the next ones of `planned`; the mean loss over them.

        Diverged before weights are spoilt.
        """
        total, correct = self._accumulate(indices, planned)
        self._add_up(total, correct)
        norm = clip(
            self.trained, self.config.gradient_clip or math.inf, self.table, self._summed if self.sharded else None
        )
        mean_loss, right_rows, gradient = torch.stack([total, correct, norm.to(total)]).tolist()
        for name, value in (("loss", mean_loss), ("gradient", gradient)):
            if not math.isfinite(value):
                raise Diverged(f"the {name} is {value} at step {self.step + 1}; try a lower --learning-rate")
        self._update()
        self.sums = [self.sums[0] + mean_loss * len(indices), self.sums[1] + right_rows, self.sums[2] + len(indices)]
        return float(mean_loss)

    def _accumulate(self, indices: Indices, planned: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """The gradients of this process's share of the batch, one micro-batch after the other; its loss and its rows

        classified right.
        """
        self.objective.begin(indices)
        ordered, share = own_share(self.split, indices, self.step)
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
            for _ in range(self._idle_passes(indices, self.step)):
                loss, _ = self.objective.loss(self.model, next(planned))
                with torch.autocast(self.device.type, enabled=False):
                    (0 * loss).backward()
        return self._in_halves(indices, used) if too_much else (total, correct)

    def _pass(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Adds the gradients of a micro-batch; its loss and its rows classified right. Once failed it keeps nothing."""
        if batch.packed.noise is not None:
            batch.packed.noise.seed_generators()
        loss, right = self.objective.loss(self.model, batch)
        with torch.autocast(self.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), right

    def _in_halves(self, indices: Indices, used: Usage) -> tuple[Tensor, Tensor]:
        """The step again in smaller micro-batches, which are kept for the rest of the run: it is the same update."""
        self._drop_gradients()
        self.usage = used
        self.tokens = max(1, self.tokens // 2)
        log.warning(
            "step %d did not fit into memory: it is done again, %d tokens at a time", self.step + 1, self.tokens
        )
        with closing(self._planned([indices])) as planned:
            return self._accumulate(indices, planned)

    def _drop_gradients(self) -> None:
        for parameter in self.trained:
            if self.table is None or parameter is not self.table.weight:
                parameter.grad = None
        if self.table is not None:
            self.table.clear()

    def _summed(self, square: Tensor) -> Tensor:
        processes.add_up([square])
        return square

    def _add_up(self, total: Tensor, correct: Tensor) -> None:
        """Loss and gradients of the whole batch, on every process of the run; and whether any was asked to stop."""
        if processes.count() == 1:
            return
        due = self._is_due and processes.is_first()
        flags = torch.tensor([float(p.grad is not None) for p in self.trained] + [float(self._stop.asked), float(due)])
        processes.add_up([total, correct, flags])
        *has, asked, save = flags.tolist()
        self._all_stop, self._all_save = bool(asked), bool(save)
        if self.sharded:  # the gradients were added up as they came
            return
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

    def _update(self) -> None:
        factor = rate_at(self.step, self.steps, self.config)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        self._drop_gradients()
        self.step += 1
        for module in self.model.modules():
            if isinstance(module, SelfAttention):
                module.after_step(self.step)

    def _finish_epoch(self, stop: StopRequest) -> None:
        line: Event = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "train_loss": self.sums[0] / self.sums[2],
            "train_seconds": self.watch.seconds,
        }
        if (match := MATCH.get(self.split.problem_type)) is not None:
            line[f"train_{match}"] = self.sums[1] / self.sums[2]
        before = self.evaluation.state()
        try:
            with (
                # Shards are saved by all processes, which a signal would stop at different places.
                nullcontext() if self.sharded else stop.acting_at_once(),
                self.evaluation.watch,
                self.average.in_model() if self.average is not None else nullcontext(),
            ):
                line |= self.evaluation.after_epoch(self.epoch + 1)
        except FloatingPointError as error:
            raise Diverged(f"{error} after step {self.step}; try a lower --learning-rate") from error
        except (Interrupted, ProcessLost) as why:  # nothing was measured: the run goes on in front of this evaluation
            self._save(before, why)
            raise
        self.epoch += 1
        self.sums = [0.0, 0.0, 0.0]
        line["eval_seconds"] = self.evaluation.watch.seconds
        self.history.append(line)
        text = "".join(json.dumps(entry) + "\n" for entry in self.history)
        if processes.is_first():
            write_atomically(self.directory / "history.jsonl", text)
        self.on_event({"event": "epoch", **line})

    @property
    def rows_seen(self) -> int:
        """With repetitions; the last batch of an epoch may be smaller."""
        epochs, steps = divmod(self.step, self.steps_per_epoch)
        return epochs * len(self.rows) + steps * self.config.batch_size

    def _report(self, loss: float) -> None:
        now = time.monotonic()
        if now - self._last_event < SECONDS_BETWEEN_EVENTS:
            return
        self._last_event = now
        per_step = self.watch.seconds / self.step
        per_evaluation = self.evaluation.watch.seconds / self.epoch if self.epoch else 0.0
        left = (self.steps - self.step) * per_step + (self.epochs - self.epoch) * per_evaluation
        self.on_event(
            {
                "event": "progress",
                "epoch": self.epoch + 1,
                "epochs": self.epochs,
                "step": self.step,
                "steps": self.steps,
                "loss": loss,
                "learning_rate": rate_at(self.step - 1, self.steps, self.config) * (self.config.learning_rate or 0.0),
                "seconds_left": left,
            }
        )

    def _save(self, evaluation: State, why: Exception | None = None) -> None:
        """why: what ends the run here; where processes are lost, another one than the first may have to save."""
        if self.sharded and isinstance(why, ProcessLost):  # what the lost one held is gone; the state before is there
            return
        saves = why.speaks if isinstance(why, ProcessLost) else processes.is_first()  # they hold the same
        if not saves and not self.sharded:
            return
        watch, evaluating = self.watch, self.evaluation.watch
        state = State(
            values={
                "config": self.config.to_json(),
                "work_id": self.work_id,
                "epoch": self.epoch,
                "step": self.step,
                "steps": self.steps,
                "sums": self.sums,
                "history": self.history,
                "seconds": [watch.seconds, watch.cpu_seconds, evaluating.seconds, evaluating.cpu_seconds],
                "tokens_per_micro_batch": self.tokens,
                "usage": [self.usage.tokens, self.usage.slots, dict(self.usage.coverage)],
            }
        )
        state.add("model", State(states.whole(self.model.state_dict(), keep=saves)))
        optimizer = states.optimizer_state(self.optimizer)
        state.add("optimizer", State(states.whole(optimizer.tensors, keep=saves), optimizer.values))
        state.add("evaluation", State(states.whole(evaluation.tensors, keep=saves), evaluation.values))
        if not saves:
            return
        state.add("random", states.random_state())
        if self.average is not None:
            state.add("average", self.average.state())
        states.save_state(self.directory, state, self.step)
        self._last_state = time.monotonic()

    def _load(self, state: State) -> None:
        own = self.model.state_dict()
        self.model.load_state_dict({n: sharding.like(t, own.get(n, t)) for n, t in state.part("model").tensors.items()})
        states.load_optimizer_state(self.optimizer, state.part("optimizer"))
        self.evaluation.load(state.part("evaluation"))
        states.load_random_state(state.part("random"))
        if self.average is not None:
            self.average.load(state.part("average"))
        values = state.values
        self.epoch, self.step, self.sums, self.history = (
            values["epoch"], values["step"], values["sums"], values["history"],
        )  # fmt: skip
        watch, evaluating = self.watch, self.evaluation.watch
        watch.seconds, watch.cpu_seconds, evaluating.seconds, evaluating.cpu_seconds = values["seconds"]
        self.usage.tokens, self.usage.slots = values["usage"][:2]
        self.usage.coverage.update(values["usage"][2])
        self.tokens = values.get("tokens_per_micro_batch", self.tokens)
        self.on_event({"event": "resumed", "epoch": self.epoch, "step": self.step, "steps": self.steps})
