"""The only training loop: batches in, weights changed in place, one line of history an epoch."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import torch

from longread.attention.base import SelfAttention
from longread.config import RunConfig
from longread.data.batches import EpochBatches, Indices
from longread.data.dataset import Split
from longread.errors import ProcessLost, UserError, one_line
from longread.inference.collate import Batch
from longread.models.classifier import Classifier
from longread.problems import MATCH
from longread.records import write_atomically
from longread.system import processes, sharding
from longread.system.allocator import give_back_memory
from longread.system.measure import Stopwatch
from longread.training import state as states
from longread.training.average import WeightAverage
from longread.training.components import Evaluation, Objective
from longread.training.events import SECONDS_BETWEEN_EVENTS, Event, Listener
from longread.training.gradients import Gradients
from longread.training.optimize import rate_at
from longread.training.signals import Interrupted, StopRequest
from longread.training.state import State

log = logging.getLogger("longread")


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
        on_event: Listener,
        *,
        rows: Indices | None = None,
        steps: int | None = None,
    ) -> None:
        """`config` is resolved: nothing that training reads is left open. `rows` of `split` are seen (None: all).

        `steps`: how many updates (None: as many as `config.epochs` passes over the rows take).
        """
        self.model, self.split, self.objective, self.evaluation = model, split, objective, evaluation
        self.optimizer, self.config, self.directory, self.on_event = optimizer, config, directory, on_event
        self.rows = rows
        self.num_rows = len(split) if rows is None else len(rows)
        self.base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.gradients = Gradients(model, split, objective, config)
        self.steps_per_epoch = -(-self.num_rows // config.batch_size)
        self.steps = self.steps_per_epoch * (config.epochs or 1) if steps is None else steps
        self.epochs = -(-self.steps // self.steps_per_epoch)  # the last one may be cut short by `steps`
        self.average = WeightAverage(model, config.average_weights) if config.average_weights else None
        self.watch = Stopwatch(self.gradients.device)
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
        batches = EpochBatches(self.num_rows, self.config.batch_size, self.config.seed, self.epoch)
        done = self.step - self.epoch * self.steps_per_epoch
        places = range(done, min(len(batches), done + self.steps - self.step))

        def steps() -> Iterator[Indices]:
            for place in places:
                yield batches[place] if self.rows is None else self.rows[batches[place]].astype(np.int64)

        with closing(self.gradients.planned(steps(), self.step)) as planned:
            for indices in steps():
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

    def _step(self, indices: Indices, planned: Iterator[Batch]) -> float:
        """One optimizer step on the rows `indices`, the next ones of `planned`; the mean loss over them.

        Diverged before weights are spoilt.
        """
        total, correct = self.gradients.accumulate(indices, planned, self.step)
        if processes.count() > 1:
            due = self._is_due and processes.is_first()
            self._all_stop, self._all_save = self.gradients.add_up(total, correct, self._stop.asked, due)
        norm = self.gradients.clip()
        mean_loss, right_rows, gradient = torch.stack([total, correct, norm.to(total)]).tolist()
        for name, value in (("loss", mean_loss), ("gradient", gradient)):
            if not math.isfinite(value):
                raise Diverged(f"the {name} is {value} at step {self.step + 1}; try a lower --learning-rate")
        self._update()
        self.sums = [self.sums[0] + mean_loss * len(indices), self.sums[1] + right_rows, self.sums[2] + len(indices)]
        return float(mean_loss)

    def _update(self) -> None:
        factor = rate_at(self.step, self.steps, self.config)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        self.gradients.drop()
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
        if self.split.encoded.maps is not None:  # what training has used does not add up with what evaluation takes
            self.split.release()
            give_back_memory()
        try:
            with (
                # Shards are saved by all processes, which a signal would stop at different places.
                nullcontext() if self.gradients.sharded else stop.acting_at_once(),
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
            if self.split.files is not None:
                self.split.files.say_what_changed()
        self.on_event({"event": "epoch", **line})

    @property
    def rows_seen(self) -> int:
        """With repetitions; the last batch of an epoch may be smaller."""
        epochs, steps = divmod(self.step, self.steps_per_epoch)
        return epochs * self.num_rows + steps * self.config.batch_size

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
        if self.gradients.sharded and isinstance(
            why, ProcessLost
        ):  # what the lost one held is gone; the state before is there
            return
        saves = why.speaks if isinstance(why, ProcessLost) else processes.is_first()  # they hold the same
        if not saves and not self.gradients.sharded:
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
                "tokens_per_micro_batch": self.gradients.tokens,
                "usage": [self.gradients.usage.tokens, self.gradients.usage.slots, dict(self.gradients.usage.coverage)],
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
        self.gradients.usage.tokens, self.gradients.usage.slots = values["usage"][:2]
        self.gradients.usage.coverage.update(values["usage"][2])
        self.gradients.tokens = values.get("tokens_per_micro_batch", self.gradients.tokens)
        self.on_event({"event": "resumed", "epoch": self.epoch, "step": self.step, "steps": self.steps})
