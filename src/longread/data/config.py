"""Which rows of which data a run reads, and how they become tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longread.problems import ProblemType


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
    tokenizer: str | None = None
    vocab_size: int = 8192
    lowercase: bool = True
    fill_rows: bool = False  # every sequence is padded to the greatest length, and attention sees the padding
    cache: Path | None = None  # where tokens and trained tokenizers are kept between runs
