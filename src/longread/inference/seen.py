"""Rows that a checkpoint was trained on are left out of those that it is scored on, whichever files they are read from.

A file is known by its place, or by its bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.config import RunConfig
from longread.data.digests import Digest, ReadFile, digest_of
from longread.data.examples import Examples
from longread.data.load import training_part
from longread.data.shards import URL, Shard, shards_of
from longread.errors import UserError
from longread.inference.origin import READ_ALIKE, Origin, is_own

log = logging.getLogger("longread")


def files_at(place: str) -> list[Shard]:
    """The files of a table on this machine; none where it is not here."""
    try:
        return [] if URL.match(place) else shards_of(place)
    except UserError:
        return []


def is_table_of(origin: Origin, place: str) -> bool:
    """Whether `place` is the table that was trained on, or a copy of it; of older checkpoints a file of its name."""
    if not is_own(origin.task):
        return origin.task == place
    if origin.placed and (origin.task == place or _is_same_path(origin.task, place)):
        return True
    known, here = _digests(origin), files_at(place)
    if known:
        return len(here) == len(known) and all(one.is_of(file) for one, file in zip(known, here, strict=True))
    return not origin.placed and Path(place).name == origin.task and Path(place).is_file()


def has_changed(origin: Origin, place: str) -> bool:
    """Whether the table there, which was trained on, is known to have had other bytes then."""
    here = files_at(place)
    as_it_was = len(here) == len(origin.files) and all(
        one.is_of(file) for one, file in zip(origin.files, here, strict=True)
    )
    return bool(origin.files and here) and not as_it_was


def without_seen(config: RunConfig, trainings: Sequence[Origin]) -> Callable[[Examples], Examples]:
    """What leaves out of the rows that `config` names those that one of these trainings read."""

    def leave_out(examples: Examples) -> Examples:
        own = [one for one in trainings if is_own(one.task) and not _is_held_out_of(examples, config, one)]
        if not examples.sources or not own:
            return examples
        seen = np.zeros(sum(file.rows for file in examples.sources), dtype=bool)
        for training in own:
            _mark(seen, examples.sources, training, config)
        unseen = np.flatnonzero(~seen[examples.rows])
        place, rows = config.eval_file or config.task, len(examples)
        if not len(unseen):
            raise UserError(f"{place}: the checkpoint was trained on all of its rows; give others with --eval-file")
        if len(unseen) < rows:
            log.info("%s: %s of %s rows were trained on; the others are scored", place, rows - len(unseen), rows)
        return examples.take(unseen) if len(unseen) < rows else examples

    return leave_out


def reads_labels_alike(training: Origin, config: RunConfig) -> bool:
    """Whether the rows held out by these labels are those that were held out of training."""
    return all(
        tuple(training.config.get(name) or ()) == tuple(getattr(config, name) or ())
        for name in ("label_columns", "label_separator")
    )


def _is_held_out_of(examples: Examples, config: RunConfig, training: Origin) -> bool:
    """Whether these rows are, by themselves, those that were held out of this training."""
    return (
        examples.split == "validation"
        and config.eval_file is None
        and training.held_out
        and reads_labels_alike(training, config)
        and all(training.config.get(name) == getattr(config, name) for name in ("validation_fraction", "sample_seed"))
        and is_table_of(training, config.task)
    )


def _mark(seen: npt.NDArray[np.bool_], sources: Sequence[ReadFile], training: Origin, config: RunConfig) -> None:
    """seen [rows of all sources] becomes True where `training` has read the row."""
    there = files_at(training.task) if training.placed else []
    known = _digests(training)
    places = {file.place.resolve(): number for number, file in enumerate(there) if isinstance(file.place, Path)}
    found: dict[int, int] = {}  # of the sources' numbers -> of the training's files
    for number, file in enumerate(sources):
        place = file.shard.place
        if file.digest is not None and file.digest in known:
            found[number] = known.index(file.digest)
        elif isinstance(place, Path) and place.resolve() in places and len(there) == len(known):
            found[number] = places[place.resolve()]
    if not found:
        return
    shards = [_file(number, known, there, sources, found) for number in range(len(known))]
    ends = np.cumsum([file.rows for file in sources])
    read = None
    if training.held_out and all(shard is not None for shard in shards):
        read = _rows_read(training, [shard for shard in shards if shard is not None], config)
    elif training.held_out:
        log.warning(
            "%s was trained on with other files, which are not here: which of its rows were held out is not known, and "
            "none is scored", ", ".join(sources[number].shard.source for number in found),
        )  # fmt: skip
    for number, own in found.items():
        rows = sources[number].rows
        inside = np.arange(rows) if read is None else read[own][read[own] < rows]
        seen[ends[number] - rows + inside] = True


def _file(
    number: int, known: Sequence[Digest], there: Sequence[Shard], sources: Sequence[ReadFile], found: dict[int, int]
) -> Shard | None:
    """A file as training read it or, failing that, what is in its place now."""
    same = [sources[own].shard for own, other in found.items() if other == number]
    if exact := [file.shard for file in sources if file.digest == known[number]]:
        return exact[0]
    if len(there) == len(known):
        return there[number]
    return same[0] if same else None


def _rows_read(training: Origin, shards: Sequence[Shard], config: RunConfig) -> list[npt.NDArray[Any]]:
    """Of each file the rows, from its own first one on, that were not held out."""
    told: dict[str, Any] = {name: training.config.get(name, getattr(RunConfig, name)) for name in READ_ALIKE}
    told["text_columns"] = training.text_columns or None
    asked = RunConfig.from_json(config.to_json() | told | {"eval_file": None})
    part = training_part(asked.data_config(), shards)
    ends = np.cumsum([0, *(file.rows for file in part.sources)])
    rows = np.sort(part.rows.astype(np.int64))
    cuts = np.searchsorted(rows, ends)
    return [rows[a:b] - first for a, b, first in zip(cuts, cuts[1:], ends, strict=False)]


def _digests(origin: Origin) -> tuple[Digest, ...]:
    """Of older checkpoints those of what lies in the place of its files now."""
    if origin.files or not origin.placed:
        return origin.files
    return tuple(digest for file in files_at(origin.task) if (digest := digest_of(file)) is not None)


def _is_same_path(one: str, other: str) -> bool:
    return Path(one).exists() and Path(one).resolve() == Path(other).resolve()
