"""Run records: what a run was, what it measured, and where its raw results lie.

A run is a folder `OUT/runs/<run_id>/`. Its `run.json` is written once, atomically, when the run ends (well or
badly); everything a report says is computed from these folders alone. Knows files and JSON, never torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.errors import UserError
from longread.records.files import canonical, fingerprint, write_atomically

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
STATUSES = ("ok", "diverged", "out_of_memory", "interrupted", "error")


def run_id(kind: str, config: Mapping[str, Any], seed: int, fingerprints: Iterable[str]) -> str:
    """Name of a run: the same work has the same name, so that a rerun can be skipped."""
    return fingerprint(kind, canonical(dict(config)), str(seed), *fingerprints)


def write_predictions(path: Path, rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Parquet with columns row, label, predicted, probability_0 … (probabilities [R, C])."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"row": rows, "label": labels, "predicted": probabilities.argmax(axis=1)}
    table = {name: pa.array(values, pa.int32()) for name, values in columns.items()}
    for index in range(probabilities.shape[1]):
        table[f"probability_{index}"] = pa.array(probabilities[:, index], pa.float32())
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


@dataclass(frozen=True)
class Run:
    """One finished run: its record in memory, its larger results on disk, read when asked for."""

    record: dict[str, Any]
    directory: Path

    def history(self) -> list[dict[str, Any]]:
        """One dictionary an epoch; empty where the run has none (a baseline, a benchmark)."""
        path = self.directory / "history.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]

    def predictions(self) -> dict[str, np.ndarray] | None:
        """`row`, `label`, `predicted` [R] and `probabilities` [R, C], or None where nothing was predicted."""
        path = self.directory / "predictions.parquet"
        if not path.exists():
            return None
        import numpy as np
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        names = [name for name in table.column_names if name.startswith("probability_")]
        result = {name: table[name].to_numpy() for name in ("row", "label", "predicted")}
        result["probabilities"] = np.stack([table[name].to_numpy() for name in names], axis=1)
        return result

    def attention_map(self) -> dict[str, Any] | None:
        path = self.directory / "attention_map.json"
        return json.loads(path.read_text()) if path.exists() else None


def load_run(directory: Path) -> Run | None:
    """The run in a folder, or None while it has no record (it is under way, or was killed)."""
    path = directory / "run.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a run record ({error}); delete the folder to run it again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise UserError(f"{path}: not a run record of schema {SCHEMA}; delete the folder to run it again")
    return Run(record, directory)


def load_runs(directory: Path) -> list[Run]:
    """Every finished run under `DIRECTORY/runs`, in the order of task, attention, seed and name."""
    found = (load_run(path) for path in sorted(Path(directory, "runs").glob("*/")))
    runs = [run for run in found if run is not None]
    return sorted(runs, key=lambda run: tuple(str(run.record.get(k)) for k in ("task", "attention", "seed", "run_id")))
