"""What is known of how a checkpoint was made, where it lies in the folder of its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longread.data.tasks import TASKS
from longread.models.locate import locate
from longread.records import current_names

# What decides which rows of a table were held out, and what its columns mean.
ROWS_OF_THE_TASK = ("validation_fraction", "sample_seed", "text_columns", "label_columns", "label_separator",
                    "encoding", "delimiter")  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """`task` and `config` of the run that made a checkpoint; whether it was trained on pairs (None: not known).

    columns: of the table that it was trained on, where the texts stood; empty where that is not known.
    """

    task: str
    config: dict[str, Any]
    pairs: bool | None
    columns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What a file made of the checkpoint has to know."""
        own = {name: self.config[name] for name in ROWS_OF_THE_TASK if self.config.get(name) is not None}
        task = _without_place(self.task)
        return {"task": task, "text_columns": list(self.text_columns), "pairs": self.pairs, "rows": own}

    @classmethod
    def from_json(cls, told: Mapping[str, Any] | None) -> Origin | None:
        if told is None:
            return None
        config = dict(told.get("rows") or {}) | {"text_columns": told["text_columns"]}
        return cls(told["task"], config, told["pairs"])

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns that it was trained on, as far as they are known."""
        known = TASKS[self.task].text_columns if self.task in TASKS else ()
        return tuple(self.config.get("text_columns") or self.columns or known)

    @property
    def of_own_table(self) -> bool:
        """Whether those columns are the user's own, and not a public data set's."""
        return bool(self.text_columns) and self.task.partition(":")[0] not in (*TASKS, "hub")


def _without_place(task: str) -> str:
    """A file's name alone: where it lies on this machine is nobody's business."""
    return task if task.startswith("hub:") else Path(task).name


def is_graph(place: str | Path) -> bool:
    """Whether it is an exported file, which answers by itself."""
    return Path(place).suffix == ".onnx" and not Path(place).is_dir()


def folder_of(place: str | Path) -> Path:
    """The folder with a checkpoint's files: of a run the one inside, of a Hub id its snapshot. UserError if none."""
    inside = Path(place, "checkpoint")
    return inside if inside.is_dir() else locate(place)


def origin_of(checkpoint: str | Path) -> Origin | None:
    """None where the checkpoint, or the folder that holds it, has no run record."""
    path = Path(checkpoint)
    for folder in (path, path.parent):
        try:
            if not (folder / "run.json").is_file():
                continue
            record = current_names(json.loads((folder / "run.json").read_text()))
            rows = record["dataset"]["train"]
            columns = tuple(rows.get("text_columns") or ())
            found = Origin(record["task"], dict(record["config"]), rows.get("pairs"), columns)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if found.pairs is None and found.text_columns:
            return replace(found, pairs=len(found.text_columns) == 2)
        return found
    return None
