"""What was chosen on held-out rows behind the training, and how a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from longread.errors import UserError
from longread.models.classifier import Classifier

DECISION = "longread_decision"  # key of config.json, and of an exported graph's metadata


@dataclass(frozen=True)
class Decision:
    """`thresholds`: label -> the probability above which it is given (of two classes: of the second one alone).

    `temperature` is in the weights already: the last layer is divided by it, so that whatever reads them has it.
    `threshold_metric`: what the thresholds are the best of; `rows`: how many held-out rows all was chosen on.
    """

    thresholds: Mapping[str, float] | None = None
    threshold_metric: str | None = None
    temperature: float | None = None
    rows: int | None = None

    def of(self, label_names: Sequence[str]) -> tuple[float, ...] | None:
        """The thresholds in the order of the labels that have one; None where none was chosen."""
        if self.thresholds is None:
            return None
        return tuple(self.thresholds[name] for name in label_names if name in self.thresholds)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_json(cls, told: Any, where: str) -> Decision:
        """UserError for what is no decision."""
        if told is None:
            return cls()
        try:
            thresholds = told.get("thresholds")
            own = None if thresholds is None else {str(name): float(value) for name, value in thresholds.items()}
            return cls(own, told.get("threshold_metric"), told.get("temperature"), told.get("rows"))
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{where}: {DECISION} must be an object with thresholds of labels ({error})") from error


@torch.no_grad()
def scale_logits(model: Classifier, temperature: float) -> None:
    """Divides the model's logits by `temperature`, in its weights: the last layer is linear."""
    last = model.head.classifier
    for parameter in (last.weight, last.bias):
        if parameter is not None:
            parameter.div_(temperature)
