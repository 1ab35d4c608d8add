"""The model card beside every trained checkpoint: what it says, and that no name of the user's breaks it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt
from sklearn.metrics import f1_score

import longread
from longread.config import RunConfig
from longread.inference.intervals import intervals
from longread.models.weights import CARD, CHECKSUMS, read_json, verify
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from longread.report.quality import class_table
from longread.training.distill import distill
from longread.training.run import train

SMALL: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "epochs": 1, "max_length": 32, "threads": 1}
HOSTILE = [
    "a | b: <script>alert(1)</script>",
    "# head\n---\nlicense: mit\n---",
    "![x](http://y.z) `c` **d** {{e}} 'f\" \\",
]


def table(path: Path, header: list[str], rows: list[list[Any]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def card(config: RunConfig) -> tuple[ModelCard, str, Path]:
    place = train(config).directory / "checkpoint"
    text = (place / CARD).read_text("utf-8")
    return ModelCard(text), text, place


def test_it_says_what_the_record_says_whatever_the_names_are(tmp_path: Path) -> None:
    rows = [[f"{n} film", HOSTILE[n % 3]] for n in range(60)]
    task = table(tmp_path / "my [data] | <b>.csv", ["text", "label"], rows)
    found, text, place = card(RunConfig(task=task, attention="linformer", out=tmp_path / "out", **SMALL))
    assert str(tmp_path) not in text, "where the user's file lies"
    told = found.data.to_dict()
    assert told["pipeline_tag"] == "text-classification" and told["tags"] == ["longread", "linformer"]
    assert "license" not in told
    name, results = model_index_to_eval_results(told["model-index"])
    assert name.startswith("linformer-") and [one.metric_type for one in results] == ["accuracy", "f1"]
    record = longread.evaluate(RunConfig(task=task, out=tmp_path / "again"), place).record
    assert results[0].metric_value == pytest.approx(record["metrics"]["accuracy"], abs=1e-4)
    page = MarkdownIt("commonmark").enable("table").render(found.text)
    elements = {token.split(">")[0].split()[0].strip("/") for token in page.split("<")[1:]}
    assert not elements & {"script", "img", "b", "strong", "a", "code class"}
    assert page.count("<h1>") == 1 and page.count("<tr>") == 2 + 1 + 3 + 1
    assert "a | b: &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert CARD not in read_json(place / CHECKSUMS)
    (place / CARD).write_text("the user's own")
    verify(place)
    (place / CARD).unlink()
    assert longread.load(place).predict(["a film"])[0].label


@pytest.mark.parametrize(
    ("header", "rows", "given", "shown"),
    [
        (["text", "labels"], [["a", "x;y"], ["b", "x"], ["c", ""]], {"label_separator": ";"}, "answer.labels"),
        (["text", "label"], [["a", 1.5], ["b", 2.5], ["c", 9.0]], {}, "answer.value"),
        (["a", "b", "label"], [["a", "b", "x"], ["c", "d", "y"]], {"text_columns": ("a", "b")}, "compared with"),
    ],
    ids=["several labels", "numbers", "pairs"],
)
def test_each_problem_type_has_its_metrics_and_its_four_lines(
    header: list[str], rows: list[list[Any]], given: dict[str, Any], shown: str, tmp_path: Path
) -> None:
    task = table(tmp_path / "own.csv", header, rows * 20)
    found, text, place = card(RunConfig(task=task, out=tmp_path / "out", **SMALL, **given))
    assert shown in text and found.data.eval_results
    code = text.split("```python\n")[1].split("```")[0].replace("OWNER/NAME", str(place))
    exec(compile(code, CARD, "exec"), {})
    assert str(longread.load(place).problem_type) in {SINGLE_LABEL, MULTI_LABEL, REGRESSION}


def test_linear_and_distilled_checkpoints_have_one(tmp_path: Path) -> None:
    task = table(tmp_path / "own.csv", ["text", "label"], [["good", "x"], ["bad", "y"]] * 20)
    found, text, _ = card(RunConfig(task=task, attention="tfidf", out=tmp_path))
    assert found.data.tags == ["longread", "tfidf"] and "counts words" in text
    own = RunConfig(task=task, out=tmp_path, truncation="chunk", **SMALL)
    found, text, place = card(own)
    assert "32 tokens at once, and all of a longer text in chunks" in text
    assert [one.metric_name for one in found.data.eval_results or ()] == ["accuracy", "F1 of 'y'", "macro F1"]
    config = RunConfig(task=task, init=str(place), attention="performer", out=tmp_path, threads=1)
    text = (distill(config, steps=1).directory / "checkpoint" / CARD).read_text()
    assert "not evaluated" in text and ModelCard(text).data.eval_results is None


def test_intervals_are_those_of_resampled_rows() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    predicted = np.where(random.random(300) < 0.7, labels, random.integers(0, 3, 300))
    low, high = intervals(labels, predicted, SINGLE_LABEL, 3)["f1_macro"]
    drawn = [random.integers(0, 300, 300) for _ in range(500)]
    expected = np.quantile([f1_score(labels[d], predicted[d], average="macro") for d in drawn], [0.025, 0.975])
    assert np.allclose([low, high], expected, atol=0.015)
    low, high = intervals(labels, labels, SINGLE_LABEL, 3)["accuracy"]
    assert low < 0.99 and high == 1.0
    assert "f1_macro" not in intervals(labels, labels, SINGLE_LABEL, 3)
    numbers = random.normal(size=200)
    found = intervals(numbers, numbers + random.normal(scale=0.5, size=200), REGRESSION, 1)
    assert set(found) == {"mse", "mae", "r2", "spearman"}
    assert found["mse"][0] < 0.25 < found["mse"][1] and found["r2"][0] < 0.75 < found["r2"][1]
    several = random.integers(0, 2, (80, 4))
    assert set(intervals(several, np.where(random.random((80, 4)) < 0.9, several, 0), MULTI_LABEL, 4)) == {
        "exact_match", "f1_micro", "f1_macro",
    }  # fmt: skip
    assert intervals(labels[:1], labels[:1], SINGLE_LABEL, 3) == {}


@pytest.mark.parametrize("several", [False, True])
def test_a_class_on_no_evaluated_row_has_no_figures(several: bool, tmp_path: Path) -> None:
    header = ["text", "a", "b"] if several else ["text", "label"]
    rows: list[list[Any]] = [[f"{n} film", *([1, int(n < 9)] if several else ["ab"[n < 9]])] for n in range(40)]
    task = table(tmp_path / "t.csv", header, rows)
    only_a = table(tmp_path / "e.csv", header, rows[-4:])
    run = train(
        RunConfig(task=task, eval_file=only_a, attention="majority", label_columns=tuple(header[1:]), out=tmp_path)
    )
    text = (run.directory / "checkpoint" / CARD).read_text("utf-8")
    found = class_table([("", "majority", run.record)])
    assert found is not None
    cells = {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in found.rows}
    assert "| b | – | – | – | 0 |" in text and cells["b"] == ["–", "–", "–", "0"]
    assert "| a | 1.000 | 1.000 | 1.000 | 4 |" in text and "–" not in cells["a"]
