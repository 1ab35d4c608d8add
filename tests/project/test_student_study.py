"""The table beside the student study chooses among several records of one mechanism."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

import student_study  # noqa: E402


def test_a_row_stands_for_the_record_of_most_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the reviews in other precisions, in the same folder, does not take its place."""
    monkeypatch.setattr(student_study, "ROWS", [one for one in student_study.ROWS if one.records == "imdb-inference"])
    folder = shutil.copytree(ROOT / "results" / "imdb-inference", tmp_path / "imdb-inference")
    before = student_study.table(tmp_path)
    file = folder / "runs.jsonl"
    lines = file.read_text("utf-8").splitlines()
    for precision in ("int8", "bfloat16"):
        for line in lines[:2]:
            part = json.loads(line)
            part["config"] |= {"precision": precision, "eval_rows": 250}
            part["dataset"]["eval"]["rows"] = 250
            part["eval_seconds"] /= 10
            lines.append(json.dumps(part | {"run_id": f"{len(lines):016x}"}))
    file.write_text("\n".join([*lines[2:], *lines[:2]]) + "\n", "utf-8")
    assert student_study.table(tmp_path) == before


def test_a_row_is_of_its_task_and_has_the_seconds_of_what_it_began_from(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [
        one for one in student_study.ROWS if one.records == "base-size" and one.attention in ("longformer", "dense")
    ]
    monkeypatch.setattr(student_study, "ROWS", ours)
    kept = (ROOT / "results" / "base-size" / "runs.jsonl").read_text("utf-8").splitlines()
    records = [record for record in map(json.loads, kept) if record["kind"] == "train"]

    def of(task: str, attention: str) -> list[dict]:
        return [r for r in records if (r["task"], r["attention"]) == (task, attention)]

    rows = {(work, theirs): (said, seconds) for work, theirs, said, _, seconds, _ in _cells(student_study.table)}
    dense = of("qnli", "dense")
    accuracy = sum(100 * r["metrics"]["accuracy"] for r in dense) / len(dense)
    assert rows["QNLI, Dense", "90.79"][0].startswith(f"{accuracy:.2f} ")
    own = [r["train_seconds"] for r in of("sst2", "longformer")]
    seconds = rows["SST-2, Longformer", "96.18"][1].partition(";")[0].rstrip("†").replace(",", "")
    assert float(seconds) > min(own) + min(r["train_seconds"] for r in of("sst2", "dense"))


def _cells(table: Callable[[Path], str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table(ROOT / "results").splitlines()[2:]]
