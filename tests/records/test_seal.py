"""A record that was changed behind the program's back is named and left out; the report is made of the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longread import records
from longread.errors import UserError
from longread.records import Run, RunRecord, find_run, read_runs, rewrite_record, write_lines, write_predictions
from longread.records.compact import compact
from longread.report import build_report

ROWS = {"name": "reviews", "split": "validation", "rows": 40, "fingerprint": "of-these-rows"}


def write(out: Path, seed: int, status: str = "ok") -> Run:
    """A run with a history and predictions on rows in an order of its own."""
    random = np.random.default_rng(seed)
    name, directory = f"run-{seed}", out / "runs" / f"run-{seed}"
    write_lines(directory / "history.jsonl", [{"epoch": 1, "train_loss": 0.5 + seed}, {"epoch": 2, "train_loss": 0.25}])
    rows = random.permutation(40)
    found = random.dirichlet([1.0, 1.0], 40).astype(np.float32)
    write_predictions(directory / "predictions.parquet", rows, rows % 2, found)
    return records.write_record(
        out,
        RunRecord(
            run_id=name, kind="train", status=status, task="reviews", attention="dense", init="scratch",  # type: ignore[arg-type]
            config={"max_length": 512, "epochs": 2}, seed=seed, metrics={"accuracy": 0.5 + seed / 100, "loss": 0.7},
            error=None if status == "ok" else "stopped",
            dataset=records.Dataset(label_names=("a", "b"), eval=records.SplitRecord(**ROWS)),  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """As somebody with an editor does: everything else stays as it was written."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record, indent=2))


def better(record: dict[str, Any]) -> None:
    record["metrics"]["accuracy"] = 0.99


EDITS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "accuracy": (lambda own, other: edit(own / "run.json", better), "it was changed after it was written"),
    "a field more": (
        lambda own, other: edit(own / "run.json", lambda r: r.update(note="fine")),
        "it was changed after it was written",
    ),
    "another run's record": (
        lambda own, other: shutil.copy(other / "run.json", own / "run.json"),
        "its history is not the one it was written with",
    ),
    "another run's predictions": (
        lambda own, other: shutil.copy(other / "predictions.parquet", own / "predictions.parquet"),
        "its predictions are not those it was written with",
    ),
    "history": (
        lambda own, other: write_lines(own / "history.jsonl", [{"epoch": 1, "train_loss": 0.1}]),
        "its history is not the one it was written with",
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_changed_record_is_named_and_left_out(what: str, tmp_path: Path) -> None:
    runs = [write(tmp_path, seed) for seed in range(3)]
    assert read_runs(tmp_path)[1] == [] and len(read_runs(tmp_path)[0]) == 3
    change, why = EDITS[what]
    change(runs[2].directory, runs[1].directory)
    build_report(tmp_path, figures=False)
    text = (tmp_path / "report.md").read_text()
    assert "2 runs on reviews: Dense. Left out, because damaged: runs/run-2" in text and why in text
    assert "99" not in text.split("Left out")[0]
    with pytest.raises(UserError, match=r"run-2.*mend or delete it"):
        compact(tmp_path, tmp_path / "kept")


def test_a_changed_line_of_a_kept_study_and_other_predictions_are_named(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / "out", seed)
    compact(tmp_path / "out", tmp_path / "kept")
    assert read_runs(tmp_path / "kept")[1] == []
    path = tmp_path / "kept" / "runs.jsonl"
    lines = path.read_text().splitlines()
    changed = json.loads(lines[1])
    better(changed)
    path.write_text(
        "\n".join([lines[0], json.dumps(changed), lines[2].replace('"train_loss": 0.25', '"train_loss": 0.2')])
    )
    runs, damaged = read_runs(tmp_path / "kept")
    assert [run.record["seed"] for run in runs] == [0]
    assert [what.split(":")[0] for what in damaged] == ["runs.jsonl, line 2", "runs.jsonl, line 3"]
    path.write_text("\n".join(lines))
    table = next((tmp_path / "kept").glob("*.parquet"))
    import pyarrow.parquet as pq

    found = pq.read_table(table)
    swap = {"run-0": "run-1", "run-1": "run-0"}
    names = [
        "/".join([swap.get(own.split("/")[0], own.split("/")[0]), *own.split("/")[1:]]) for own in found.column_names
    ]
    pq.write_table(found.rename_columns(names), table)
    runs, damaged = read_runs(tmp_path / "kept")
    assert [run.record["seed"] for run in runs] == [2]
    assert all("its predictions are not those it was written with" in what for what in damaged) and len(damaged) == 2


def test_what_the_program_itself_writes_again_is_believed(tmp_path: Path) -> None:
    run = write(tmp_path, 0)
    run.record["faithfulness"] = {"deletion": 0.5}
    rewrite_record(run)
    again = find_run(tmp_path, "run-0")
    assert again is not None and again.record == run.record and "checksum" not in again.record
    assert read_runs(tmp_path)[1] == []


def test_records_of_earlier_versions_and_of_stopped_runs_are_read_as_before(tmp_path: Path) -> None:
    run, stopped = write(tmp_path, 0), write(tmp_path, 1, "interrupted")
    edit(run.directory / "run.json", lambda record: [record.pop(name) for name in ("checksum", "contents")])
    edit(run.directory / "run.json", better)
    write_lines(stopped.directory / "history.jsonl", [{"epoch": 1, "train_loss": 0.1}])  # it goes on just now
    found, damaged = read_runs(tmp_path)
    assert damaged == [] and [run.record["metrics"]["accuracy"] for run in found] == [0.99, 0.51]
