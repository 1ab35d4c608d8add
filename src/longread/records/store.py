"""Run records: what a run was, what it measured, and where its raw results lie.

While a study runs, a run is a folder `OUT/runs/<run_id>/`. Its `run.json` is written once, atomically, when the run
ends (well or badly); everything a report says is computed from the records. A study that is kept is compact: all its
records in `OUT/runs.jsonl`, with the history of each; the predictions in one Parquet file for each set of rows (see
compact.py). Both are read here, also beside each other: a run's own folder is newer and counts.
Knows files and JSON, never torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.errors import UserError
from longread.records.files import canonical, fingerprint, write_json
from longread.records.predictions import read_predictions, read_shared
from longread.records.record import SCHEMA, STATUSES, RunRecord, current_names
from longread.records.seal import contents_of, sealed, unsealed

if TYPE_CHECKING:
    from longread.records.predictions import Predicted

RECORDS, MAPS = "runs.jsonl", "attention_maps.json"  # of a compact study

log = logging.getLogger("longread")


def run_id(kind: str, config: Mapping[str, Any], seed: int, fingerprints: Iterable[str]) -> str:
    """Name of a run: the same work has the same name, so that a rerun can be skipped."""
    return fingerprint(kind, canonical(dict(config)), str(seed), *fingerprints)


@dataclass(frozen=True)
class Run:
    """One finished run: its record in memory, its larger results on disk, read when asked for.

    directory: the run's own folder, with its checkpoint. Of a run in a compact study, `study` is the folder of the
    study, `epochs` its history, and `directory` where a checkpoint would lie.
    """

    record: dict[str, Any]
    directory: Path
    study: Path | None = None
    epochs: tuple[dict[str, Any], ...] = ()

    def history(self) -> list[dict[str, Any]]:
        """One dictionary an epoch; empty where the run has none (a baseline, a benchmark)."""
        path = self.directory / "history.jsonl"
        if self.study is not None or not path.exists():
            return list(self.epochs)
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]

    def predictions(self) -> Predicted | None:
        """`row`, `label`, `predicted` [R] and `probabilities` [R, C], or None where nothing was predicted."""
        if self.study is not None:
            path = self.study / shared_file(self.record)
            return read_shared(path, str(self.record["run_id"])) if path.exists() else None
        path = self.directory / "predictions.parquet"
        return read_predictions(path) if path.exists() else None

    def attention_map(self) -> dict[str, Any] | None:
        """What `longread.inference.attention_maps` made; a compact study keeps few of them, most runs None."""
        if self.study is not None:
            path = self.study / MAPS
            return json.loads(path.read_text("utf-8")).get(self.record["run_id"]) if path.exists() else None
        path = self.directory / "attention_map.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None


def shared_file(record: Mapping[str, Any]) -> str:
    """Name of the file with the predictions of all runs of a compact study on this run's evaluation rows."""
    rows = (record.get("dataset") or {}).get("eval") or {}
    return f"predictions-{rows.get('fingerprint')}.parquet"


def load_run(directory: Path) -> Run | None:
    """The run in a folder, or None while it has no record (it is under way, or was killed). UserError if damaged."""
    path = directory / "run.json"
    try:
        return Run(_record(path.read_bytes()), directory)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not a run record ({error}); delete the folder to run it again") from None


def find_run(out: Path, name: str) -> Run | None:
    """The run of this id under OUT, in its own folder or among a compact study's; None where it has no record."""
    own = load_run(out / "runs" / name)
    if own is not None:
        return own
    return next((run for _, run in _lines(out) if isinstance(run, Run) and run.record["run_id"] == name), None)


def write_record(out: Path, record: RunRecord) -> Run:
    """`OUT/runs/<run_id>/run.json`, whole or not at all; what it was made of lies beside it already.

    ValueError for a number that is none.
    """
    directory = out / "runs" / record.run_id
    run = Run(record.to_json(), directory)
    contents = contents_of(run.history(), run.predictions())
    if contents and record.status == "ok":  # another one goes on from its state: its files change before its record
        run.record["contents"] = contents
    rewrite_record(run)
    return run


def rewrite_record(run: Run) -> None:
    """The record in the run's own folder as it is in memory now."""
    write_json(run.directory / "run.json", sealed(run.record))


def with_error(run: Run, error: str) -> Run:
    """The run of a folder, and its record there, with another reason for its end."""
    changed = Run(run.record | {"error": error}, run.directory)
    rewrite_record(changed)
    return changed


def load_runs(directory: Path) -> list[Run]:
    """Every finished run under DIRECTORY, in the order of task, attention, seed and name; a damaged one is warned of
    and left out."""
    runs, damaged = read_runs(directory)
    for what in damaged:
        log.warning("left out, because damaged: %s", what)
    return runs


def read_runs(directory: Path) -> tuple[list[Run], list[str]]:
    """The runs as `load_runs` gives them, and for each damaged one (half-written, edited) where and why."""
    directory = Path(directory)
    found: dict[str, Run] = {}
    damaged: list[str] = []
    for place, run in [*_lines(directory), *_folders(directory)]:
        problem = _unreadable(run) if isinstance(run, Run) else run
        if problem is not None:
            damaged.append(f"{place}: {problem}")
        elif isinstance(run, Run):
            found[str(run.record["run_id"])] = run
    keys = ("task", "attention", "seed", "run_id")
    return sorted(found.values(), key=lambda run: tuple(str(run.record.get(key)) for key in keys)), damaged


def _lines(directory: Path) -> Iterator[tuple[str, Run | str]]:
    """Each run of a compact study, or what is wrong with its line."""
    path = Path(directory, RECORDS)
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        place = f"{RECORDS}, line {number}"
        try:
            record = _record(line)
        except ValueError as error:
            yield place, f"not a run record ({error})"
            continue
        history, name = record.pop("history", []), str(record["run_id"])
        if isinstance(history, list):
            run = Run(record, Path(directory, "runs", name), Path(directory), tuple(history))
            yield f"{place} ({name})", run
        else:
            yield place, "a history that is no list"


def _folders(directory: Path) -> Iterator[tuple[str, Run | str]]:
    for path in sorted(Path(directory, "runs").glob("*/")):
        file = path / "run.json"
        if file.exists():
            try:
                yield f"runs/{path.name}", Run(_record(file.read_bytes()), path)
            except FileNotFoundError:  # its run began anew in this moment
                continue
            except ValueError as error:
                yield f"runs/{path.name}/run.json", f"not a run record ({error})"


def _record(text: bytes) -> dict[str, Any]:
    """ValueError (JSONDecodeError and UnicodeDecodeError are) for what no report can be made of."""
    record = json.loads(text)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ValueError(f"no object of schema {SCHEMA}")
    if record.get("status") not in STATUSES:
        raise ValueError(f"status {record.get('status')!r}")
    for names, kind in (
        (("run_id", "kind", "task", "attention"), str),
        (("config", "metrics"), dict),
        (("dataset", "environment"), dict | None),
    ):
        for name in names:
            if not isinstance(record.get(name), kind):
                raise ValueError(f"{name} is {record.get(name)!r}")
    return current_names(unsealed(record))


def _unreadable(run: Run) -> str | None:
    """Why what lies beside the record cannot be read, or None."""
    try:
        history, predicted, _ = run.history(), run.predictions(), run.attention_map()
    except (OSError, ValueError, KeyError, AttributeError) as error:  # pyarrow's ArrowInvalid is a ValueError
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    if not all(isinstance(entry, dict) for entry in history):
        return "a line of its history is no object"
    evaluated = (run.record.get("dataset") or {}).get("eval")
    stated = evaluated.get("rows") if isinstance(evaluated, dict) else None
    if predicted is not None and stated is not None and len(predicted["row"]) != stated:
        return f"predictions of {len(predicted['row'])} rows, its record says {stated}"
    written = run.record.get("contents")
    if not isinstance(written, dict):  # of an earlier version, or of a run that did not end well
        return None
    for name, content in contents_of(history, predicted).items():
        if content != written.get(name):
            is_not = "is not the one" if name == "history" else "are not those"
            return f"its {name} {is_not} it was written with"
    return None
