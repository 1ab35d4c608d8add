"""`longread runs`: what is there is told, what is not chosen is deleted, and what goes on is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longread.cli import main as cli
from longread.records import LOCK, load_runs, locked
from longread.records.inventory import kept_runs
from report_records import record, write_run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three finished runs, a stopped one with its record, a killed one without."""
    for attention, accuracy in (("dense", 0.9), ("performer", 0.8), ("tfidf", 0.7)):
        write_run(tmp_path, record("reviews", attention, 0, 400), accuracy)
    stopped = record("reviews", "bigbird", 0, 400, status="interrupted", error="stopped by a signal", metrics={})
    folder = tmp_path / "runs" / stopped["run_id"]
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(stopped))
    (folder / f"state-{'0' * 10}-{'a' * 64}.safetensors").write_bytes(b"x" * 500)
    (tmp_path / "runs" / "killed").mkdir()
    (tmp_path / "runs" / "killed" / f"state-{'0' * 10}-{'b' * 64}.safetensors").write_bytes(b"x" * 300)
    for folder in (tmp_path / "runs").iterdir():
        if folder.name not in ("killed", stopped["run_id"]):
            (folder / "checkpoint").mkdir()
            (folder / "checkpoint" / "model.safetensors").write_bytes(b"x" * 1000)
    return tmp_path


def heavy(out: Path) -> list[Path]:
    return sorted([*out.glob("runs/*/checkpoint/*"), *out.glob("runs/*/state-*")])


def test_all_runs_are_told(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "--out", str(out)]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert len(lines) == 6
    assert "interrupted" in told.out and "stopped" in told.out
    assert [line.split()[4] for line in lines[2:5]] == ["dense", "performer", "tfidf"]  # the best first
    assert "5 runs" in told.err and "3.8 KB checkpoints and states" in told.err
    assert cli.main(["runs", "--out", str(out), "--json"]) == 0
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(value["checkpoint_bytes"] for value in values) == 3800
    assert {value["metric"] for value in values if value["status"] == "ok"} == {"accuracy"}


def test_a_damaged_record_is_named_and_told(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Edited, half-written, or beside predictions that are not its own: as the report leaves them out."""
    folders = sorted(path.parent for path in out.glob("runs/*/predictions.parquet"))
    records = [json.loads((folder / "run.json").read_text()) for folder in folders]
    (folders[0] / "run.json").write_text(json.dumps(records[0] | {"checksum": "0" * 16}))
    (folders[1] / "run.json").write_text(json.dumps(records[1])[:-9])
    (folders[2] / "predictions.parquet").write_bytes(b"PAR1")
    assert cli.main(["runs", "--out", str(out), "--json"]) == 0
    told = capsys.readouterr()
    values = {value["run_id"]: value for value in map(json.loads, told.out.splitlines())}
    assert len(values) == 5 and [value["status"] for value in values.values()].count("damaged") == 3
    for folder in folders:
        assert values[folder.name]["status"] == "damaged" and values[folder.name]["problem"]
        assert sum(folder.name in line for line in told.err.splitlines()) == 1
    assert "changed after it was written" in values[folders[0].name]["problem"]
    assert cli.main(["runs", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("damaged") == 3


def test_checkpoints_of_what_is_not_kept_go_and_nothing_else(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = next(run.name for run in kept_runs(out) if run.record and run.record["attention"] == "dense")
    before = {path for path in out.rglob("*") if path.is_file()}
    assert cli.main(["runs", "--out", str(out), "--drop-checkpoints", "--keep", dense[:8]]) == 2
    assert "give --yes" in capsys.readouterr().err
    assert {path for path in out.rglob("*") if path.is_file()} == before
    with locked(out / "runs" / "killed"):
        assert cli.main(["runs", "--out", str(out)]) == 0
        assert "running" in capsys.readouterr().out
        assert cli.main(["runs", "--out", str(out), "--drop-checkpoints", "--keep", dense[:8], "--yes"]) == 0
    assert "2.5 KB freed (2,500 bytes)" in capsys.readouterr().err
    assert {path.parts[-3 + (path.parent.name != "checkpoint")] for path in heavy(out)} == {dense, "killed"}
    gone = before - {path for path in out.rglob("*") if path.is_file()}
    assert {path.name.split("-")[0] for path in gone} == {"model.safetensors", "state"}
    assert len(load_runs(out)) == 4
    assert not list(out.rglob(LOCK))


def test_what_is_recommended_can_be_kept(out: Path) -> None:
    assert cli.main(["runs", "--out", str(out), "--drop-checkpoints", "--keep", "recommended", "--yes"]) == 0
    left = {run.record["attention"] for run in kept_runs(out) if run.record and run.heavy_bytes}
    assert left == {"dense", "tfidf"}  # the most accurate, which nothing is near to, and the smallest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--yes", "only with --drop-checkpoints"),
        ("--drop-checkpoints --yes", "say what stays"),
        ("--drop-checkpoints --yes --keep nosuch", "--keep nosuch: no runs"),
        ("--keep nosuch", "--keep: only with"),
    ],
)
def test_what_is_asked_wrongly_deletes_nothing(
    arguments: str, words: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["runs", "--out", str(out), *arguments.split()]) == 2
    assert words in capsys.readouterr().err
    assert cli.main(["runs", "--out", str(out / "elsewhere")]) == 2
    assert "there are no runs" in capsys.readouterr().err
    assert len(heavy(out)) == 5
