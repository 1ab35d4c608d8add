"""What the trainer is put together from: a loss, and what is measured at the end of each epoch."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from longread.data.batches import Indices
from longread.data.masking import Masking
from longread.inference.collate import Batch
from longread.models.classifier import Classifier
from longread.system.measure import Stopwatch
from longread.training.state import State


class Objective(Protocol):
    """A loss whose sum over micro-batches is that of the whole batch, however it is cut."""

    drops: bool  # whether dropout is on

    @property
    def teacher(self) -> Classifier | None:
        """A model that computes on the same batches, without gradients."""

    @property
    def masking(self) -> Masking | None:
        """Which tokens the model does not see; None: it sees all."""

    def begin(self, indices: Indices) -> None:
        """A new batch: the rows `indices` of the split, whose sizes the parts are divided by."""

    def loss(self, model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
        """This part of the batch's loss, and how many of its rows are classified right: tensors without a shape."""
        ...


class Evaluation(Protocol):
    """Measures at the end of each epoch, and may end the training or choose other weights than the last."""

    watch: Stopwatch  # of all epochs

    def begin(self) -> None:
        """Before the first step of a run that does not resume."""

    def after_epoch(self, epoch: int) -> dict[str, Any]:
        """Numbers for the line of history; the model holds the weights to measure. FloatingPointError for NaN."""
        ...

    def is_enough(self, epoch: int) -> bool: ...

    def end(self, epoch: int) -> None:
        """After the last step: the model gets the weights that are kept."""

    def state(self) -> State: ...

    def load(self, state: State) -> None: ...
