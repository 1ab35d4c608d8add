"""Which rows a checkpoint is scored on: those that its training has not seen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from longread.config import RunConfig
from longread.data.examples import Examples
from longread.data.load import is_held_out
from longread.data.shards import column_names, is_pattern, shards_of
from longread.data.tasks import find_task
from longread.errors import UserError, option_name
from longread.inference.onnx import load_onnx
from longread.inference.origin import ROWS_OF_THE_TASK, Origin, folder_of, is_graph, is_own, origin_of
from longread.inference.seen import has_changed, is_table_of, reads_labels_alike, without_seen
from longread.models.locate import locate

log = logging.getLogger("longread")


def default_task(checkpoint: str | Path, eval_file: str | None) -> str:
    """What the checkpoint was trained on, or else the file by itself. UserError where there is neither."""
    made_by = _origin(checkpoint)
    if made_by is not None and eval_file is None and is_own(made_by.task) and not _is_here(made_by):
        raise UserError(
            f"{checkpoint}: was trained on {made_by.task}, which is not here; say with --task where it is, or give "
            "other rows with --eval-file"
        )
    if made_by is not None and not (eval_file and find_task(made_by.task).generate):
        return made_by.task
    if eval_file is None:
        folder_of(checkpoint)  # what is no checkpoint at all is said first
        raise UserError(f"{checkpoint}: it is not known what this was trained on; give --task or --eval-file")
    return eval_file


def _is_here(origin: Origin) -> bool:
    if origin.placed:
        return is_pattern(origin.task) or Path(origin.task).exists()
    return is_table_of(origin, origin.task)


def as_trained(config: RunConfig, checkpoint: str | Path) -> RunConfig:
    """On the task that the checkpoint was trained on, what was not given is as it was in training.

    Otherwise other rows would be held out, and the model be scored on rows that it has seen. UserError where that was
    asked for.
    """
    return _as_trained(config, _trainings(checkpoint), checkpoint)


def _as_trained(config: RunConfig, trainings: tuple[Origin, ...], checkpoint: str | Path) -> RunConfig:
    made_by = next((one for one in trainings if _is_task_of(one, config)), None)
    if made_by is None:
        return config
    values = {name: made_by.config.get(name) for name in ROWS_OF_THE_TASK}
    if is_held_out(config.data_config()):
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


def _is_task_of(origin: Origin, config: RunConfig) -> bool:
    """Also by its name alone, where it is not the task's rows that are read."""
    return (config.eval_file is not None and origin.task == config.task) or is_table_of(origin, config.task)


def _refuse_other_rows(config: RunConfig, as_trained: dict[str, Any], checkpoint: str | Path) -> None:
    for name in ("validation_fraction", "sample_seed"):
        value, own = getattr(config, name), as_trained[name]
        if own is not None and value not in (own, getattr(RunConfig, name)):
            raise UserError(
                f"{option_name(name)} {value}: {checkpoint} was trained on {config.task}, and another choice would "
                "score rows that it has seen; leave it out"
            )


def rows_of(config: RunConfig, checkpoint: str | Path) -> tuple[RunConfig, Callable[[Examples], Examples]]:
    """Where the rows to score are and how they are read; and what leaves out of them those that were trained on.

    Of a table that the checkpoint was not trained on all rows are scored: none was held out for it. Its columns are
    those of training where it has them. UserError for a file that is not there.
    """
    trainings = _trainings(checkpoint)
    task, given = config.task, config.eval_file
    if given is None and is_own(task) and not Path(task).is_dir():
        shards_of(task)
    if given is None and is_own(task) and is_held_out(config.data_config()):
        trained = next((one for one in trainings if is_table_of(one, task)), None)
        if trained is None:
            config = _all_of_another_table(config, trainings, checkpoint)
        else:
            config = _rest_of_the_table(_as_trained(config, trainings, checkpoint), trained, checkpoint)
    config = _as_trained(config, trainings, checkpoint)
    if config.eval_file is not None:
        shards_of(str(config.eval_file))
    return config, without_seen(config, trainings)


def _all_of_another_table(config: RunConfig, trainings: tuple[Origin, ...], checkpoint: str | Path) -> RunConfig:
    if not trainings:
        log.warning(
            "it is not known what %s was trained on: all rows of %s are scored, also those that it may have seen",
            checkpoint, config.task,
        )  # fmt: skip
        return replace(config, eval_file=config.task)
    there = column_names(shards_of(config.task)[0], config.encoding, config.delimiter)
    known = {name: tuple(trainings[0].config.get(name) or ()) for name in ("text_columns", "label_columns")}
    changes: dict[str, Any] = {
        name: columns
        for name, columns in known.items()
        if columns and getattr(config, name) is None and set(columns) <= set(there)
    }
    return replace(config, eval_file=config.task, **changes)


def _rest_of_the_table(config: RunConfig, trained: Origin, checkpoint: str | Path) -> RunConfig:
    """Of what was trained on. By other labels than those of training, other rows would be held out."""
    if config.eval_file is not None:
        return config
    if has_changed(trained, config.task):
        log.warning(
            "%s: was changed since %s was trained on it; which of its rows were held out can be told no longer, and "
            "some that are scored may have been trained on", config.task, checkpoint,
        )  # fmt: skip
    alike = trained.held_out and reads_labels_alike(trained, config)
    return config if alike else replace(config, eval_file=config.task)


def _trainings(checkpoint: str | Path) -> tuple[Origin, ...]:
    made_by = _origin(checkpoint)
    return () if made_by is None else (made_by, *made_by.earlier)


def _origin(checkpoint: str | Path) -> Origin | None:
    """Of a checkpoint, or of the one that an exported graph is from. UserError where there is neither."""
    if is_graph(checkpoint):
        return load_onnx(Path(checkpoint), "cpu").origin
    return origin_of(checkpoint if Path(checkpoint).is_dir() else locate(checkpoint))
