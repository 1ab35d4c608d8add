"""Goals: the file is read with an error that names the mend; met, not shown and missed are computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longread.errors import UserError
from longread.report import build_report
from longread.report.goals import read_goals
from report_records import record, write_run

ROOT = Path(__file__).parents[2]
START = '[[goal]]\nstudy = "study"\ntask = "reviews"\nattention = "linformer"\n'


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dense at .90 and Linformer at .87 on 2,000 rows, three seeds each; another study of the same rows beside it."""
    out = tmp_path_factory.mktemp("results") / "study"
    for seed in range(3):
        for attention, accuracy, seconds in (("dense", 0.90, 10.0), ("linformer", 0.87, 4.0)):
            peak = 2**20 * (100 + seed)
            run = record("reviews", attention, seed, 2_000, eval_seconds=seconds + 0.1 * seed, peak_memory_bytes=peak)
            write_run(out, run, accuracy)
    write_run(out, record("reviews", "performer", 0, 2_000, status="diverged", error="NaN", metrics={}))
    busy = record("reviews", "longformer", 0, 2_000)
    busy["environment"]["load_at_start"] = 2.0
    write_run(out, busy, 0.88)
    write_run(out.parent / "other", record("reviews", "dense", 0, 2_000, config={"max_length": 256}), 0.80)
    write_run(out.parent / "elsewhere", record("reviews", "dense", 0, 1_999) | {"dataset": {}}, None)
    return out


def verdicts(study: Path, tmp_path: Path, text: str) -> list[list[str]]:
    (study.parent / "goals.toml").write_text(text)
    lines = (
        build_report(study, tmp_path, figures=False)
        .read_text("utf-8")
        .split("## Goals")[1]
        .split("\n## ")[0]
        .splitlines()
    )
    table = [line for line in lines if line.startswith("|")]
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table]
    return rows[2:]


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ("at_least = 0.80", "met"),
        ("at_least = 0.867", "not shown"),
        ("at_least = 0.95", "missed"),
        ('within = 0.06\nof = { attention = "dense" }', "met"),
        ('within = 0.01\nof = { attention = "dense" }', "missed"),
        ('above = 0.001\nof = { attention = "dense" }', "missed"),
        ('above = 0.02\nof = { attention = "dense", study = "other" }', "met"),
        ('within = 0.1\nof = { attention = "dense", study = "other", where = { max_length = 9 } }', "open"),
        ('within = 0.1\nof = { attention = "dense", study = "elsewhere" }', "open"),
        ('within = 0.1\nof = { attention = "dense", study = "nowhere" }', "open"),
        ('metric = "eval_seconds"\nat_most = 5.0', "met"),
        ('metric = "eval_seconds"\nat_most = 4.15', "not shown"),
        ('metric = "eval_seconds"\nat_most = 4.0', "missed"),
        ('metric = "eval_seconds"\nat_most_times = 0.5\nof = { attention = "dense" }', "met"),
        ('metric = "eval_seconds"\nat_most_times = 0.5\nof = { attention = "longformer" }', "open"),
        ('metric = "peak_memory_bytes"\nat_most = 1e9', "met"),
        ('metric = "f1"\nat_least = 0.5', "met"),
        ("where = { num_hidden_layers = 2 }\nat_least = 0.5", "open"),
        ("where = { num_hidden_layers = 1, max_length = 512 }\nat_least = 0.5", "met"),
    ],
)
def test_a_goal_is_judged_by_its_interval(asked: str, word: str, study: Path, tmp_path: Path) -> None:
    (row,) = verdicts(study, tmp_path, START + asked)
    assert row[-1] == word, row


def test_what_cannot_be_judged_says_why(study: Path, tmp_path: Path) -> None:
    other = START.replace("linformer", "longformer") + 'metric = "eval_seconds"\nat_most = 99\n'
    failed = START.replace("linformer", "performer") + "at_least = 0.5\n"
    found = verdicts(study, tmp_path, other + failed)
    assert [(row[-2], row[-1]) for row in found] == [
        ("its times are not to be quoted (†)", "open"),
        ("its runs failed", "open"),
    ]


def test_by_how_much_and_how_sure_is_told(study: Path, tmp_path: Path) -> None:
    (row,) = verdicts(study, tmp_path, START + 'within = 0.06\nof = { attention = "dense" }')
    assert row[0] == "accuracy within 6 points of dense"
    assert row[3].endswith("to the goal)")
    assert row[4].endswith("one-sided, over rows and 3 draws")
    assert "1 of 1 goal met." in (tmp_path / "report.md").read_text("utf-8")


def test_a_study_without_goals_has_no_such_section(study: Path, tmp_path: Path) -> None:
    (study.parent / "goals.toml").write_text(START.replace('"study"', '"other"') + "at_least = 0.5")
    assert "## Goals" not in build_report(study, tmp_path, figures=False).read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("goal = ", "not TOML"),
        ("[aim]", r"holds \[\[goal\]\] tables and nothing else"),
        (START, "goal 1: exactly one of at_least, .* not none"),
        (START + "at_least = 1\nat_most = 2", "exactly one of"),
        (START + "at_leest = 1", "unknown at_leest"),
        (START + 'at_least = "high"', "at_least is 'high', which is no number"),
        (START + "within = 0.1", "`of` goes with within"),
        (START + 'at_least = 0.1\nof = { attention = "dense" }', "`of` goes with within"),
        (START + "within = 0.1\nof = 3", "attention = … } would be right"),
        (START + 'within = 0.1\nof = { attentoin = "dense" }', "goal 1, of: unknown attentoin"),
        (START + 'metric = "speed"\nat_least = 1', "metric 'speed'; there are accuracy"),
        (START + 'metric = "f1"\nwithin = 0.1\nof = { attention = "dense" }', "within is asked of accuracy"),
        (START + "where = 3\nat_least = 1", "where is 3"),
        ("[[goal]]\nat_least = 1", "study is missing"),
    ],
)
def test_a_wrong_goal_is_one_line_that_names_it(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "goals.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_goals(path, "study")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_goals_of_the_studies_can_be_read() -> None:
    import tomllib

    path = ROOT / "results" / "goals.toml"
    studies: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8"))["goal"]
    for name in {str(goal["study"]) for goal in studies}:
        assert read_goals(path, name), name
        written = ROOT / "experiments" / f"{name.replace('-', '_')}.py"
        assert (path.parent / name).is_dir() or written.exists(), name
