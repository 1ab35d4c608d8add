"""What is chosen on rows held out of train: the epoch that is kept, a temperature and thresholds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch

from longread.checks import close_match
from longread.config import RunConfig
from longread.errors import UserError
from longread.inference.calibration import TEMPERATURES, fit_temperature
from longread.inference.metrics import answers_of, mean_loss, metrics, per_class
from longread.inference.thresholds import choose_thresholds
from longread.models.classifier import Classifier
from longread.models.decision import Decision, with_threshold
from longread.problems import HEADLINE, IN_WORDS, MATCH, MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

log = logging.getLogger("longread")

OF_ONE_CLASS = "f1:"
CHOICES: dict[str, tuple[str, ...]] = {
    SINGLE_LABEL: ("accuracy", "f1", "f1_macro", "average_precision", "loss"),
    MULTI_LABEL: ("exact_match", "f1_micro", "f1_macro", "average_precision", "loss"),
    REGRESSION: ("mse", "mae", "spearman", "r2", "loss"),
}
LOWER_IS_BETTER = ("loss", "mse", "mae")
Array = npt.NDArray[Any]


def check_choices(config: RunConfig, label_names: Sequence[str], problem_type: ProblemType) -> None:
    """UserError for a metric, a temperature or a threshold that this kind of task does not have."""
    name, words = config.choose_by, IN_WORDS[problem_type]
    if name is not None and name.startswith(OF_ONE_CLASS) and problem_type != REGRESSION:
        wanted = name.removeprefix(OF_ONE_CLASS)
        if wanted not in label_names:
            raise UserError(f"--choose-by {name}: the labels are {', '.join(label_names)}")
    elif name is not None and name not in CHOICES[problem_type]:
        names = CHOICES[problem_type]
        one = "" if problem_type == REGRESSION else ", or f1:LABEL"
        close = close_match(name, names)
        raise UserError(f"--choose-by {name}: a task of {words} has {', '.join(names)}{one}{close}")
    if config.calibrate and problem_type == REGRESSION:
        raise UserError(f"--calibrate: a task of {words} has no probabilities")
    if config.choose_threshold is not None and not with_threshold(label_names, problem_type):
        raise UserError(
            "--choose-threshold: only for two classes, or where a text may have any number of labels; "
            f"this is a task of {words}" + (f" out of {len(label_names)}" if problem_type == SINGLE_LABEL else "")
        )


def score(
    config: RunConfig, labels: Array, answers: Array, loss: float, label_names: Sequence[str], problem_type: ProblemType
) -> tuple[str, float]:
    """The metric that an epoch is chosen by, and its value on the held-out rows."""
    name = config.choose_by or HEADLINE[problem_type]
    if name == "loss":
        return name, loss
    if name.startswith(OF_ONE_CLASS):
        table, _ = per_class(labels, answers, label_names, problem_type)
        return name, table[name.removeprefix(OF_ONE_CLASS)]["f1"]
    return name, metrics(labels, answers, problem_type)[name]


def is_better(name: str, value: float, best: float | None) -> bool:
    return best is None or (value < best if name in LOWER_IS_BETTER else value > best)


def decide(
    config: RunConfig,
    logits: Array,
    labels: Array,
    label_names: Sequence[str],
    problem_type: ProblemType,
    *,
    needed: bool = False,
) -> Decision:
    """A temperature, which has to go into the model's weights, and thresholds, as far as `config` asks for them.

    `logits` [R, C] are the model's for held-out rows. The thresholds are of the probabilities behind the temperature.
    needed: UserError, not a warning, where these rows tell no temperature.
    """
    temperature = thresholds = None
    if config.calibrate:
        temperature = _temperature(logits, labels, problem_type, needed)
        if temperature is not None:
            logits = logits / temperature
    if config.choose_threshold is not None:
        found = _thresholds(config, labels, answers_of(logits, problem_type), label_names, problem_type)
        thresholds = dict(zip(with_threshold(label_names, problem_type), found, strict=True))
        told = ", ".join(f"{name} above {value:.3f}" for name, value in thresholds.items())
        log.info("thresholds, chosen on %s held-out rows: %s", f"{len(labels):,}", told)
    if temperature is None and thresholds is None:
        return Decision()
    return Decision(thresholds, config.choose_threshold, temperature, len(labels))


def _temperature(logits: Array, labels: Array, problem_type: ProblemType, needed: bool) -> float | None:
    """None, with a warning, where the best one is as low as any or as high as any."""
    found = fit_temperature(logits, labels, problem_type)
    before, after, low, high = (mean_loss(logits / by, labels, problem_type) for by in (1.0, found, *TEMPERATURES))
    rows = f"{len(labels):,}"
    if min(low, high) <= after + 1e-6:
        right = metrics(labels, answers_of(logits, problem_type), problem_type)[MATCH[problem_type]] == 1.0
        too_small = "all of them are answered right" if right else "the logits are all near 0: train for longer"
        why = too_small if low < high else "the answers to them are no better than chance"
        told = f"{rows} rows tell no temperature: {why}"
        if needed:
            raise UserError(f"{told}; give more, or other ones" if right or low >= high else told)
        log.warning("%s; none is chosen", told)
        return None
    log.info("temperature %.3f: the loss on %s held-out rows was %.4f and is %.4f", found, rows, before, after)
    return found


def _thresholds(
    config: RunConfig, labels: Array, answers: Array, label_names: Sequence[str], problem_type: ProblemType
) -> tuple[float, ...]:
    """Of two classes the second's; chosen for the F1 of the first, where `--choose-by f1:LABEL` names that one."""
    metric = config.choose_threshold
    assert metric is not None
    if problem_type == SINGLE_LABEL and metric == "f1" and config.choose_by == f"{OF_ONE_CLASS}{label_names[0]}":
        (of_first,) = choose_thresholds(1 - labels, answers[:, ::-1], metric, problem_type)
        return (1 - of_first,)
    return choose_thresholds(labels, answers, metric, problem_type)


@torch.no_grad()
def scale_logits(model: Classifier, temperature: float) -> None:
    """Divides the model's logits by `temperature`, in its weights: the last layer is linear."""
    last = model.head.classifier
    last.weight.div_(temperature)
    last.bias.div_(temperature)
