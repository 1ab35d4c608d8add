"""Which rows of which data a run reads, how they become tokens, and what is read of a long text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from longread.errors import UserError
from longread.problems import ProblemType

Truncation = Literal["head", "tail", "head_tail", "chunk"]


@dataclass(frozen=True)
class Cut:
    """How a text that is too long is read.

    Parameters
    ----------
    truncation:
        What is read of a text that is longer than the model takes: its head, its tail, half of each, or all of it in
        chunks, whose answers are averaged (of several labels the highest of each counts). Default: what the
        checkpoint was trained with, else the head (the tail if its tokenizer says so).
    chunk_stride:
        Tokens that a chunk repeats of the one before it.
    """

    truncation: Truncation | None = field(default=None, kw_only=True)
    chunk_stride: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.truncation is not None and self.truncation not in get_args(Truncation):
            raise UserError(f"--truncation {self.truncation}: must be {', '.join(get_args(Truncation))}")
        if self.chunk_stride < 0:
            raise UserError(f"--chunk-stride {self.chunk_stride}: must not be negative")
        if self.chunk_stride and self.truncation != "chunk":
            raise UserError("--chunk-stride: only with --truncation chunk")

    def to_json(self) -> dict[str, Any]:
        """As a checkpoint keeps it; empty where nothing was chosen."""
        return {name: value for name, value in vars(self).items() if value}

    @classmethod
    def from_json(cls, told: Any, where: str) -> Cut:
        """UserError for what `to_json` does not give."""
        if told is None:
            return cls()
        try:
            truncation, stride = told["truncation"], told.get("chunk_stride", 0)
            if not isinstance(truncation, str) or type(stride) is not int:
                raise TypeError
            return cls(truncation=truncation, chunk_stride=stride)  # type: ignore[arg-type]
        except (AttributeError, LookupError, TypeError):
            ways = ", ".join(get_args(Truncation))
            raise UserError(f"{where}: {TRUNCATION} must be an object with a truncation: {ways}") from None
        except UserError as error:
            raise UserError(f"{where}: {TRUNCATION}: {error}") from None


TRUNCATION = "longread_truncation"  # key of config.json


@dataclass(frozen=True)
class DataConfig:
    """What `load_task`, `load_split` and `prepare` need to know; `RunConfig.data_config()` makes one.

    `train_rows` and `eval_rows` draw stratified samples that depend on `sample_seed` alone (None: all rows).
    `validation_fraction` of a single table is held out for evaluation, `selection_fraction` of the training rows to
    choose an epoch on (None: nothing). `tokenizer` is "train", "bytes", "symbols" or a place; None: the task's.
    """

    task: str
    data_dir: Path | str | None = None
    text_columns: tuple[str, ...] | None = None
    label_columns: tuple[str, ...] | None = None
    label_separator: str | None = None
    problem_type: ProblemType | None = None  # None: read from the data
    encoding: str | None = None  # of files of one's own; None: found out
    delimiter: str | None = None
    eval_file: Path | str | None = None
    train_rows: int | None = None
    eval_rows: int | None = None
    sample_seed: int = 0
    validation_fraction: float = 0.1
    selection_fraction: float | None = None
    tuning_fraction: float | None = None  # of the training rows, in place of the evaluation rows
    labels_optional: bool = False  # a table without labels will do: its rows have class 0, which has no name
    tokenizer: str | None = None
    vocab_size: int = 8192
    lowercase: bool = True
    truncation: Truncation | None = None  # what is read of a text that is too long; None: what the tokenizer says
    chunk_stride: int = 0
    fill_rows: bool = False  # every sequence is padded to the greatest length, and attention sees the padding
    stream: bool | None = None  # rows stay in files (data/rows.py); None: where they are many
    workers: int | None = None  # processes that tokenize them; None: one a core
    cache: Path | None = None  # where tokens and trained tokenizers are kept between runs
