"""The loss of each problem type, as transformers has it, in parts that add up to the whole batch's.

Cross entropy for one class, binary cross entropy with logits for several labels (the mean over rows and labels), the
mean squared error for a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from longread.problems import MULTI_LABEL, REGRESSION, ProblemType


@dataclass(frozen=True)
class Loss:
    """`weights` float32 [C] or None: of the classes, or of the rows that have a label (BCE's `pos_weight`)."""

    problem_type: ProblemType
    weights: Tensor | None = None
    label_smoothing: float = 0.0

    def denominator(self, labels: npt.NDArray[Any]) -> float:
        """What `part` is divided by, from the labels of the whole batch."""
        if self.problem_type == MULTI_LABEL:
            return float(labels.size)
        if self.weights is None:
            return float(len(labels))
        return float(self.weights.double().cpu().numpy()[labels].sum())

    def part(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over the rows of logits [B, C]; labels int64 [B], float [B, C] or float [B]."""
        weights = None if self.weights is None else self.weights.to(logits.dtype)
        if self.problem_type == REGRESSION:
            return F.mse_loss(logits[:, 0], labels.to(logits.dtype), reduction="sum")
        if self.problem_type == MULTI_LABEL:
            wanted = labels.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights, reduction="sum")
        return F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=self.label_smoothing)

    def matches(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How many rows are answered right, in all their labels; 0 for numbers."""
        if self.problem_type == REGRESSION:
            return logits.new_zeros(())
        if self.problem_type == MULTI_LABEL:
            return ((logits > 0) == (labels > 0)).all(1).sum()
        return (logits.argmax(1) == labels).sum()


def make_loss(
    problem_type: ProblemType, weights: npt.NDArray[np.float64] | None, label_smoothing: float, device: torch.device
) -> Loss:
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device)
    return Loss(problem_type, tensor, label_smoothing)
