"""Which table is which split of a task: under --data-dir, on the Hub, or the user's own files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data import hub
from longread.data.columns import find_columns, read_texts
from longread.data.config import DataConfig
from longread.data.digests import ReadFile, digest_of
from longread.data.examples import Examples, carve
from longread.data.rows import Asked, stored_rows
from longread.data.shards import LARGE, Shard, column_names, local_shard, shards_of
from longread.data.sources import FORMATS_IN_WORDS, Table, concatenate, find_split, read_table
from longread.data.targets import Targets, read_targets
from longread.data.tasks import TASKS, Task
from longread.errors import UserError
from longread.problems import MULTI_LABEL, SINGLE_LABEL

EVAL_SPLITS = ("validation", "valid", "val", "dev", "test")  # the first that is there


@dataclass(frozen=True)
class TaskSource:
    """Where the splits of one task that is not generated are read from, and how."""

    task: Task
    name: str  # as the user gave it
    config: DataConfig

    def eval_split(self) -> str | None:
        """Name of the split to evaluate on; None where there is but one table."""
        if self.task.hub_id:
            return self.task.eval_split
        if self.name.startswith("hub:"):
            there = self._hub()[2]
            return next((split for split in EVAL_SPLITS if there.get(split)), None)
        folder = Path(self.name)
        return next((split for split in EVAL_SPLITS if folder.is_dir() and find_split(folder, split)), None)

    def examples(self, split: str, label_names: tuple[str, ...] | None = None) -> Examples:
        if self.task.pools:
            return self._pooled(split, label_names)
        if (folder := self._public_folder()) is not None and (found := find_split(folder, split)):
            return self.of_files(str(folder), [local_shard(path) for path in found], split, label_names)
        if self.task.hub_id or self.name.startswith("hub:"):
            if self.config.stream:
                raise UserError(f"--stream: task {self.name} is read from the Hub; give files of your own")
            return self._read(self._hub_table(split), split, label_names)
        if Path(self.name).is_dir() and any(find_split(Path(self.name), one) for one in ("train", *EVAL_SPLITS)):
            if not (found := find_split(Path(self.name), split)):
                raise UserError(f"{self.name}: holds no file of split {split!r}; expected {split}{FORMATS_IN_WORDS}")
            return self.of_files(self.name, [local_shard(path) for path in found], split, label_names)
        if split != "train":
            raise UserError(f"{self.name}: one table has no split {split!r}; it can be cut into train and validation")
        return self.own(self.name, split, label_names)

    def own(self, name: str, split: str, label_names: tuple[str, ...] | None = None) -> Examples:
        """The rows of a file, folder, pattern or URL of the user's."""
        return self.of_files(name, shards_of(name), split, label_names)

    def of_files(
        self, name: str, shards: Sequence[Shard], split: str, label_names: tuple[str, ...] | None = None
    ) -> Examples:
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
        read = self._read(concatenate(tables, name), split, label_names)
        if self.task.hub_id:
            return read
        files = zip(shards, tables, strict=True)
        return replace(read, sources=tuple(ReadFile(shard, len(table), digest_of(shard)) for shard, table in files))

    def _stored(self, shards: Sequence[Shard], split: str, label_names: tuple[str, ...] | None) -> Examples:
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
            config.labels_optional,
        )
        stored = stored_rows(shards, asked, config.cache)
        found = self._targets(
            len(stored),
            lambda: stored.targets(
                task.label_names or None, label_names, separator=separator, problem_type=config.problem_type
            ),
            bool(stored.maps.about["label_columns"]),
        )
        rows = np.arange(len(stored), dtype=np.uint32 if len(stored) < 1 << 32 else np.int64)
        columns = tuple(stored.maps.about["text_columns"])
        read = self._with_labels(split, stored.texts(), found, rows)
        sources = () if task.hub_id else stored.sources
        return replace(read, files=stored.files, text_columns=columns, sources=sources)

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
        first: dict[str, int] = {}  # row of each different text
        for row, text in enumerate(texts):
            first.setdefault(text, row)
        labels = np.concatenate([part.labels for part in parts])
        rows = np.arange(len(texts), dtype=np.int64)
        whole = Examples(self.task.name, "all", texts, None, labels, rows, parts[0].label_names)
        return carve(whole.take(np.array(list(first.values()))), 0.2, 0, self.name)[split == "validation"]

    def _read(self, table: Table, split: str, label_names: tuple[str, ...] | None = None) -> Examples:
        """Texts and labels of a table; labels against `label_names`, else the task's own or what is there."""
        task = self.task
        given = self.config.text_columns or task.text_columns
        named, separator = self._labels(lambda: table.columns, label_names)
        columns, label = find_columns(table, given, named, self.config.labels_optional)
        # Public sets hold a few empty texts, and stay as they are; in a file of one's own that is a slip.
        texts = [read_texts(table, column, may_be_empty=task.hub_id is not None) for column in columns]
        found = self._targets(
            len(table),
            lambda: read_targets(
                table, label, task.label_names or None, label_names,
                separator=separator, problem_type=self.config.problem_type,
            ),
            bool(label),
        )  # fmt: skip
        read = self._with_labels(split, texts, found, np.arange(len(table), dtype=np.int64))
        return replace(read, text_columns=columns)

    def _targets(self, rows: int, read: Callable[[], Targets], there: bool) -> Targets:
        """What `read` gives; where labels are optional and there are none that can be read, class 0 for each row."""
        try:
            if there:
                return read()
        except UserError:
            if not self.config.labels_optional:
                raise
        return Targets(np.zeros(rows, dtype=np.uint8), (), SINGLE_LABEL)

    def _with_labels(
        self, split: str, texts: Sequence[Sequence[str]], found: Targets, rows: npt.NDArray[Any]
    ) -> Examples:
        """`texts`: a column, or two of pairs."""
        pairs = texts[1] if len(texts) == 2 else None
        return Examples(self.task.name, split, texts[0], pairs, found.labels, rows, found.names, found.problem_type)

    def _labels(
        self, names: Callable[[], Collection[str]], label_names: tuple[str, ...] | None
    ) -> tuple[tuple[str, ...] | None, str | None]:
        """The label columns that are known before a row is read, of those that `names` gives, and the separator."""
        named = self.config.label_columns or ((self.task.label_column,) if self.task.hub_id else None)
        if self.config.problem_type == MULTI_LABEL and not named and label_names and set(label_names) <= set(names()):
            return label_names, None  # a column for each, whatever it was trained on
        return named, self.config.label_separator

    def as_in(self, train: Examples) -> TaskSource:
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


def _data_directory(given: Path | str | None) -> Path | None:
    option = "--data-dir" if given is not None else "LONGREAD_DATA_DIR"
    given = given if given is not None else os.environ.get("LONGREAD_DATA_DIR") or None
    if given is None:
        return None
    if not Path(given).is_dir():
        raise UserError(f"{option} {given}: there is no such directory; it should hold TASK/SPLIT.parquet, .csv, …")
    return Path(given)
