"""Two folders beside each other: what is paired, what is tested, what is said of times and of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from longread.errors import UserError
from longread.records import load_runs
from longread.report import compare_folders
from longread.report.against import against
from longread.report.cells import Row
from report_records import record, write_run

ROWS = 400


def table(first: Path, second: Path) -> dict[str, Row]:
    (section,) = against(load_runs(first), load_runs(second), ("a", "b")).sections
    found = section.blocks[0].table
    assert found is not None and len(found.columns) == 8
    return {row.cells[0].text: row for row in found.rows}


def texts(row: Row) -> list[str]:
    return [cell.text for cell in row.cells]


def test_rows_with_the_same_settings_stand_beside_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for seed in range(3):
        write_run(first, record("reviews", "dense", seed, ROWS), 0.6)
        write_run(second, record("reviews", "dense", seed, ROWS, eval_seconds=1.45 * (1 + 0.03 * seed)), 0.95)
    for depth, folder in ((1, first), (2, first), (2, second)):
        write_run(folder, record("reviews", "bigbird", 0, ROWS, config={"num_hidden_layers": depth}), 0.8)
    write_run(second, record("reviews", "performer", 0, ROWS), 0.8)
    rows = table(first, second)
    assert list(rows) == ["Dense", "BigBird (2 layers)"]
    dense = texts(rows["Dense"])
    assert dense[3].startswith("+3") and dense[4:6] == ["better", "0.50"] and dense[-1] == "nothing"
    assert texts(rows["BigBird (2 layers)"])[4] in ("no difference shown", "the same answers")
    said = against(load_runs(first), load_runs(second), ("a", "b")).sections[0].lead
    assert "Only in the first: BigBird (1 layer)." in said and "Only in the second: Performer." in said


@pytest.mark.parametrize(("accuracies", "word"), [((0.6, 0.95), "better over rows"), ((0.95, 0.6), "worse over rows")])
def test_one_run_each_with_other_settings_says_what_differs(
    accuracies: tuple[float, float], word: str, tmp_path: Path
) -> None:
    folders = (tmp_path / "first", tmp_path / "second")
    for folder, accuracy, rate in zip(folders, accuracies, (1e-3, 3e-4), strict=True):
        made = record("reviews", "linformer", 0, ROWS, config={"learning_rate": rate})
        made["environment"] = made["environment"] | {"processor": folder.name}
        write_run(folder, made, accuracy)
    found = texts(table(*folders)["Linformer"])
    assert found[4] == word and found[-1] == "learning rate 0.0003"
    assert found[5] == "–", "times of two machines are not compared"


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_run(first, record("reviews", "dense", 0, ROWS), 0.6)
    write_run(second, record("imdb", "dense", 0, ROWS), 0.6)
    page = compare_folders(first, second).read_text()
    assert "there is nothing to compare" in page and "reviews in " in page
    with pytest.raises(UserError, match="no run records"):
        compare_folders(first, tmp_path / "third")
