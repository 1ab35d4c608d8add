"""The table beside the student study chooses among several records of one mechanism."""

from __future__ import annotations

import json
import shutil
import sys
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
