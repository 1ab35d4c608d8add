"""The rows of a task that a run sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from longread.data.config import DataConfig
from longread.data.examples import Examples, carve, strata, stratified_sample
from longread.data.shards import Shard
from longread.data.task_source import TaskSource
from longread.data.tasks import Task, find_task
from longread.errors import UserError, option_name
from longread.problems import SINGLE_LABEL


def load_task(config: DataConfig) -> tuple[Examples, Examples]:
    """Training and evaluation rows of a task.

    A split that has fewer rows than are asked for is returned whole, in its own order. Where there is no evaluation
    split, a stratified one is held out of train. UserError for what is wrong with the files, their columns or rows,
    and for an evaluation label that no training row has. With `tuning_fraction`, rows of train stand in place of the
    evaluation rows, which are not read.
    """
    task = _checked(config)
    if config.tuning_fraction is not None:
        rows = _sample(_train_alone(task, config), config.train_rows, config.sample_seed)
        train, tuning = carve(rows, config.tuning_fraction, config.sample_seed, config.task)
        return train, wide(tuning.take(np.arange(len(tuning)), "tuning"))
    if task.generate is not None:
        return (
            _make(task, "train", config.train_rows, config.sample_seed),
            _make(task, "validation", config.eval_rows, config.sample_seed),
        )
    source = TaskSource(task, config.task, config)
    train = source.examples(task.train_split)
    if config.eval_file is not None:
        evaluation = source.as_in(train).own(str(config.eval_file), "evaluation", train.label_names)
    elif (split := source.eval_split()) is not None:
        evaluation = source.as_in(train).examples(split, train.label_names)
    else:
        train, evaluation = carve(train, config.validation_fraction, config.sample_seed, config.task)
    train = _sample(train, config.train_rows, config.sample_seed)
    return train, wide(_sample(evaluation, config.eval_rows, config.sample_seed))


def load_texts(config: DataConfig) -> Examples:
    """The training rows as `load_task` gives them, for who reads no labels: a table without any will do.

    Labels that are there decide, as in `load_task`, which rows are a sample and which are held out for evaluation.
    """
    config = replace(config, labels_optional=True)
    train = _sample(_train_alone(_checked(config), config), config.train_rows, config.sample_seed)
    if config.tuning_fraction is not None:
        train, _ = carve(train, config.tuning_fraction, config.sample_seed, config.task)
    return train


def _train_alone(task: Task, config: DataConfig) -> Examples:
    """The training rows as `load_task` gives them, before a sample; a table with evaluation rows is not read."""
    if task.generate is not None:
        return _make(task, "train", config.train_rows, config.sample_seed)
    source = TaskSource(task, config.task, config)
    train = source.examples(task.train_split)
    held_out = bool(train.label_names)  # without labels nobody evaluates
    if held_out and config.eval_file is None and source.eval_split() is None:
        train, _ = carve(train, config.validation_fraction, config.sample_seed, config.task)
    return train


def load_split(
    config: DataConfig,
    split: str | None = None,
    label_names: tuple[str, ...] | None = None,
    *,
    leave_out: Callable[[Examples], Examples] = lambda rows: rows,
) -> Examples:
    """One split only, at most `eval_rows` rows of it; by default the rows that `load_task` evaluates on.

    `split="train"` and `"validation"` of a single table are the parts that `load_task` makes of it. With
    `label_names`, those of a model, labels are read against them. `leave_out` gives those of the split's rows that may
    be in the sample. UserError as in `load_task`.
    """
    task = _checked(config)
    if task.generate is not None:
        return _make(task, split or task.eval_split, config.eval_rows, config.sample_seed)
    source = TaskSource(task, config.task, config)
    there = source.eval_split()
    if split is None and config.eval_file is not None:
        found = source.own(str(config.eval_file), "evaluation", label_names)
    elif there is None and split in (None, "train", "validation"):
        whole = source.examples("train", label_names)
        parts = carve(whole, config.validation_fraction, config.sample_seed, config.task)
        found = parts[split != "train"]
    else:
        found = source.examples(split or there or task.eval_split, label_names)
    return wide(_sample(leave_out(found), config.eval_rows, config.sample_seed))


def is_held_out(config: DataConfig) -> bool:
    """Whether the evaluation rows are held out of the table of training rows."""
    task = find_task(config.task)
    if config.eval_file is not None or task.generate is not None:
        return False
    return TaskSource(task, config.task, config).eval_split() is None


def training_part(config: DataConfig, shards: Sequence[Shard]) -> Examples:
    """Of these files, which are one table, the rows that are not held out for evaluation, before a sample."""
    whole = TaskSource(_checked(config), config.task, config).of_files(config.task, shards, "train")
    return carve(whole, config.validation_fraction, config.sample_seed, config.task)[0]


def check_classes(train: Examples) -> None:
    """A classifier needs rows of two classes."""
    if train.problem_type != SINGLE_LABEL:
        return
    if len(train.label_names) < 2:
        raise UserError(f"{train.task}: only one class ({train.label_names[0]}); at least two are needed")
    if len(np.unique(train.labels)) < 2:
        raise UserError(f"{train.task}: the {len(train)} training rows have one class; ask for more --train-rows")


def _checked(config: DataConfig) -> Task:
    task = find_task(config.task)
    for option, size in (("--train-rows", config.train_rows), ("--eval-rows", config.eval_rows)):
        if size is not None and size < 1:
            raise UserError(f"{option} {size}: at least 1 row is needed")
    if task.generate is not None:
        for name in ("eval_file", "text_columns", "label_columns", "encoding", "delimiter", "stream", "workers"):
            if getattr(config, name) is not None:
                raise UserError(f"{option_name(name)}: task {config.task} makes its own rows; leave it out")
    if task.label_names and (config.label_separator or config.problem_type not in (None, SINGLE_LABEL)):
        option = "--label-separator" if config.label_separator else f"--problem-type {config.problem_type}"
        raise UserError(f"{option}: task {config.task} has one class for each text ({SINGLE_LABEL}); leave it out")
    return task


def _make(task: Task, split: str, rows: int | None, seed: int) -> Examples:
    """Texts of a generated task; fewer rows are the beginning of more."""
    if split not in ("train", "validation"):
        raise UserError(f"task {task.name}: there is no split {split!r}; there are train and validation")
    size = rows if rows is not None else task.train_rows if split == "train" else task.eval_rows
    assert task.generate is not None
    assert size is not None
    texts, labels = task.generate(split, size, task.length, seed)
    numbers = np.arange(size, dtype=np.int64)
    return Examples(task.name, split, texts, None, np.array(labels, dtype=np.int64), numbers, task.label_names)


def _sample(examples: Examples, size: int | None, seed: int) -> Examples:
    if size is None or size >= len(examples):
        return examples
    return examples.take(stratified_sample(strata(examples), size, seed, examples.split))


def wide(examples: Examples) -> Examples:
    """Classes as int64, for arithmetic with them: those of streamed rows are kept in the smallest type."""
    narrow = examples.labels.dtype in (np.uint8, np.uint16)
    return replace(examples, labels=examples.labels.astype(np.int64)) if narrow else examples
