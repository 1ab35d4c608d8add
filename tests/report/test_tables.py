"""What a table of accuracies says beside them: cost with its teacher, what is missing, what was dense, which rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longread.data.tasks import TASKS
from longread.records import load_runs
from longread.report import build_report
from longread.report.cells import Table
from longread.report.grouping import group_runs
from longread.report.groups import Group
from longread.report.naming import TRAIN_ROWS, heading
from longread.report.pairs import compare_lines
from longread.report.tables import all_columns, comparison
from report_records import record, write_everything, write_run


def group_of(out: Path, task: str = "reviews") -> Group:
    return next(group for group in group_runs(load_runs(out)) if group.task == task)


def column(table: Table, name: str) -> list[str]:
    index = [c.name for c in table.columns].index(name)
    return [row.cells[index].text for row in table.rows if len(row.cells) > index]


def whole(group: Group) -> Table:
    return all_columns(group, compare_lines([group])[0])


def main(group: Group) -> Table:
    return comparison(group, compare_lines([group])[0])


def test_the_first_table_has_eight_columns_and_the_other_has_all(tmp_path: Path) -> None:
    write_everything(tmp_path, 60)
    for task in ("reviews", "imdb"):
        group = group_of(tmp_path, task)
        assert len(main(group).columns) == 8
        assert {c.name for c in main(group).columns[1:]} <= {c.name for c in whole(group).columns}
        assert column(main(group), "Accuracy") == column(whole(group), "Accuracy")
    assert column(main(group), "Attention")[1] == "Dense (2 layers)"
    assert column(whole(group), "Layers")[:2] == ["1", "2"]


def test_training_counts_teacher_and_distillation(tmp_path: Path) -> None:
    teacher = record("reviews", "dense", 0, 60, train_seconds=100.0)
    distilled = {"run_id": "d" * 16, "seconds": 30.0}
    lineage = {"init": distilled, "distillation": distilled, "teacher": {"run_id": teacher["run_id"], "seconds": 100.0}}
    write_run(tmp_path, teacher, 0.9)
    write_run(tmp_path, record("reviews", "linformer", 0, 60, train_seconds=7.0, lineage=lineage), 0.8)
    group = group_of(tmp_path)
    assert column(main(group), "Training incl. teacher") == ["100", "137"]
    assert column(whole(group), "Training") == ["100.0", "7.0"]
    again = record("reviews", "performer", 0, 60, init=f"results/x/runs/{teacher['run_id']}/checkpoint")
    write_run(tmp_path, again | {"train_seconds": 50.0}, 0.8)
    assert "150" in column(main(group_of(tmp_path)), "Training incl. teacher")


def test_training_behind_a_teacher_on_a_busy_machine_is_marked(tmp_path: Path) -> None:
    """The inference of the run itself is not."""
    busy = {"threads": 2, "load_at_start": 1.9, "load_at_end": 0.1}
    teacher = record("reviews", "dense", 0, 60, train_seconds=100.0, environment=busy)
    write_run(tmp_path, teacher, 0.9)
    lineage = {"init": {"run_id": teacher["run_id"], "seconds": 100.0}}
    write_run(tmp_path, record("reviews", "linformer", 0, 60, train_seconds=7.0, lineage=lineage), 0.8)
    table = main(group_of(tmp_path))
    assert column(table, "Training incl. teacher") == ["100†", "107†"]
    assert [cell.endswith("†") for cell in column(table, "Inference")] == [True, False]
    assert any("or what they began from" in note for note in table.notes)


def test_training_of_an_older_record_is_a_lower_bound(tmp_path: Path) -> None:
    done = {"task": "imdb", "rows_seen": 3_200, "seconds": 600.0, "distance_before": 0.5, "distance_after": 0.25}
    conversion = {"conversion": {"distillation": done}, "init": "out/performer", "train_seconds": 20.0}
    write_run(tmp_path, record("reviews", "performer", 0, 60, **conversion), 0.8)
    table = main(group_of(tmp_path))
    assert column(table, "Training incl. teacher") == ["≥ 620"]
    assert any("is not in the records" in note for note in table.notes)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ({"longformer": 512}, ["No linear baseline", "No control: dense was not run on these rows (Longformer)"]),
        ({"longformer": 2048, "dense": 512, "nbsvm": 512},
         ["No control: dense was not run at 2,048 tokens on these rows (Longformer)"]),
        ({"longformer": 2048, "dense": 2048, "tfidf": 512}, []),
    ],
)  # fmt: skip
def test_what_does_not_stand_beside_is_said(there: dict[str, int], missing: list[str], tmp_path: Path) -> None:
    for attention, length in there.items():
        write_run(tmp_path, record("reviews", attention, 0, 60, config={"max_length": length}), 0.8)
    found = [note for note in main(group_of(tmp_path)).notes if note.startswith("No ") and "bold" not in note]
    assert len(found) == len(missing)
    assert all(note.startswith(start) for note, start in zip(found, missing, strict=True))


def test_a_mechanism_that_was_dense_says_so(tmp_path: Path) -> None:
    for attention, ran in (("dense", 1.0), ("bigbird", 1.0), ("longformer", 0.99)):
        rest = {"window+global": 1 - ran} if ran < 1 else {}
        write_run(tmp_path, record("reviews", attention, 0, 60, effective_attention={"full": ran} | rest), 0.8)
        write_run(tmp_path, record("imdb", attention, 0, 60, effective_attention={"full": ran} | rest), 0.8)
    names = ["Dense", "Longformer", "BigBird, dense here"]
    assert column(main(group_of(tmp_path)), "Attention") == column(whole(group_of(tmp_path)), "Attention") == names
    build_report(tmp_path)
    by_task = (tmp_path / "report.md").read_text("utf-8").split("### Comparison")[0]
    assert by_task.count("dense here") == 2


def of_train(rows: int, **more: Any) -> dict[str, Any]:
    return {"dataset": {"train": {"rows": rows} | more, "eval": {"rows": 60, "fingerprint": "e"}}}


def test_a_part_of_the_training_rows_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, record("qnli", "dense", 0, 60, **of_train(26_000)))
    write_run(tmp_path, record("sst2", "dense", 0, 60, **of_train(67_349)))
    write_run(tmp_path, record("own.csv", "dense", 0, 60, **of_train(500, rows_of_split=2_000)))
    held_out = of_train(9_000)
    held_out["dataset"]["selection"] = {"rows": 1_000}
    write_run(tmp_path, record("imdb", "dense", 0, 60, **held_out))
    write_run(tmp_path, record("imdb", "performer", 0, 60, **of_train(25_000)))
    groups = {group.task: group for group in group_runs(load_runs(tmp_path))}
    assert heading(groups["qnli"]) == "qnli, 25 % of train"
    assert heading(groups["sst2"]) == "sst2"
    assert heading(groups["own.csv"]) == "own.csv, 25 % of train"
    assert heading(groups["imdb"]) == "imdb, 40 % to 100 % of train"
    assert column(whole(groups["imdb"]), "Train rows") == ["10000 (40 % of train)", "25000"]
    assert {name: TASKS[name].split_rows["train"] for name in TRAIN_ROWS} == TRAIN_ROWS


def test_f1_says_which_it_is(tmp_path: Path) -> None:
    write_run(tmp_path, record("reviews", "dense", 0, 60), 0.8)
    assert "F1 of “positive”" in [c.name for c in whole(group_of(tmp_path)).columns]
    three = record("imdb", "dense", 0, 60)
    three["dataset"]["label_names"] = ["a", "b", "c"]
    write_run(tmp_path, three, 0.8)
    assert "F1, macro" in [c.name for c in whole(group_of(tmp_path, "imdb")).columns]
