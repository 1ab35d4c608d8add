"""The recommendation: the fastest row of those shown to be within a point of the best, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longread.records import load_runs
from longread.report import build_report
from longread.report.grouping import group_runs
from longread.report.recommend import recommendation
from longread.report.three import choose_three
from report_records import record, write_run


def said(out: Path, rows: list[tuple[str, float, float, dict[str, Any]]], seeds: int = 3) -> str:
    """The recommendation over rows of (attention, accuracy, seconds of inference, changes)."""
    for attention, accuracy, seconds, changes in rows:
        for seed in range(seeds):
            run = record("reviews", attention, seed, 2_000, eval_seconds=seconds, **changes)
            run["environment"]["load_at_start"] = changes.get("load", 0.0)
            write_run(out, run, accuracy)
    (group,) = group_runs(load_runs(out))
    return recommendation(group)


def test_the_fastest_of_what_is_shown_to_be_near(tmp_path: Path) -> None:
    text = said(tmp_path, [("dense", 0.9, 9.0, {}), ("bigbird", 0.9, 4.0, {}), ("linformer", 0.8, 1.0, {})])
    assert text.startswith("BigBird: accuracy 8")
    assert "over rows and 3 draws), inference 4.00 s. It is the fastest at inference" in text
    assert "within 1 point of the most accurate (Dense, 90." in text
    assert text.endswith("with 95 % confidence, over rows and draws.")


@pytest.mark.parametrize(
    ("rows", "start", "reason"),
    [
        ([("dense", 0.9, 9.0, {}), ("linformer", 0.8, 1.0, {})], "Dense", "nothing else is shown to be within 1 point"),
        ([("dense", 0.9, 9.0, {"load": 3.0}), ("linformer", 0.8, 1.0, {})], "Dense", "only accuracy decides here"),
    ],
)
def test_the_most_accurate_where_nothing_else_is_near_or_times_say_nothing(
    rows: list[tuple[str, float, float, dict[str, Any]]], start: str, reason: str, tmp_path: Path
) -> None:
    text = said(tmp_path, rows)
    assert text.startswith(start)
    assert reason in text
    assert "another training" not in text


def test_one_draw_says_that_it_is_one(tmp_path: Path) -> None:
    rows: list[tuple[str, float, float, dict[str, Any]]] = [("dense", 0.9, 9.0, {}), ("linformer", 0.8, 1.0, {})]
    assert "One draw only: another training may order the rows otherwise." in said(tmp_path, rows, seeds=1)


@pytest.mark.parametrize("rows", [[("dense", 0.9, 9.0, {})], [("dense", 0.5, 9.0, {}), ("linformer", 0.5, 1.0, {})]])
def test_nothing_is_recommended_without_a_choice_or_above_chance(
    rows: list[tuple[str, float, float, dict[str, Any]]], tmp_path: Path
) -> None:
    assert said(tmp_path, rows, seeds=1) == ""


def test_the_page_begins_with_it_and_with_the_table(tmp_path: Path) -> None:
    said(tmp_path, [("dense", 0.9, 9.0, {}), ("linformer", 0.8, 1.0, {})])
    page = build_report(tmp_path).read_text("utf-8")
    order = ("Recommendation.", "<h3>Comparison</h3>", "<h3>All columns</h3>", "Highest mean accuracy")
    assert sorted(order, key=page.index) == list(order)
    assert page.count("<h3>Comparison</h3>") == page.count("<h3>All columns</h3>") == 1


def test_of_equally_accurate_models_the_cheapest_is_called_the_most_accurate(tmp_path: Path) -> None:
    seconds = {"dense": 3.0, "bigbird": 1.0, "linformer": 1.0}
    for attention, parameters in (("dense", 100), ("linformer", 300), ("bigbird", 200)):
        run = record("reviews", attention, 0, 200, eval_seconds=seconds[attention], num_parameters=parameters)
        write_run(tmp_path, run, 1.0)
    (group,) = group_runs(load_runs(tmp_path))
    three = choose_three(group)
    assert three is not None
    assert [line.attention for _, line in three.chosen] == ["bigbird", "bigbird", "dense"]
