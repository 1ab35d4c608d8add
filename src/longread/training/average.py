"""A running mean of the weights, which is evaluated and kept in place of the last step's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longread.models.classifier import Classifier
from longread.training.state import State


class WeightAverage:
    """Exponential mean of the trained weights over the steps (Polyak and Juditsky 1992 average all alike).

    After step n the mean moves to the weights by `max(1 - decay, 1 / (n + 1))`: it is the plain mean of what has been
    seen until that is longer than what `decay` remembers, so that the start weighs nothing special.
    """

    def __init__(self, model: Classifier, decay: float) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names, self.weights = [name for name, _ in named], [p for _, p in named]
        self.decay, self.updates = decay, 0
        self.mean = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        weight = max(1 - self.decay, 1 / (self.updates + 1))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.weights], weight)

    def exchange(self) -> None:
        """The mean goes into the model, the model's weights into the mean's place."""
        for index, weight in enumerate(self.weights):
            weight.data, self.mean[index] = self.mean[index], weight.data

    @contextmanager
    def in_model(self) -> Iterator[None]:
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def state(self) -> State:
        return State(dict(zip(self.names, self.mean, strict=True)), {"updates": self.updates})

    def load(self, state: State) -> None:
        self.updates = state.values["updates"]
        for name, mean in zip(self.names, self.mean, strict=True):
            mean.copy_(state.tensors[name])
