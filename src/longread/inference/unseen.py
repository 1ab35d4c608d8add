"""Which rows a checkpoint is scored on: those that its training has not seen."""

from __future__ import annotations

import filecmp
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from longread.config import RunConfig
from longread.data.shards import column_names, shards_of
from longread.data.task_source import TaskSource
from longread.data.tasks import find_task
from longread.errors import UserError, option_name
from longread.inference.onnx import load_onnx
from longread.inference.origin import ROWS_OF_THE_TASK, Origin, folder_of, is_graph, origin_of
from longread.models.locate import locate

log = logging.getLogger("longread")


def default_task(checkpoint: str | Path, eval_file: str | None) -> str:
    """What the checkpoint was trained on, or else the file by itself. UserError where there is neither."""
    made_by = _origin(checkpoint)
    if made_by is not None and not (eval_file and find_task(made_by.task).generate):
        return made_by.task
    if eval_file is None:
        folder_of(checkpoint)  # what is no checkpoint at all is said first
        raise UserError(f"{checkpoint}: it is not known what this was trained on; give --task or --eval-file")
    return eval_file


def as_trained(config: RunConfig, checkpoint: str | Path) -> RunConfig:
    """On the task that the checkpoint was trained on, what was not given is as it was in training.

    Otherwise other rows would be held out, and the model be scored on rows that it has seen. UserError where that was
    asked for.
    """
    made_by = _origin(checkpoint)
    if made_by is None or not _same_place(made_by.task, config.task):
        return config
    values = {name: made_by.config.get(name) for name in ROWS_OF_THE_TASK}
    if _is_one_table(config):
        if (own_file := made_by.config.get("eval_file")) is not None:  # all of the table was trained on
            config = replace(config, eval_file=own_file)
        else:
            _refuse_other_rows(config, values, checkpoint)
    changes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None and getattr(config, name) == getattr(RunConfig, name)
    }
    return replace(config, **changes)


def _is_one_table(config: RunConfig) -> bool:
    """Whether evaluation rows are held out of the rows to train on."""
    task = find_task(config.task)
    if config.eval_file is not None or task.generate is not None:
        return False
    return TaskSource(task, config.task, config.data_config()).eval_split() is None


def _refuse_other_rows(config: RunConfig, as_trained: dict[str, Any], checkpoint: str | Path) -> None:
    for name in ("validation_fraction", "sample_seed"):
        value, own = getattr(config, name), as_trained[name]
        if own is not None and value not in (own, getattr(RunConfig, name)):
            raise UserError(
                f"{option_name(name)} {value}: {checkpoint} was trained on {config.task}, and another choice would "
                "score rows that it has seen; leave it out"
            )


def all_of_another_file(config: RunConfig, checkpoint: str | Path) -> RunConfig:
    """Of a file that the checkpoint was not trained on, all rows are scored: none was held out for it.

    Its columns are those of training where it has them.
    """
    made_by = _origin(checkpoint)
    if config.eval_file is not None or not Path(config.task).is_file():
        return config
    if made_by is None:
        log.warning(
            "it is not known what %s was trained on: all rows of %s are scored, also those that it may have seen",
            checkpoint, config.task,
        )  # fmt: skip
        return replace(config, eval_file=config.task)
    if _same_place(made_by.task, config.task):
        return config
    there = column_names(shards_of(config.task)[0], config.encoding, config.delimiter)
    known = {name: tuple(made_by.config.get(name) or ()) for name in ("text_columns", "label_columns")}
    changes: dict[str, Any] = {
        name: columns
        for name, columns in known.items()
        if columns and getattr(config, name) is None and set(columns) <= set(there)
    }
    return replace(config, eval_file=config.task, **changes)


def _origin(checkpoint: str | Path) -> Origin | None:
    """Of a checkpoint, or of the one that an exported graph is from. UserError for a file that is neither."""
    if is_graph(checkpoint):
        return load_onnx(Path(checkpoint), "cpu").origin
    if Path(checkpoint).is_file():
        locate(checkpoint)
    return origin_of(checkpoint)


def _same_place(one: str, other: str) -> bool:
    """`one` is a training's task; of a file its name alone where what is known was told away from its folder.

    A copy of its file is the same.
    """
    if one == other or (Path(one).exists() and Path(one).resolve() == Path(other).resolve()):
        return True
    if Path(one).is_file() and Path(other).is_file():
        return filecmp.cmp(one, other, shallow=False)
    return Path(one).name == one == Path(other).name and Path(other).is_file()
