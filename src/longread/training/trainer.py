"""The only training loop: batches in, weights changed in place, one line of history an epoch."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from longread.attention import SelfAttention
from longread.config import RunConfig
from longread.data.dataset import Prepared, Split, epoch_batches, micro_batches
from longread.inference.collate import Usage, make_batch, planned_batches
from longread.inference.evaluate import Predictions, metrics, predict_split
from longread.models.classifier import Classifier
from longread.ops.row_gradients import RowGradients, clip
from longread.records import write_atomically
from longread.system.measure import Stopwatch
from longread.training.average import WeightAverage
from longread.training.optimize import make_optimizer, rate_at
from longread.training.state import load_state, save_state

Event = dict[str, Any]
SECONDS_BETWEEN_EVENTS = 0.5
SECONDS_BETWEEN_STATES = 180.0


class Diverged(Exception):
    """The loss is no longer a number."""


class Interrupted(Exception):
    """Somebody asked the run to stop; its state is on disk."""


class StopRequest:
    """Turns the first Ctrl-C (or SIGTERM) into a flag, read between steps; the second one acts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Trainer:
    """One run under way. `run` trains to the end; afterwards the model has the chosen epoch's weights."""

    def __init__(
        self, model: Classifier, data: Prepared, config: RunConfig, directory: Path, on_event: Callable[[Event], None]
    ) -> None:
        """`config` is resolved: epochs, learning rate, precision and token budget are numbers."""
        assert config.epochs and config.learning_rate and config.tokens_per_micro_batch
        self.model, self.data, self.config, self.directory = model, data, config, directory
        self.on_event = on_event
        self.device = next(model.parameters()).device
        self.tokens = config.tokens_per_micro_batch
        self.optimizer = make_optimizer(model, config, config.learning_rate)
        self.base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.trained = [p for p in model.parameters() if p.requires_grad]
        word = model.embeddings.word.weight
        own = word.requires_grad and self.device.type == "cpu"  # an accelerator clears a table in no time
        self.table = model.embeddings.lookup = RowGradients(word) if own else None
        self.steps_per_epoch = -(-len(data.train) // config.batch_size)
        self.steps = self.steps_per_epoch * config.epochs
        self.average = WeightAverage(model, config.average_weights) if config.average_weights else None
        self.usage = Usage()
        self.watch = Stopwatch(self.device)
        self.eval_watch = Stopwatch(self.device)
        self.weights = self._class_weights()
        self.best: dict[str, Tensor] | None = None
        self.best_accuracy, self.best_epoch = -1.0, 0
        self.history: list[Event] = []
        self.evaluated: Predictions | None = None  # of the evaluation rows, by the weights as they are
        self.epoch, self.step = 0, 0  # finished epochs, and steps of all
        self.sums = [0.0, 0.0, 0.0]  # of the epoch under way: loss, correct rows, rows
        self._last_event = 0.0

    def run(self, resume: bool) -> None:
        """Raises Diverged or Interrupted; what was learned until then is on disk."""
        if resume:
            self._resume()
        self.model.train()
        self._last_state = time.monotonic()
        try:
            with StopRequest() as stop:
                while self.epoch < (self.config.epochs or 0) and not self._out_of_patience():
                    self._train_epoch(stop)
                    self._finish_epoch()
                    if stop.asked:
                        self._save()
                        raise Interrupted
        finally:
            self.model.embeddings.lookup = None
            self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.exchange()
        if self.best is not None:
            self.model.load_state_dict(self.best)
            if self.best_epoch != self.epoch:
                self.evaluated = None

    def predictions(self) -> Predictions:
        """Of the evaluation rows, after `run`."""
        if self.evaluated is None:
            self.evaluated = predict_split(self.model, self.data.evaluation, tokens=self.tokens, device=self.device)
        return self.evaluated

    def _train_epoch(self, stop: StopRequest) -> None:
        batches = epoch_batches(len(self.data.train), self.config.batch_size, self.config.seed, self.epoch)
        for indices in batches[self.step - self.epoch * self.steps_per_epoch :]:
            with self.watch:
                loss = self._step(indices)
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at step {self.step}; try a lower --learning-rate")
            self._report(loss)
            if stop.asked and self.step % self.steps_per_epoch:
                self._save()
                raise Interrupted
            if time.monotonic() - self._last_state > SECONDS_BETWEEN_STATES:
                self._save()

    def _step(self, indices: np.ndarray) -> float:
        """One optimizer step on the rows `indices`; the mean loss over them."""
        config, split = self.config, self.data.train
        labels = split.labels[indices]
        denominator = float(len(labels) if self.weights is None else self.weights.cpu().numpy()[labels].sum())
        dropped = np.random.default_rng([config.seed, 1, self.step]) if config.token_dropout else None
        total, correct = 0.0, 0
        # One autocast context for all micro-batches: the weights are cast once a step.
        with torch.autocast(self.device.type, torch.bfloat16, config.precision == "bfloat16"):
            parts = micro_batches(indices, split.lengths, self.tokens)
            made = (make_batch(split, part, self.device, config.token_dropout, dropped) for part in parts)
            for batch in planned_batches(self.model, made, precision=config.precision, gradients=True):
                logits = self.model.classify(batch.tokens, batch.rows, batch.types)
                with torch.autocast(self.device.type, enabled=False):
                    loss = (
                        F.cross_entropy(
                            logits.float() if logits.dtype != torch.float64 else logits,
                            batch.labels,
                            self.weights,
                            reduction="sum",
                            label_smoothing=config.label_smoothing,
                        )
                        / denominator
                    )
                    loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
                correct += int((logits.detach().argmax(1) == batch.labels).sum())
                self.usage.add(self.model, batch.rows)
        if config.gradient_clip:
            clip(self.trained, config.gradient_clip, self.table)
        factor = rate_at(self.step, self.steps, config)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        for parameter in self.trained:
            if self.table is None or parameter is not self.table.weight:
                parameter.grad = None
        if self.table is not None:
            self.table.clear()
        self.step += 1
        for module in self.model.modules():
            if isinstance(module, SelfAttention):
                module.after_step(self.step)
        self.sums = [self.sums[0] + total * len(indices), self.sums[1] + correct, self.sums[2] + len(indices)]
        return total

    def _finish_epoch(self) -> None:
        self.epoch += 1
        line: Event = {
            "epoch": self.epoch,
            "step": self.step,
            "train_loss": self.sums[0] / self.sums[2],
            "train_accuracy": self.sums[1] / self.sums[2],
            "train_seconds": self.watch.seconds,
        }
        self.sums = [0.0, 0.0, 0.0]
        with self.eval_watch, self.average.in_model() if self.average is not None else nullcontext():
            self.evaluated = predict_split(self.model, self.data.evaluation, tokens=self.tokens, device=self.device)
            line |= _summary("eval", self.data.evaluation, self.evaluated)
            if self.data.selection is not None:
                selected = predict_split(self.model, self.data.selection, tokens=self.tokens, device=self.device)
                line |= _summary("selection", self.data.selection, selected)
                if line["selection_accuracy"] > self.best_accuracy:
                    self.best_accuracy, self.best_epoch = line["selection_accuracy"], self.epoch
                    if self.config.choose_epoch == "best":
                        self.best = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        line["eval_seconds"] = self.eval_watch.seconds
        self.history.append(line)
        text = "".join(json.dumps(entry) + "\n" for entry in self.history)
        write_atomically(self.directory / "history.jsonl", text)
        self.on_event({"event": "epoch", **line})

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return patience is not None and self.epoch - self.best_epoch >= patience and self.best_epoch > 0

    @property
    def chosen_epoch(self) -> int:
        return self.best_epoch if self.best is not None else self.epoch

    def _class_weights(self) -> Tensor | None:
        if self.config.class_weights == "none":
            return None
        counts = np.bincount(self.data.train.labels, minlength=self.model.config.num_labels)
        weights = len(self.data.train) / (len(counts) * np.maximum(counts, 1))
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    def _report(self, loss: float) -> None:
        now = time.monotonic()
        if now - self._last_event < SECONDS_BETWEEN_EVENTS:
            return
        self._last_event = now
        per_step = self.watch.seconds / self.step
        per_evaluation = self.eval_watch.seconds / self.epoch if self.epoch else 0.0
        left = (self.steps - self.step) * per_step + ((self.config.epochs or 0) - self.epoch) * per_evaluation
        self.on_event(
            {
                "event": "progress",
                "epoch": self.epoch + 1,
                "epochs": self.config.epochs,
                "step": self.step,
                "steps": self.steps,
                "loss": loss,
                "seconds_left": left,
            }
        )

    def _save(self) -> None:
        position = {
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
            "seconds": [
                self.watch.seconds,
                self.watch.cpu_seconds,
                self.eval_watch.seconds,
                self.eval_watch.cpu_seconds,
            ],
            "best": [self.best_accuracy, self.best_epoch],
            "usage": [self.usage.tokens, self.usage.slots, dict(self.usage.kinds)],
            "config": self.config.to_json(),
            "averaged_steps": self.average.updates if self.average is not None else 0,
        }
        mean = self.average.state() if self.average is not None else None
        save_state(self.directory, self.model, self.optimizer, self.best, mean, position)
        self._last_state = time.monotonic()

    def _resume(self) -> None:
        self.best, mean, position = load_state(self.directory, self.model, self.optimizer)
        if self.average is not None:
            self.average.load(mean, position["averaged_steps"])
        self.epoch, self.step, self.sums = position["epoch"], position["step"], position["sums"]
        self.history = position["history"]
        self.watch.seconds, self.watch.cpu_seconds, self.eval_watch.seconds, self.eval_watch.cpu_seconds = position[
            "seconds"
        ]
        self.best_accuracy, self.best_epoch = position["best"]
        self.usage.tokens, self.usage.slots = position["usage"][:2]
        self.usage.kinds.update(position["usage"][2])
        self.on_event({"event": "resumed", "epoch": self.epoch, "step": self.step, "steps": self.steps})


def _summary(name: str, split: Split, done: Predictions) -> Event:
    accuracy = metrics(split.labels, done.probabilities)["accuracy"]
    return {f"{name}_loss": done.loss, f"{name}_accuracy": accuracy}
