"""What is known of how a checkpoint was made: from its run's record, or from what lies beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longread.data.digests import Digest
from longread.data.tasks import TASKS
from longread.models.locate import locate
from longread.models.weights import RUN
from longread.records import current_names

# What decides which rows of a table were held out, and what its columns mean.
ROWS_OF_THE_TASK = ("validation_fraction", "sample_seed", "text_columns", "label_columns", "label_separator",
                    "encoding", "delimiter")  # fmt: skip
READ_ALIKE = (*ROWS_OF_THE_TASK, "problem_type")  # with it the labels, by which rows were held out


@dataclass(frozen=True)
class Origin:
    """`task` and `config` of the run that made a checkpoint; whether it was trained on pairs (None: not known).

    columns: of the table that it was trained on, where the texts stood; empty where that is not known.
    files: of a user's own table, in their order; empty where they are not known. held_out: whether rows of that table
    were kept for evaluation; False: all were trained on. placed: `task` says where the table lay, not its name alone.
    earlier: the trainings that its first weights, or its teacher's, are from, nearest first.
    """

    task: str
    config: dict[str, Any]
    pairs: bool | None
    columns: tuple[str, ...] = ()
    files: tuple[Digest, ...] = ()
    held_out: bool = True
    placed: bool = True
    earlier: tuple[Origin, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What a file made of the checkpoint has to know."""
        own = {name: self.config[name] for name in READ_ALIKE if self.config.get(name) is not None}
        told: dict[str, Any] = {"task": _without_place(self.task), "text_columns": list(self.text_columns)}
        told |= {"pairs": self.pairs, "rows": own, "held_out": self.held_out}
        if self.files:
            told["files"] = [[file.size, file.sha256] for file in self.files]
        if self.earlier:
            told["earlier"] = [one.to_json() for one in self.earlier]
        return told

    @classmethod
    def from_json(cls, told: Mapping[str, Any] | None) -> Origin | None:
        if told is None:
            return None
        files = tuple(Digest(int(size), str(sha256)) for size, sha256 in told.get("files") or ())
        earlier = tuple(one for each in told.get("earlier") or () if (one := cls.from_json(each)) is not None)
        config = dict(told.get("rows") or {}) | {"text_columns": told["text_columns"]}
        held_out = bool(told.get("held_out", True))
        return cls(str(told["task"]), config, told["pairs"], (), files, held_out, placed=False, earlier=earlier)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Origin:
        """Of a training's record. KeyError and TypeError for what is none."""
        rows, config = record["dataset"]["train"], dict(record["config"])
        columns = tuple(rows.get("text_columns") or ())
        return cls(record["task"], config, rows.get("pairs"), columns, held_out=config.get("eval_file") is None)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns that it was trained on, as far as they are known."""
        known = TASKS[self.task].text_columns if self.task in TASKS else ()
        return tuple(self.config.get("text_columns") or self.columns or known)

    @property
    def of_own_table(self) -> bool:
        """Whether those columns are the user's own, and not a public data set's."""
        return bool(self.text_columns) and is_own(self.task)


def is_own(task: str) -> bool:
    """Whether it names files of the user's."""
    return task.partition(":")[0] not in (*TASKS, "hub")


def _without_place(task: str) -> str:
    """A file's name alone: where it lies on this machine is nobody's business."""
    return task if task.startswith("hub:") else Path(task).name + "/" * Path(task).is_dir()


def is_graph(place: str | Path) -> bool:
    """Whether it is an exported file, which answers by itself."""
    return Path(place).suffix == ".onnx" and not Path(place).is_dir()


def folder_of(place: str | Path) -> Path:
    """The folder with a checkpoint's files: of a run the one inside, of a Hub id its snapshot. UserError if none."""
    inside = Path(place, "checkpoint")
    return inside if inside.is_dir() else locate(place)


def origin_of(checkpoint: str | Path) -> Origin | None:
    """From the record of its run, in the folder or the one that holds it, and from what lies beside its weights.

    None where neither tells.
    """
    path = Path(checkpoint)
    recorded, told = _recorded(path), _told(path)
    if recorded is None or told is None:
        return recorded or told
    return replace(recorded, files=told.files, held_out=told.held_out, earlier=told.earlier)


def _told(path: Path) -> Origin | None:
    for folder in (path, path / "checkpoint"):
        try:
            return Origin.from_json(json.loads((folder / RUN).read_text("utf-8")).get("trained_on"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
    return None


def _recorded(path: Path) -> Origin | None:
    for folder in (path, path.parent):
        try:
            if not (folder / "run.json").is_file():
                continue
            found = Origin.of_record(current_names(json.loads((folder / "run.json").read_text())))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if found.pairs is None and found.text_columns:
            return replace(found, pairs=len(found.text_columns) == 2)
        return found
    return None
