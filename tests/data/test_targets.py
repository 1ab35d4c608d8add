"""What the rows are answered with: one class, several labels, or a number; read from the data or as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longread.data.config import DataConfig
from longread.data.examples import Examples, strata, stratified_sample
from longread.data.load import load_split, load_task
from longread.data.sources import Table
from longread.data.targets import read_targets
from longread.errors import UserError
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL

MANY = [f"{n}.5" for n in range(11, 30)]


@pytest.mark.parametrize(
    ("columns", "given", "names", "labels"),
    [
        ({"y": ["a; b", "", "b", None]}, {"separator": ";"}, ("a", "b"), [[1, 1], [0, 0], [0, 1], [0, 0]]),
        ({"y": ["10;9", "9"]}, {"separator": ";"}, ("9", "10"), [[1, 1], [1, 0]]),
        ({"y": [["b"], ["a", "b"], []]}, {}, ("a", "b"), [[0, 1], [1, 1], [0, 0]]),
        ({"b": ["1", "0"], "a": [0, True]}, {}, ("b", "a"), [[1, 0], [0, 1]]),
        ({"b": [1, 0], "a": [0, 0]}, {"known": ("a", "b")}, ("a", "b"), [[0, 1], [0, 0]]),  # the model's order
        ({"y": ["a"]}, {"separator": ";", "known": ("b", "a")}, ("b", "a"), [[0, 1]]),
        ({"spam": ["1", "0"]}, {"problem_type": MULTI_LABEL}, ("spam",), [[1], [0]]),
    ],
)
def test_several_labels(columns: dict[str, list[Any]], given: dict[str, Any], names: Any, labels: Any) -> None:
    found = read_targets(Table("t.csv", columns), list(columns), **given)
    assert (found.problem_type, found.names, found.labels.tolist()) == (MULTI_LABEL, names, labels)


@pytest.mark.parametrize(
    ("values", "given", "problem", "labels"),
    [
        (["3.5", "4", "-1e2"], {}, REGRESSION, [3.5, 4.0, -100.0]),
        ([1, 2, 1], {}, SINGLE_LABEL, [0, 1, 0]),
        ([1, 2, 1], {"problem_type": REGRESSION}, REGRESSION, [1.0, 2.0, 1.0]),
        (["3.5", "3.10", "3.5"], {"problem_type": SINGLE_LABEL}, SINGLE_LABEL, [1, 0, 1]),
        (["1.5", "b"], {}, SINGLE_LABEL, [0, 1]),
        ([*"1234567899", *"1234567899", "n/a"], {}, SINGLE_LABEL, [*range(9), 8, *range(9), 8, 9]),
        (["n/a", *MANY], {"problem_type": SINGLE_LABEL}, SINGLE_LABEL, [19, *range(19)]),
        (["2"], {"problem_type": REGRESSION, "known": ("LABEL_0",)}, REGRESSION, [2.0]),
    ],
)
def test_a_number_or_a_class(values: list[Any], given: dict[str, Any], problem: str, labels: list[Any]) -> None:
    found = read_targets(Table("t.csv", {"y": values}), ["y"], **given)
    assert (found.problem_type, found.labels.tolist()) == (problem, labels)
    assert problem != REGRESSION or found.names == given.get("known", ("y",))


def test_that_numbers_are_predicted_is_said(caplog: pytest.LogCaptureFixture) -> None:
    read_targets(Table("t.csv", {"y": ["3", "3.5"]}), ["y"])
    assert "such as 3.5: the number is predicted (regression)" in caplog.text


@pytest.mark.parametrize(
    ("columns", "given", "told"),
    [
        (
            {"a": [0, 2]},
            {"problem_type": MULTI_LABEL},
            "row 2: column 'a' holds 2; .* 0 or 1 .*--label-separator",
        ),
        ({"a": [0, 1], "b": [1, 0]}, {"problem_type": SINGLE_LABEL}, "--label-columns a b: means several labels"),
        (
            {"a": ["x", "y"]},
            {"problem_type": SINGLE_LABEL, "separator": ";"},
            "--label-separator: means several",
        ),
        ({"a": ["x", "y"]}, {"separator": "|"}, "no cell of column 'a' holds two labels with '|'"),
        ({"a": [0, 1], "b": [1, 0]}, {"separator": ";"}, "give one --label-columns"),
        ({"a": ["x;z"]}, {"separator": ";", "known": ("x", "y")}, "row 1: label 'z' is not one of: x, y"),
        ({"c": [0, 1], "b": [1, 0]}, {"known": ("a", "b")}, "the model's labels are a, b"),
        ({"a": [0, 0], "b": [0, 0]}, {}, "no row has any of the labels a, b"),
        (
            {"a": ["3,5", "4"]},
            {"problem_type": REGRESSION},
            "row 1: column 'a' holds '3,5', not a number",
        ),
        ({"a": ["3", ""]}, {"problem_type": REGRESSION}, "row 2: column 'a' is empty"),
        ({"a": [3, 3]}, {"problem_type": REGRESSION}, "holds 3 in every row"),
        ({"a": ["1.5", "inf"]}, {}, "row 2: column 'a' holds 'inf', not a number"),
        ({"a": list(range(100))}, {}, "--problem-type regression predicts the number"),
        ({"a": [*MANY, "n/a"]}, {}, "row 20: column 'a' holds 'n/a', not a number, and nearly .*-type regression"),
        ({"a": [*range(19), float("nan")]}, {}, "row 20: column 'a' holds nan, not a number, and nearly all"),
        ({"a": [*MANY * 9, None]}, {}, "row 172: column 'a' is empty, and nearly all others are numbers, such as 11.5"),
    ],
)
def test_what_does_not_fit_is_told(columns: dict[str, list[Any]], given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_targets(Table("t.csv", columns), list(columns), **given)


def test_rare_labels_and_all_sizes_of_number_are_in_a_sample() -> None:
    rows = np.arange(1000)
    rare = np.stack([rows % 2, rows % 50 == 7], axis=1).astype(np.int8)
    several = Examples("t", "all", ["x"] * 1000, None, rare, rows, ("half", "rare"), MULTI_LABEL)
    chosen = stratified_sample(strata(several), 100, 0, "validation")
    assert rare[chosen, 1].sum() == 2 and 40 <= rare[chosen, 0].sum() <= 60
    numbers = Examples("t", "all", ["x"] * 1000, None, np.sqrt(rows), rows, ("y",), REGRESSION)
    chosen = stratified_sample(strata(numbers), 100, 0, "validation")
    assert np.bincount(chosen // 100).tolist() == [10] * 10
    assert several.fingerprint != numbers.fingerprint


def test_files_of_either_kind(tmp_path: Path) -> None:
    lines = [f"words {n},{n % 2},{int(n % 3 == 0)}" for n in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text,late,broken", *lines]))
    config = DataConfig(str(tmp_path / "a.csv"), label_columns=("late", "broken"))
    train, evaluation = load_task(config)
    assert train.label_names == ("late", "broken") and train.labels.shape == (36, 2) and len(evaluation) == 4
    (tmp_path / "b.csv").write_text("text,broken,late\nx,1,0\ny,0,0\n")
    known = load_split(  # the model's labels have a column each
        DataConfig(str(tmp_path / "a.csv"), eval_file=tmp_path / "b.csv", problem_type=MULTI_LABEL),
        label_names=("late", "broken"),
    )
    assert known.labels.tolist() == [[0, 1], [0, 0]]
    separated = DataConfig("x.csv", eval_file=tmp_path / "b.csv", problem_type=MULTI_LABEL, label_separator=";")
    assert load_split(separated, label_names=("late", "broken")).labels.tolist() == [[0, 1], [0, 0]]
