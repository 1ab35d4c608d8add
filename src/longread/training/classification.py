"""Training on labels of any problem type: the loss, and what is measured after each epoch."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longread import records
from longread.config import RunConfig
from longread.data.batches import Indices
from longread.data.dataset import Prepared, Split
from longread.inference.attention_maps import attention_map
from longread.inference.collate import Batch
from longread.inference.evaluate import Predictions, predict_split, split_logits
from longread.inference.metrics import metrics
from longread.inference.quality import closer_look
from longread.inference.scored import write_answers
from longread.models.classifier import Classifier
from longread.problems import HEADLINE, MATCH
from longread.system import sharding
from longread.system.measure import Stopwatch
from longread.training.balance import weights_of
from longread.training.choice import decide, is_better, scale_logits, score
from longread.training.events import EvaluationEvents, Event, Listener, ignore
from longread.training.losses import make_loss
from longread.training.numbers import spread_of
from longread.training.optimize import make_optimizer
from longread.training.state import State
from longread.training.trainer import Trainer
from longread.training.work import Work

log = logging.getLogger("longread")


class Classification:
    """The loss of the problem's type, the mean over a batch's rows; weighted by class, the weighted mean."""

    drops = True
    teacher = masking = None

    def __init__(self, split: Split, config: RunConfig, device: torch.device) -> None:
        self.split = split
        weights = weights_of(split, config.class_weights)
        self.problem_loss = make_loss(split.problem_type, weights, config.label_smoothing, device)
        self._denominator = 1.0

    def begin(self, indices: Indices) -> None:
        self._denominator = self.problem_loss.denominator(self.split.labels[indices])

    def loss(self, model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model.classify(batch.tokens, batch.packed, batch.types)
        with torch.autocast(logits.device.type, enabled=False):
            wide = batch.by_text(logits.to(torch.promote_types(logits.dtype, torch.float32)), self.split.problem_type)
            loss = self.problem_loss.part(wide, batch.labels)
        return loss / self._denominator, self.problem_loss.matches(wide.detach(), batch.labels)


class Validation:
    """Predicts the evaluation rows after each epoch, and the rows that were held out of train to choose an epoch."""

    def __init__(self, model: Classifier, data: Prepared, config: RunConfig, on_event: Listener = ignore) -> None:
        self.model, self.data, self.on_event = model, data, on_event
        self.device = next(model.parameters()).device
        self.tokens = config.tokens_per_micro_batch or 0
        self.config, self.patience, self.keeps_best = config, config.patience, config.keeps_best
        self.watch = Stopwatch(self.device)
        self.best: dict[str, Tensor] | None = None
        self.best_value: float | None = None  # of the metric that an epoch is chosen by
        self.best_epoch = 0
        self.chosen_epoch = 0
        self._predicted: Predictions | None = None  # by the weights as they are

    def begin(self) -> None:
        """Nothing is measured before the first step."""

    def after_epoch(self, epoch: int) -> Event:
        self._predicted = self._predict(self.data.evaluation)
        line = _summary("eval", self.data.evaluation, self._predicted)
        if self.data.selection is not None:
            rows, done = self.data.selection, self._predict(self.data.selection)
            line |= _summary("selection", rows, done)
            name, value = score(self.config, rows.labels, done.answers, done.loss, rows.label_names, rows.problem_type)
            line[f"selection_{name}"] = value
            if is_better(name, value, self.best_value):
                self.best_value, self.best_epoch = value, epoch
                if self.keeps_best:
                    self.best = {k: self._kept(v) for k, v in self.model.state_dict().items()}
        return line

    def is_enough(self, epoch: int) -> bool:
        return self.patience is not None and epoch - self.best_epoch >= self.patience and self.best_epoch > 0

    def end(self, epoch: int) -> None:
        self.chosen_epoch = epoch
        if self.best is not None:
            self.chosen_epoch = self.best_epoch
            self.model.load_state_dict(self.best)
            if self.best_epoch != epoch:
                self._predicted = None
        name = self.config.choose_by or HEADLINE[self.data.evaluation.problem_type]
        if epoch < (self.config.epochs or epoch) and self.is_enough(epoch):
            told = "--patience %d ends training after epoch %d of %d: %s on the held-out rows was best after epoch %d"
            log.info(told, self.patience, epoch, self.config.epochs, name, self.best_epoch)
        if self.keeps_best:
            log.info("epoch %d is kept: %s %.4f on the held-out rows", self.chosen_epoch, name, self.best_value)
        if self.config.calibrate or self.config.choose_threshold is not None:
            self._decide()

    def _decide(self) -> None:
        rows = self.data.selection
        assert rows is not None
        logits = split_logits(
            self.model, rows, tokens=self.tokens, device=self.device, precision=self.config.eval_precision,
            on_rows=self._events(rows),
        ).logits  # fmt: skip
        self.model.decision = decide(self.config, logits, rows.labels, rows.label_names, rows.problem_type)
        if self.model.decision.temperature is not None:
            scale_logits(self.model, self.model.decision.temperature)
            self._predicted = None

    def predictions(self) -> Predictions:
        """Of the evaluation rows, by the weights that are kept."""
        if self._predicted is None:
            self._predicted = self._predict(self.data.evaluation)
        return self._predicted

    def state(self) -> State:
        return State(dict(self.best or {}), {"value": self.best_value, "epoch": self.best_epoch})

    def load(self, state: State) -> None:
        own = self.model.state_dict()
        self.best = {name: sharding.like(tensor, own[name]) for name, tensor in state.tensors.items()} or None
        self.best_value, self.best_epoch = state.values["value"], state.values["epoch"]

    def _kept(self, tensor: Tensor) -> Tensor:
        """A copy; shards stay where they are."""
        return tensor.detach().clone() if sharding.is_sharded(self.model) else tensor.detach().cpu().clone()

    def _events(self, split: Split) -> EvaluationEvents:
        return EvaluationEvents("held-out" if split is self.data.selection else "evaluation", len(split), self.on_event)

    def _predict(self, split: Split) -> Predictions:
        with np.errstate(all="ignore"):  # what is no number is said below
            done = predict_split(
                self.model, split, tokens=self.tokens, device=self.device, precision=self.config.eval_precision,
                on_rows=self._events(split),
            )  # fmt: skip
        split.release()
        if not math.isfinite(done.loss):
            raise FloatingPointError(f"the loss on the {split.name} rows is {done.loss}")
        return done


def classification_trainer(
    model: Classifier, data: Prepared, config: RunConfig, directory: Path, on_event: Listener
) -> Trainer:
    """`config` is resolved: epochs, learning rate, precision and token budget are numbers."""
    assert config.epochs and config.learning_rate
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, config, config.learning_rate, spread_of(data.train))
    objective = Classification(data.train, config, device)
    return Trainer(
        model, data.train, objective, Validation(model, data, config, on_event), optimizer, config, directory, on_event
    )


def _summary(name: str, split: Split, done: Predictions) -> dict[str, Any]:
    headline = HEADLINE[split.problem_type]
    value = metrics(split.labels, done.answers, split.problem_type)[headline]
    return {f"{name}_loss": done.loss, f"{name}_{headline}": value}


@dataclass(frozen=True, kw_only=True)
class ClassificationWork(Work):
    """Training on labels, evaluated on the task's evaluation rows."""

    data: Prepared

    kind = "train"

    @property
    def splits(self) -> dict[str, Split]:
        selection = {} if self.data.selection is None else {"selection": self.data.selection}
        return {"train": self.data.train, "eval": self.data.evaluation} | selection

    def named(self, config: RunConfig) -> dict[str, Any]:
        return config.named()

    def trainer(self, config: RunConfig, directory: Path, on_event: Listener) -> Trainer:
        return classification_trainer(self.model, self.data, config, directory, on_event)

    def results(self, trainer: Trainer) -> dict[str, Any]:
        validation = trainer.evaluation
        assert isinstance(validation, Validation)
        done, chosen, rows = validation.predictions(), validation.chosen_epoch, self.data.evaluation
        decision = self.model.decision
        thresholds = decision.of(rows.label_names)
        found = metrics(rows.labels, done.answers, rows.problem_type, thresholds) | {"loss": done.loss}
        if rows.problem_type in MATCH:
            name = f"train_{MATCH[rows.problem_type]}"
            found[name] = trainer.history[chosen - 1][name]
        return {
            "metrics": found,
            **closer_look(
                rows.labels,
                done.answers,
                rows.label_names,
                rows.problem_type,
                thresholds=thresholds,
                tokens=rows.tokens_read,
                truncated=rows.encoded.truncated,
                tokens_in_text=rows.encoded.whole,
            ),
            "decision": decision.to_json() or None,
            "chosen_epoch": chosen,
            "eval_seconds": done.seconds,
            "cpu_seconds": done.cpu_seconds,
            "samples_per_second": len(self.data.evaluation) / done.seconds,
            "tokens_per_second": done.usage.tokens / done.seconds,
            "effective_attention": done.usage.effective_attention,
            "kernels": tuple(sorted(done.usage.kernels)) or None,
        }

    def write(self, trainer: Trainer, directory: Path) -> None:
        assert isinstance(trainer.evaluation, Validation)
        evaluation, done = self.data.evaluation, trainer.evaluation.predictions()
        write_answers(directory, evaluation, done.answers, self.model.decision.of(evaluation.label_names))
        # No line for each number: that would be four times the bytes.
        records.write_json(directory / "attention_map.json", attention_map(self.model, self.data), indent=None)
