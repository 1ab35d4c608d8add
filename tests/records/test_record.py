"""One dataclass builds run.json; what earlier versions wrote is read under today's names."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from longread import records
from longread.records import Ancestor, Dataset, RunRecord, SplitRecord, write_record

MINIMAL: dict[str, Any] = {
    "run_id": "0" * 16, "kind": "train", "status": "ok", "task": "imdb", "attention": "dense", "init": "scratch",
    "config": {"max_length": 512}, "seed": 0,
}  # fmt: skip


def test_a_record_reads_back_as_it_was_built_without_what_it_lacks(tmp_path: Path) -> None:
    split = SplitRecord(name="imdb", split="test", rows=5, fingerprint="ab")
    parent = Ancestor(role="init", run_id="1" * 16, kind="distill", seconds=3.5)
    built = RunRecord(**MINIMAL, dataset=Dataset(label_names=("neg", "pos"), eval=split), lineage=(parent,))
    run = write_record(tmp_path, built)
    assert run.directory == tmp_path / "runs" / built.run_id
    (read,) = records.load_runs(tmp_path)
    written = json.loads((run.directory / "run.json").read_text())
    assert len(written.pop("checksum")) == 16
    assert read.record == run.record == written
    assert read.record["dataset"] == {
        "label_names": ["neg", "pos"],
        "eval": {"name": "imdb", "split": "test", "rows": 5, "fingerprint": "ab"},
    }
    assert read.record["lineage"] == [{"role": "init", "run_id": "1" * 16, "kind": "distill", "seconds": 3.5}]
    assert read.record["error"] is None
    assert set(read.record) < {field.name for field in fields(RunRecord)}


@pytest.mark.parametrize("wrong", [{"kind": "trained"}, {"status": "fine"}, {"status": "diverged"}, {"error": "why"}])
def test_what_no_record_may_say_is_not_built(wrong: dict[str, str]) -> None:
    with pytest.raises(AssertionError):
        RunRecord(**(MINIMAL | wrong))


def test_numbers_that_json_lacks_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_record(tmp_path, RunRecord(**MINIMAL, metrics={"loss": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_old_names_are_translated_when_a_record_is_read(tmp_path: Path) -> None:
    old = MINIMAL | {
        "schema": 1,
        "metrics": {},
        "config": {"label_column": "team"},
        "conversion": {"from": "dense", "distillation": {"seconds": 600.0, "rows_seen": 3}},
    }
    records.write_json(tmp_path / "runs" / "old" / "run.json", old)
    (run,) = records.load_runs(tmp_path)
    assert run.record["config"] == {"label_columns": ["team"]}
    assert run.record["conversion"] == {"from": "dense", "distillation": {"seconds": 600.0, "rows_seen": 3}}
    assert run.record["lineage"] == [{"role": "distillation", "run_id": None, "kind": "distill", "seconds": 600.0}]
