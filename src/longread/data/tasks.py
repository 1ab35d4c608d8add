"""Tasks: where rows come from, what their columns mean, and which rows a run sees.

Four public data sets, pinned to a revision; two generated ones; a user's own file; any set of the Hub.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from longread.data import hub, listops, reviews
from longread.data.examples import (
    Examples,
    carve,
    find_columns,
    read_labels,
    read_texts,
    stratified_sample,
)
from longread.data.sources import FORMATS_IN_WORDS, Table, file_format, find_split, read_table
from longread.errors import UserError

__all__ = ["TASKS", "Examples", "Task", "find_task", "load_split", "load_task"]

EVAL_SPLITS = ("validation", "valid", "val", "dev", "test")  # the first that is there
GLUE = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

# split, number of rows, length, seed -> texts and classes
Generator = Callable[[str, int, int, int], tuple[list[str], list[int]]]


@dataclass(frozen=True)
class Task:
    """What is known of a task before any row is read."""

    name: str
    description: str
    licence: str
    text_columns: tuple[str, ...] = ("text",)
    label_column: str = "label"
    label_names: tuple[str, ...] = ()  # empty: read from the data
    train_split: str = "train"
    eval_split: str = "validation"
    split_rows: dict[str, int] = field(default_factory=dict)  # rows of each split on the Hub
    hub_id: str | None = None
    hub_revision: str | None = None
    hub_files: dict[str, str] = field(default_factory=dict)  # split -> file
    pools: str | None = None  # the task whose splits are put together and split anew
    tokenizer: str = "train"  # "symbols": every symbol between spaces is one token
    # Generated tasks only:
    generate: Generator | None = None
    length: int = 0  # words or symbols of a text, as the generator counts them
    shortest: int = 0
    longest: int = 0
    train_rows: int | None = None  # rows by default
    eval_rows: int | None = None
    suggested: dict[str, Any] = field(default_factory=dict)  # settings of a run from scratch, where none are given


IMDB = Task(
    "imdb",
    "film reviews, positive or negative (Maas et al. 2011)",
    "research use; cite Maas et al. 2011",
    label_names=("neg", "pos"),
    eval_split="test",
    split_rows={"train": 25_000, "test": 25_000},
    hub_id="stanfordnlp/imdb",
    hub_revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    hub_files={split: f"plain_text/{split}-00000-of-00001.parquet" for split in ("train", "test")},
)


def _glue(name: str, **fields: object) -> Task:
    files = {split: f"{name}/{split}-00000-of-00001.parquet" for split in ("train", "validation")}
    return Task(name, hub_id=GLUE, hub_revision=GLUE_REVISION, hub_files=files, **fields)  # type: ignore[arg-type]


TASKS: dict[str, Task] = {
    "imdb": IMDB,
    "imdb-pooled": replace(
        IMDB,
        name="imdb-pooled",
        description="both halves of imdb put together and split anew: reviews of one film fall on both sides",
        eval_split="validation",
        split_rows={"train": 39_666, "validation": 9_916},
        pools="imdb",
    ),
    "sst2": _glue(
        "sst2",
        description="sentences and phrases of film reviews, positive or negative (GLUE)",
        licence="none stated",
        text_columns=("sentence",),
        label_names=("negative", "positive"),
        split_rows={"train": 67_349, "validation": 872},
    ),
    "qnli": _glue(
        "qnli",
        description="does the sentence answer the question? (GLUE, from SQuAD)",
        licence="CC BY-SA 4.0",
        text_columns=("question", "sentence"),
        label_names=("entailment", "not_entailment"),
        split_rows={"train": 104_743, "validation": 5_463},
    ),
    "qqp": _glue(
        "qqp",
        description="do two questions ask the same? (GLUE, from Quora)",
        licence="non-commercial (Quora)",
        text_columns=("question1", "question2"),
        label_names=("not_duplicate", "duplicate"),
        split_rows={"train": 363_846, "validation": 40_430},
    ),
    "reviews": Task(
        "reviews",
        "generated film reviews in which counting words does not decide; reviews:LENGTH sets the length",
        "none needed: made by this package",
        label_names=("negative", "positive"),
        generate=reviews.generate,
        length=reviews.DEFAULT_LENGTH,
        shortest=reviews.SHORTEST,
        longest=reviews.LONGEST,
        train_rows=reviews.TRAIN_ROWS,
        eval_rows=reviews.EVAL_ROWS,
        suggested=reviews.SUGGESTED,
    ),
    "listops": Task(
        "listops",
        "nested lists of digits, MIN MAX MED SM (Long Range Arena); listops:LENGTH sets the most symbols",
        "none needed: made by this package",
        label_names=tuple("0123456789"),
        tokenizer="symbols",
        generate=listops.generate,
        length=listops.DEFAULT_LENGTH,
        shortest=listops.SHORTEST,
        longest=listops.LONGEST,
        train_rows=listops.TRAIN_ROWS,
        eval_rows=listops.EVAL_ROWS,
    ),
}


def find_task(name: str) -> Task:
    """The record behind a task's name, with its length where one is given; made up for files and Hub sets."""
    if name in TASKS:
        return TASKS[name]
    base, colon, length = name.partition(":")
    if colon and base in TASKS:
        task = TASKS[base]
        if task.generate is None:
            raise UserError(f"task {name!r}: {base} is not generated, so it has no length; write {base}")
        if not length.isdecimal() or not task.shortest <= int(length) <= task.longest:
            raise UserError(
                f"task {name!r}: the length must be a whole number from {task.shortest} to {task.longest}, "
                f"such as {base}:{task.length}"
            )
        return replace(task, name=f"{base}:{int(length)}", length=int(length))
    if name.startswith("hub:"):
        if len(name[4:].partition("@")[0].split("/")) not in (2, 3):
            raise UserError(f"task {name!r}: write hub:OWNER/NAME or hub:OWNER/NAME/CONFIG, such as hub:{GLUE}/cola")
        return Task(name, f"{name[4:]} on the Hugging Face Hub", "see its page", text_columns=())
    if file_format(name) or "/" in name or os.sep in name or Path(name).exists():
        return Task(Path(name).name or name, f"your own rows in {name}", "yours", text_columns=())
    near = difflib.get_close_matches(name.lower(), TASKS, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"unknown task {name!r}: {meant}There are {', '.join(TASKS)}; reviews:LENGTH and listops:LENGTH; "
        "a path to your own file or directory; hub:OWNER/NAME"
    )


def load_task(
    name: str,
    *,
    data_dir: str | Path | None = None,
    train_rows: int | None = None,
    eval_rows: int | None = None,
    sample_seed: int = 0,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    eval_file: str | Path | None = None,
    validation_fraction: float = 0.1,
) -> tuple[Examples, Examples]:
    """Train and evaluation rows of a task.

    `train_rows` and `eval_rows` draw a stratified, shuffled sample that depends on `sample_seed` alone; a
    split that has fewer rows is returned whole, in its own order. Where there is no evaluation split, a
    stratified one is carved out of train. Raises `UserError`.
    """
    task = find_task(name)
    for option, size in (("--train-rows", train_rows), ("--eval-rows", eval_rows)):
        if size is not None and size < 1:
            raise UserError(f"{option} {size}: at least 1 row is needed")
    source = _Source(task, name, _data_directory(data_dir), text_columns, label_column)
    if task.generate is not None:
        if eval_file is not None:
            raise UserError(f"--eval-file {eval_file}: task {name} makes its own evaluation rows; leave it out")
        return _make(task, "train", train_rows, sample_seed), _make(task, "validation", eval_rows, sample_seed)
    train = source.examples(task.train_split)
    if eval_file is not None:
        evaluation = source.read(read_table(Path(eval_file)), "evaluation", train.label_names)
    elif (split := source.eval_split()) is not None:
        evaluation = source.examples(split, train.label_names)
    else:
        train, evaluation = carve(train, validation_fraction, sample_seed, name)
    return _sample(train, train_rows, sample_seed), _sample(evaluation, eval_rows, sample_seed)


def load_split(
    name: str,
    split: str | None = None,
    *,
    data_dir: str | Path | None = None,
    rows: int | None = None,
    sample_seed: int = 0,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    label_names: tuple[str, ...] | None = None,
    validation_fraction: float = 0.1,
) -> Examples:
    """One split only, by default the one a task is evaluated on; of a single file, all of it.

    `split="train"` and `"validation"` of a single file are the parts that `load_task` makes of it. With
    `label_names`, those of the model to be evaluated, labels are read against them. Raises `UserError`.
    """
    task = find_task(name)
    if rows is not None and rows < 1:
        raise UserError(f"{rows} rows: at least 1 is needed")
    if task.generate is not None:
        return _make(task, split or task.eval_split, rows, sample_seed)
    source = _Source(task, name, _data_directory(data_dir), text_columns, label_column)
    there = source.eval_split()
    if there is None and split in ("train", "validation"):
        parts = carve(source.examples("train", label_names), validation_fraction, sample_seed, name)
        return _sample(parts[split == "validation"], rows, sample_seed)
    return _sample(source.examples(split or there or "train", label_names), rows, sample_seed)


def _data_directory(given: str | Path | None) -> Path | None:
    option = "--data-dir" if given is not None else "LONGREAD_DATA_DIR"
    given = given if given is not None else os.environ.get("LONGREAD_DATA_DIR") or None
    if given is None:
        return None
    if not Path(given).is_dir():
        raise UserError(f"{option} {given}: there is no such directory; it should hold TASK/SPLIT.parquet, .csv, …")
    return Path(given)


def _make(task: Task, split: str, rows: int | None, seed: int) -> Examples:
    """PackedBatch of a generated task; fewer rows are the beginning of more."""
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
    return examples.take(stratified_sample(examples.labels, size, seed, examples.split))


@dataclass(frozen=True)
class _Source:
    """Where the splits of one task that is not generated are read from, and how."""

    task: Task
    name: str  # as the user gave it
    data_dir: Path | None
    text_columns: Sequence[str] | None
    label_column: str | None

    def eval_split(self) -> str | None:
        """Name of the split to evaluate on; None where there is but one table."""
        if self.task.hub_id:
            return self.task.eval_split
        splits: Callable[[str], object]
        if self.name.startswith("hub:"):
            splits = self._hub()[2].get
        elif Path(self.name).is_dir():
            splits = lambda split: find_split(Path(self.name), split)  # noqa: E731
        else:
            return None
        return next((split for split in EVAL_SPLITS if splits(split)), None)

    def examples(self, split: str, label_names: tuple[str, ...] | None = None) -> Examples:
        if self.task.pools:
            return self._pooled(split)
        return self.read(self._table(split), split, label_names)

    def _pooled(self, split: str) -> Examples:
        """A fifth of all different texts for validation, the same whatever is sampled; the rest is train.

        PackedBatch are counted through the splits: row 0 of the second one is behind the last row of the first.
        """
        if split not in ("train", "validation"):
            raise UserError(f"task {self.task.name}: there is no split {split!r}; there are train and validation")
        assert self.task.pools
        base = replace(self, task=TASKS[self.task.pools], name=self.task.pools)
        parts = [base.examples(name) for name in base.task.split_rows]
        texts = [text for part in parts for text in part.texts]
        once = np.sort(list({text: row for row, text in reversed(list(enumerate(texts)))}.values()))
        labels = np.concatenate([part.labels for part in parts])
        rows = np.arange(len(texts), dtype=np.int64)
        whole = Examples(self.task.name, "all", texts, None, labels, rows, parts[0].label_names)
        return carve(whole.take(once), 0.2, 0, self.name)[split == "validation"]

    def read(self, table: Table, split: str, label_names: tuple[str, ...] | None = None) -> Examples:
        """Texts and classes of a table; labels against `label_names`, the task's own, or what is there."""
        task = self.task
        given = self.text_columns or task.text_columns
        columns, label = find_columns(table, given, self.label_column or (task.label_column if task.hub_id else None))
        # Public sets hold a few empty texts, and stay as they are; in a file of one's own that is a slip.
        texts = [read_texts(table, column, may_be_empty=task.hub_id is not None) for column in columns]
        labels, names = read_labels(table, label, label_names or task.label_names or None)
        pairs = texts[1] if len(texts) == 2 else None
        return Examples(task.name, split, texts[0], pairs, labels, np.arange(len(table), dtype=np.int64), names)

    def _hub(self) -> tuple[str, str, dict[str, list[str]]]:
        """Repository, commit and files by split of `hub:owner/name[/config][@revision]`."""
        address, _, revision = self.name[len("hub:") :].partition("@")
        owner, repository, *config = address.split("/")
        return f"{owner}/{repository}", *hub.list_splits(f"{owner}/{repository}", "".join(config), revision)

    def _table(self, split: str) -> Table:
        if self.task.hub_id:
            return self._public_table(split)
        if self.name.startswith("hub:"):
            repository, commit, splits = self._hub()
            if split not in splits:
                raise UserError(f"{self.name}: there is no split {split!r}; there are {', '.join(splits)}")
            return hub.read_files(repository, commit, splits[split], "try again, or give a file of your own")
        path = Path(self.name)
        if not path.is_dir():
            if split != "train":
                raise UserError(f"{path}: one file has no split {split!r}; it can be cut into train and validation")
            return read_table(path)
        if (found := find_split(path, split)) is None:
            raise UserError(f"{path}: holds no file of split {split!r}; expected {split}{FORMATS_IN_WORDS}")
        return read_table(found)

    def _public_table(self, split: str) -> Table:
        """The file under --data-dir, or else the Hub's."""
        task = self.task
        folder = self.data_dir / task.name if self.data_dir else None
        if folder and (found := find_split(folder, split)) is not None:
            return read_table(found)
        if split not in task.hub_files:
            raise UserError(f"task {task.name}: there is no split {split!r}; there are {', '.join(task.hub_files)}")
        mend = (
            f"put {split}.parquet (.csv, .tsv, .jsonl) into {folder}, or connect"
            if folder
            else f"connect, or give --data-dir (or LONGREAD_DATA_DIR) with {task.name}/{split}.parquet"
        )
        assert task.hub_id
        assert task.hub_revision
        return hub.read_files(task.hub_id, task.hub_revision, [task.hub_files[split]], mend)
