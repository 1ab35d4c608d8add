"""Where a run's first weights came from: which runs are independent draws, and what a result cost in all.

Three fine-tunings behind one distillation are not three seeds: whatever chance gave that distillation, all three have
it. They are one draw here, and no interval or claim treats them as more. A published checkpoint is no such ancestor:
it is the same for everyone who repeats the study, so that results are about fine-tunings of that checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longread.report.numbers import finite

if TYPE_CHECKING:
    from longread.records import Run

# Of records without `lineage`: the run whose checkpoint `init` is.
RUN_FOLDER = re.compile(r"runs/([0-9a-f]{16})(?:/|$)")
# An init that begins like this is a folder of one's own, not a name on the Hub.
OWN_FOLDERS = ("out/", "results/", "runs/", "/", "./", "../", "~")


def ancestors(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The trained runs behind a run, by name, with their training seconds (None: not recorded).

    From `lineage`, a list of (or a dictionary by role of) `{run_id, seconds}`. Records from before it have no more
    than the path of a local checkpoint in `init`, and the seconds of a distillation without a name.
    """
    found: dict[str, float | None] = {}
    unnamed = 0.0
    for entry in lineage(record):
        name, seconds = entry.get("run_id"), finite(entry.get("seconds"))
        if name:
            found[f"run {name}"] = seconds
        else:
            unnamed += seconds or 0.0
    if found:
        return found
    init = str(record.get("init") or "scratch")
    folder = RUN_FOLDER.search(init)
    if folder is not None:
        found[f"run {folder[1]}"] = None
    elif init.startswith(OWN_FOLDERS) or (unnamed and init != "scratch"):
        found[f"weights {init.rstrip('/')}"] = None  # its own training, or its teacher's, is not recorded
        if unnamed:
            found[f"distillation {init.rstrip('/')}"] = unnamed
    return found


def lineage(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    stored = record.get("lineage") or ()
    if isinstance(stored, Mapping):
        stored = [entry for part in stored.values() for entry in (part if isinstance(part, list) else [part])]
    return [entry for entry in stored if isinstance(entry, Mapping)] if isinstance(stored, list | tuple) else []


def all_ancestors(record: Mapping[str, Any], known: Mapping[str, Run]) -> dict[str, float | None]:
    """Ancestors and theirs, as far as their records are among `known` (by run id)."""
    found: dict[str, float | None] = {}
    waiting = [record]
    while waiting:
        for name, seconds in ancestors(waiting.pop()).items():
            if name not in found:
                found[name] = seconds
                run = known.get(name.removeprefix("run "))
                if run is not None:
                    found[name] = seconds if seconds is not None else finite(run.record.get("train_seconds"))
                    waiting.append(run.record)
    return found


def draws(members: Sequence[set[str]]) -> list[int]:
    """The number of the independent draw that each member belongs to: those that share an ancestor are one.

    `members[i]` holds the names of everything random that member i rests on. Numbers count from 0, in order.
    """
    groups: list[tuple[set[str], list[int]]] = []
    for index, names in enumerate(members):
        touched = [group for group in groups if group[0] & names]
        groups = [group for group in groups if not group[0] & names]
        merged = set(names).union(*(group[0] for group in touched))
        groups.append((merged, sorted([index, *(i for group in touched for i in group[1])])))
    numbers = [0] * len(members)
    for number, (_, indices) in enumerate(sorted(groups, key=lambda group: group[1][0])):
        for index in indices:
            numbers[index] = number
    return numbers
