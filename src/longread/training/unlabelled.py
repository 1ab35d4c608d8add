"""What distillation and pretraining share: they learn from texts alone, for a number of steps, and answer nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from longread.config import RunConfig
from longread.data.dataset import Split
from longread.errors import UserError
from longread.training.trainer import Trainer
from longread.training.work import Work

FEWEST_ROWS = 4  # with one held out
# Fields of RunConfig that both read, beside the mechanism's own settings.
READ = ("task", "attention", "options", "init", "tokenizer", "train_rows", "sample_seed", "validation_fraction",
        "tuning_fraction", "text_columns", "label_columns", "label_separator", "problem_type", "encoding", "delimiter",
        "max_length", "batch_size", "learning_rate", "seed")  # fmt: skip
OF_THE_PLACE = ("precision", "tokens_per_micro_batch", "threads", "device", "data_dir", "out", "save_seconds",
                "stream", "workers")  # fmt: skip


def check_unread(config: RunConfig, read: tuple[str, ...], what: str) -> None:
    """UserError for a field that was given and is not among those that `what` reads."""
    for field in fields(RunConfig):
        if field.name not in (*read, *OF_THE_PLACE) and getattr(config, field.name) != field.default:
            raise UserError(f"{field.name}: {what} does not use it; leave it out")


def check_enough(rows: int, what: str) -> None:
    if rows < FEWEST_ROWS:
        raise UserError(f"{what}: {rows} rows are too few to learn from; give {FEWEST_ROWS} or more")


@dataclass(frozen=True, kw_only=True)
class UnlabelledWork(Work):
    read: ClassVar[tuple[str, ...]] = READ
    split: Split
    steps: int

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.split}

    def named(self, config: RunConfig) -> dict[str, Any]:
        used = (*self.read, *OF_THE_PLACE, *config.options)
        return {name: value for name, value in config.named().items() if name in used} | {"steps": self.steps}

    def write(self, trainer: Trainer, directory: Path) -> None:
        """There are no predictions."""


def work_done(trainer: Trainer) -> dict[str, int]:
    return {"rows": trainer.num_rows, "steps": trainer.step, "rows_seen": trainer.rows_seen}
