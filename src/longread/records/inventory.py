"""What lies under OUT/runs: each run with its status and its bytes; and checkpoints that nobody wants are deleted."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longread.problems import HEADLINE, problem_of
from longread.records.lock import LOCK, is_locked, locked_if_free
from longread.records.store import Run, read_runs

log = logging.getLogger("longread")
CHECKPOINT, STATES = "checkpoint", "state-*.safetensors"


@dataclass(frozen=True)
class Kept:
    """A run as it lies on disk. record: None while it has none, or where it is damaged (edited, half-written), and
    `problem` says how. heavy_bytes: of its checkpoint and saved states."""

    name: str
    directory: Path
    record: dict[str, Any] | None
    running: bool
    bytes: int
    heavy_bytes: int
    changed: float  # seconds since 1970
    problem: str | None = None

    @property
    def status(self) -> str:
        """That of the record; "running" while a process has it, "stopped" where it was killed without a record,
        "damaged" where its record cannot be believed."""
        if self.running:
            return "running"
        if self.problem is not None:
            return "damaged"
        return "stopped" if self.record is None else str(self.record["status"])

    @property
    def headline(self) -> tuple[str, float] | None:
        """The metric that its kind of task is told by, and its value."""
        if self.record is None:
            return None
        name = "masked_accuracy" if self.record["kind"] == "pretrain" else HEADLINE[problem_of(self.record)]
        value = self.record["metrics"].get(name)
        return (name, float(value)) if isinstance(value, int | float) else None

    def to_json(self) -> dict[str, Any]:
        record, headline = self.record or {}, self.headline
        return {
            "run_id": self.name,
            "status": self.status,
            "problem": self.problem,
            "kind": record.get("kind"),
            "task": record.get("task"),
            "attention": record.get("attention"),
            "metric": headline and headline[0],
            "value": headline and headline[1],
            "bytes": self.bytes,
            "checkpoint_bytes": self.heavy_bytes,
            "changed": self.changed,
            "directory": str(self.directory),
        }


def kept_runs(out: Path) -> list[Kept]:
    """All runs of OUT, by task, the best first; those of a compact study too, and folders without a record.

    What is damaged is warned of, as a report does.
    """
    runs, damaged = read_runs(out)
    found: dict[str, Run | None] = {run.record["run_id"]: run for run in runs}
    problems: dict[str, str] = {}
    for what in damaged:
        log.warning("damaged: %s", what)
        place, _, problem = what.partition(": ")
        if place.startswith("runs/"):
            problems[place.split("/")[1]] = problem
    for folder in sorted((out / "runs").glob("*/")):
        found.setdefault(folder.name, None)
    kept = [
        _kept(name, out / "runs" / name, None if run is None else run.record, problems.get(name))
        for name, run in found.items()
    ]

    def order(one: Kept) -> tuple[str, float, str]:
        task = "" if one.record is None else str(one.record["task"])
        return task, -(one.headline or ("", -1e9))[1], one.name

    return sorted(kept, key=order)


def _kept(name: str, directory: Path, record: dict[str, Any] | None, problem: str | None) -> Kept:
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != LOCK]
    heavy = [path for path in files if path.is_relative_to(directory / CHECKPOINT) or path in set(states(directory))]
    changed = max((path.stat().st_mtime for path in files), default=0.0)
    return Kept(name, directory, record, is_locked(directory), _size(files), _size(heavy), changed, problem)


def states(directory: Path) -> list[Path]:
    return list(directory.glob(STATES))


def _size(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def drop_checkpoint(run: Kept) -> int:
    """Deletes its checkpoint and states; records and predictions stay. The bytes that are free now: 0 where a process
    has the run, or where there was nothing."""
    if not run.directory.is_dir():
        return 0
    with locked_if_free(run.directory) as free:
        if not free:
            return 0
        shutil.rmtree(run.directory / CHECKPOINT, ignore_errors=True)
        for path in states(run.directory):
            path.unlink(missing_ok=True)
    return run.heavy_bytes
