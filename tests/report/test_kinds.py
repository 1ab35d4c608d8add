"""The report knows the three problem types and mixes none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longread.problems import MULTI_LABEL, REGRESSION
from longread.records import load_runs, write_json, write_predictions
from longread.report import build_report, summary_table
from longread.report.grouping import group_runs, regression_groups
from report_records import record, write_run

ROWS = 50


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    random = np.random.default_rng(0)
    for seed in range(2):
        write_run(out, record("mail", "dense", seed, ROWS), 0.8)
        several = record("mail", "longformer", seed, ROWS)
        several["dataset"] |= {"problem_type": MULTI_LABEL, "eval": several["dataset"]["eval"] | {"fingerprint": "aa"}}
        labels = random.integers(0, 2, (ROWS, 2))
        predicted = np.where(np.arange(ROWS)[:, None] < 20 + seed, 1 - labels, labels)
        several["metrics"] = {"exact_match": (30 - seed) / ROWS, "f1_micro": 0.71, "f1_macro": 0.6,
                              "average_precision": 0.8}  # fmt: skip
        folder = out / "runs" / several["run_id"]
        write_json(folder / "run.json", several)
        write_predictions(folder / "predictions.parquet", np.arange(ROWS), labels, predicted * 0.9, predicted)
        numbers = record("mail", "performer", seed, ROWS)
        numbers["dataset"] |= {"problem_type": REGRESSION, "eval": numbers["dataset"]["eval"] | {"fingerprint": "bb"}}
        numbers["metrics"] = {"mse": 12.5 + seed, "mae": 2.0, "spearman": 0.5, "r2": -0.25}
        folder = out / "runs" / numbers["run_id"]
        write_json(folder / "run.json", numbers)
        values = random.random((2, ROWS))
        write_predictions(folder / "predictions.parquet", np.arange(ROWS), values[0], None, values[1])
    return out


def test_no_group_mixes_problem_types(study: Path) -> None:
    runs = load_runs(study)
    found = {group.problem_type: group for group in [*group_runs(runs), *regression_groups(runs)]}
    assert len(found) == 3 and all(len(group.lines) == 1 for group in found.values())
    (line,) = found[MULTI_LABEL].lines
    assert [outcome.accuracy for outcome in line.outcomes] == [0.6, 0.58]
    assert all(outcome.correct is not None and outcome.correct.shape == (ROWS,) for outcome in line.outcomes)


def test_each_has_its_own_columns(study: Path) -> None:
    text = build_report(study, figures=False).read_text()
    assert "| Attention  | Exact match, % | 95 % interval, %" in text and "| F1, micro, % |" in text
    assert "Exact match: the share of rows of which every label is right." in text
    numbers = next(line for line in text.splitlines() if line.startswith("| Performer"))
    assert [cell.strip() for cell in numbers.split("|")[2:7]] == ["2", "−0.250", "13.0", "2.00", "0.500"]
    table = summary_table(load_runs(study))
    assert "R²" in table and "Exact match" in table and "Accuracy" in table
