"""The rows of a task: which table is which split, and which of its rows a run sees."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from longread.data import hub
from longread.data.columns import find_columns, read_texts
from longread.data.config import DataConfig
from longread.data.examples import Examples, carve, strata, stratified_sample
from longread.data.rows import Asked, stored_rows
from longread.data.shards import LARGE, Shard, column_names, local_shard, shards_of
from longread.data.sources import FORMATS_IN_WORDS, Table, concatenate, find_split, read_table
from longread.data.targets import read_targets
from longread.data.tasks import TASKS, Task, find_task
from longread.errors import UserError
from longread.problems import MULTI_LABEL, SINGLE_LABEL

EVAL_SPLITS = ("validation", "valid", "val", "dev", "test")  # the first that is there


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
    source = _Source(task, config.task, config)
    train = source.examples(task.train_split)
    if config.eval_file is not None:
        evaluation = source.as_in(train).own(str(config.eval_file), "evaluation", train.label_names)
    elif (split := source.eval_split()) is not None:
        evaluation = source.as_in(train).examples(split, train.label_names)
    else:
        train, evaluation = carve(train, config.validation_fraction, config.sample_seed, config.task)
    train = _sample(train, config.train_rows, config.sample_seed)
    return train, wide(_sample(evaluation, config.eval_rows, config.sample_seed))


def _train_alone(task: Task, config: DataConfig) -> Examples:
    """The training rows as `load_task` gives them, before a sample; a table with evaluation rows is not read."""
    if task.generate is not None:
        return _make(task, "train", config.train_rows, config.sample_seed)
    source = _Source(task, config.task, config)
    train = source.examples(task.train_split)
    if config.eval_file is None and source.eval_split() is None:
        train, _ = carve(train, config.validation_fraction, config.sample_seed, config.task)
    return train


def load_split(
    config: DataConfig,
    split: str | None = None,
    label_names: tuple[str, ...] | None = None,
) -> Examples:
    """One split only, at most `eval_rows` rows of it; by default the rows that `load_task` evaluates on.

    `split="train"` and `"validation"` of a single table are the parts that `load_task` makes of it. With
    `label_names`, those of a model, labels are read against them. UserError as in `load_task`.
    """
    task = _checked(config)
    if task.generate is not None:
        return _make(task, split or task.eval_split, config.eval_rows, config.sample_seed)
    source = _Source(task, config.task, config)
    there = source.eval_split()
    if split is None and config.eval_file is not None:
        found = source.own(str(config.eval_file), "evaluation", label_names)
    elif there is None and split in (None, "train", "validation"):
        whole = source.examples("train", label_names)
        parts = carve(whole, config.validation_fraction, config.sample_seed, config.task)
        found = parts[split != "train"]
    else:
        found = source.examples(split or there or task.eval_split, label_names)
    return wide(_sample(found, config.eval_rows, config.sample_seed))


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
                raise UserError(f"--{name.replace('_', '-')}: task {config.task} makes its own rows; leave it out")
    if task.label_names and (config.label_separator or config.problem_type not in (None, SINGLE_LABEL)):
        option = "--label-separator" if config.label_separator else f"--problem-type {config.problem_type}"
        raise UserError(f"{option}: task {config.task} has one class for each text ({SINGLE_LABEL}); leave it out")
    return task


def _data_directory(given: Path | str | None) -> Path | None:
    option = "--data-dir" if given is not None else "LONGREAD_DATA_DIR"
    given = given if given is not None else os.environ.get("LONGREAD_DATA_DIR") or None
    if given is None:
        return None
    if not Path(given).is_dir():
        raise UserError(f"{option} {given}: there is no such directory; it should hold TASK/SPLIT.parquet, .csv, …")
    return Path(given)


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


@dataclass(frozen=True)
class _Source:
    """Where the splits of one task that is not generated are read from, and how."""

    task: Task
    name: str  # as the user gave it
    config: DataConfig

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
            return self._pooled(split, label_names)
        if (folder := self._public_folder()) is not None and (found := find_split(folder, split)):
            return self._of(str(folder), [local_shard(path) for path in found], split, label_names)
        if self.task.hub_id or self.name.startswith("hub:"):
            if self.config.stream:
                raise UserError(f"--stream: task {self.name} is read from the Hub; give files of your own")
            return self.read(self._hub_table(split), split, label_names)
        if Path(self.name).is_dir() and any(find_split(Path(self.name), one) for one in ("train", *EVAL_SPLITS)):
            if not (found := find_split(Path(self.name), split)):
                raise UserError(f"{self.name}: holds no file of split {split!r}; expected {split}{FORMATS_IN_WORDS}")
            return self._of(self.name, [local_shard(path) for path in found], split, label_names)
        if split != "train":
            raise UserError(f"{self.name}: one table has no split {split!r}; it can be cut into train and validation")
        return self.own(self.name, split, label_names)

    def own(self, name: str, split: str, label_names: tuple[str, ...] | None = None) -> Examples:
        """The rows of a file, folder, pattern or URL of the user's."""
        return self._of(name, shards_of(name), split, label_names)

    def _of(self, name: str, shards: list[Shard], split: str, label_names: tuple[str, ...] | None) -> Examples:
        """Of files that are one table: held in memory, or left in files where that is asked for or they are large."""
        stream = self.config.stream
        alone = next((shard for shard in shards if shard.streamed_alone), None)
        if stream is None:
            stream = alone is not None or sum(shard.size for shard in shards) > LARGE
        elif not stream and alone is not None:
            raise UserError(f"--no-stream: {alone.source} can only be streamed; leave it out")
        if stream:
            return self._stored(shards, split, label_names)
        if self.config.workers is not None and split == "train":
            raise UserError(
                "--workers: these rows are held in memory and tokenized there; leave it out, or give --stream"
            )
        given = (None, None) if self.task.hub_id else (self.config.encoding, self.config.delimiter)
        tables = []
        for shard in shards:
            assert isinstance(shard.place, Path)
            tables.append(read_table(shard.place, shard.source, *given))
        return self.read(concatenate(tables, name), split, label_names)

    def _stored(self, shards: list[Shard], split: str, label_names: tuple[str, ...] | None) -> Examples:
        task, config = self.task, self.config
        assert config.cache is not None
        names = lambda: column_names(shards[0], config.encoding, config.delimiter)  # noqa: E731
        labels, separator = self._labels(names, label_names)
        asked = Asked(
            tuple(config.text_columns or task.text_columns),
            tuple(labels or ()),
            config.encoding,
            config.delimiter,
            task.hub_id is not None,
        )
        stored = stored_rows(shards, asked, config.cache)
        found = stored.targets(
            task.label_names or None, label_names, separator=separator, problem_type=config.problem_type
        )
        texts = stored.texts()
        rows = np.arange(len(stored), dtype=np.uint32 if len(stored) < 1 << 32 else np.int64)
        pairs = texts[1] if len(texts) == 2 else None
        return Examples(task.name, split, texts[0], pairs, found.labels, rows, found.names, found.problem_type)

    def _public_folder(self) -> Path | None:
        """Of a public task under --data-dir."""
        data_dir = _data_directory(self.config.data_dir) if self.task.hub_id else None
        folder = data_dir / self.task.name if data_dir else None
        return folder if folder and folder.is_dir() else None

    def _pooled(self, split: str, label_names: tuple[str, ...] | None) -> Examples:
        """A fifth of all different texts for validation, the same whatever is sampled; the rest is train.

        Rows are counted through the splits: row 0 of the second one is behind the last row of the first.
        """
        if split not in ("train", "validation"):
            raise UserError(f"task {self.task.name}: there is no split {split!r}; there are train and validation")
        assert self.task.pools
        base = replace(self, task=TASKS[self.task.pools], name=self.task.pools)
        parts = [base.examples(name, label_names) for name in base.task.split_rows]
        texts = [text for part in parts for text in part.texts]
        once = np.sort(list({text: row for row, text in reversed(list(enumerate(texts)))}.values()))
        labels = np.concatenate([part.labels for part in parts])
        rows = np.arange(len(texts), dtype=np.int64)
        whole = Examples(self.task.name, "all", texts, None, labels, rows, parts[0].label_names)
        return carve(whole.take(once), 0.2, 0, self.name)[split == "validation"]

    def read(self, table: Table, split: str, label_names: tuple[str, ...] | None = None) -> Examples:
        """Texts and labels of a table; labels against `label_names`, else the task's own or what is there."""
        task = self.task
        given = self.config.text_columns or task.text_columns
        named, separator = self._labels(lambda: table.columns, label_names)
        columns, label = find_columns(table, given, named)
        # Public sets hold a few empty texts, and stay as they are; in a file of one's own that is a slip.
        texts = [read_texts(table, column, may_be_empty=task.hub_id is not None) for column in columns]
        found = read_targets(
            table, label, task.label_names or None, label_names,
            separator=separator, problem_type=self.config.problem_type,
        )  # fmt: skip
        pairs = texts[1] if len(texts) == 2 else None
        rows = np.arange(len(table), dtype=np.int64)
        return Examples(task.name, split, texts[0], pairs, found.labels, rows, found.names, found.problem_type)

    def _labels(
        self, names: Callable[[], Collection[str]], label_names: tuple[str, ...] | None
    ) -> tuple[tuple[str, ...] | None, str | None]:
        """The label columns that are known before a row is read, of those that `names` gives, and the separator."""
        named = self.config.label_columns or ((self.task.label_column,) if self.task.hub_id else None)
        if self.config.problem_type == MULTI_LABEL and not named and label_names and set(label_names) <= set(names()):
            return label_names, None  # a column for each, whatever it was trained on
        return named, self.config.label_separator

    def as_in(self, train: Examples) -> _Source:
        """The same, its labels read as those of the training rows were."""
        return replace(self, config=replace(self.config, problem_type=train.problem_type))

    def _hub(self) -> tuple[str, str, dict[str, list[str]]]:
        """Repository, commit and files by split of `hub:owner/name[/config][@revision]`."""
        address, _, revision = self.name[len("hub:") :].partition("@")
        owner, repository, *config = address.split("/")
        return f"{owner}/{repository}", *hub.list_splits(f"{owner}/{repository}", "".join(config), revision)

    def _hub_table(self, split: str) -> Table:
        task = self.task
        if not task.hub_id:
            repository, commit, splits = self._hub()
            if split not in splits:
                raise UserError(f"{self.name}: there is no split {split!r}; there are {', '.join(splits)}")
            return hub.read_files(repository, commit, splits[split], "try again, or give a file of your own")
        data_dir = _data_directory(self.config.data_dir)
        folder = data_dir / task.name if data_dir else None
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
