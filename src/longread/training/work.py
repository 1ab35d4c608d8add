"""What a run has to do, apart from how runs go on, end and are recorded: one class for each kind of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longread.config import RunConfig
from longread.data.dataset import Split
from longread.data.examples import PART
from longread.data.tokenizer import Tokenizer
from longread.inference.origin import Origin
from longread.inference.scored import split_record
from longread.models.classifier import Classifier
from longread.records import Ancestor, Dataset
from longread.records.record import Kind
from longread.training.events import Listener
from longread.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Work(ABC):
    """A model with its first weights, its data, and how it is trained. `config` is resolved but for the machine."""

    config: RunConfig
    model: Classifier
    tokenizer: Tokenizer
    fingerprints: tuple[str, ...]  # of data and tokenizer, and of a teacher
    lineage: tuple[Ancestor, ...]
    earlier: tuple[Origin, ...] = ()  # what the first weights, or the teacher's, have learned from

    @property
    @abstractmethod
    def kind(self) -> Kind: ...

    @property
    @abstractmethod
    def splits(self) -> dict[str, Split]:
        """train, and where there are any eval and selection."""

    @abstractmethod
    def named(self, config: RunConfig) -> dict[str, Any]:
        """What decides the result, for the record and the run's name; `config` is this run's, wholly resolved."""

    @abstractmethod
    def trainer(self, config: RunConfig, directory: Path, on_event: Listener) -> Trainer: ...

    @abstractmethod
    def results(self, trainer: Trainer) -> dict[str, Any]:
        """Fields of the record, after training."""

    @abstractmethod
    def write(self, trainer: Trainer, directory: Path) -> None:
        """The larger results; the checkpoint apart."""

    def dataset(self) -> Dataset:
        return Dataset(
            label_names=self.splits["train"].label_names,
            problem_type=self.splits["train"].problem_type,
            streamed=self.splits["train"].encoded.maps is not None or None,
            **{name: split_record(split, self.config) for name, split in self.splits.items()},
            tokens_per_row=tokens_per_row(self.splits["train"]),
        )

    def truncated_fraction(self) -> float:
        read = [split for name, split in self.splits.items() if name != "selection"]
        return sum(int(split.encoded.truncated.sum()) for split in read) / sum(map(len, read))


def tokens_per_row(split: Split) -> dict[str, float]:
    """Mean, median and longest; a part of the rows is looked at a time."""
    counts = np.zeros(1, dtype=np.int64)  # rows of each number of tokens
    for begin in range(0, len(split), PART):
        own = np.bincount(split.tokens_read[begin : begin + PART], minlength=len(counts))
        own[: len(counts)] += counts
        counts = own
    split.release()
    upto = np.cumsum(counts)
    middle = np.searchsorted(upto, [(len(split) + 1) // 2, len(split) // 2 + 1])
    mean = float(counts @ np.arange(len(counts))) / len(split)
    return {"mean": mean, "median": float(middle.mean()), "longest": len(counts) - 1}
