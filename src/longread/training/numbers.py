"""Numbers of any size as targets: the head begins at their mean, and its steps are as large as they are.

With Adam that is the training on numbers of mean 0 and variance 1, and the model gives the numbers themselves.
"""

from __future__ import annotations

import torch

from longread.data.dataset import Split
from longread.models.classifier import Classifier
from longread.problems import REGRESSION


def spread_of(split: Split) -> float:
    """Standard deviation of a regression's numbers; 1 for other problem types, and where all are equal."""
    return float(split.labels.std()) or 1.0 if split.problem_type == REGRESSION else 1.0


@torch.no_grad()
def begin_at(model: Classifier, split: Split) -> None:
    """A new head gives the mean of the numbers, and differs from it by a part of their spread."""
    if split.problem_type == REGRESSION:
        model.head.classifier.weight.mul_(spread_of(split))
        model.head.classifier.bias.fill_(float(split.labels.mean()))
