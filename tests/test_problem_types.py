"""Several labels and numbers through every way in: files, predictions, explanations, graphs, the service."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import longread
from longread.cli.main import main
from longread.data.config import Cut
from longread.data.tokenizer import byte_tokenizer
from longread.inference.predictor import load
from longread.models.export import export
from longread.problems import MULTI_LABEL, REGRESSION, ProblemType
from longread.records.compact import compact
from longread.records.store import find_run, load_run

NAMES = {MULTI_LABEL: ("late", "broken", "rude"), REGRESSION: ("score",)}
TEXTS = ["it came late", "cracked and cracked again", "nobody answered", "x" * 100]
TINY = ["--hidden-size", "8", "--num-attention-heads", "2", "--epochs", "2", "--threads", "1", "--tokenizer", "bytes",
        "--max-length", "64", "--batch-size", "8"]  # fmt: skip


@pytest.fixture(scope="module", params=[MULTI_LABEL, REGRESSION])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    tokenizer = byte_tokenizer()
    names = NAMES[request.param]
    model = longread.build("dense", vocab_size=tokenizer.vocab_size, hidden_size=8, num_attention_heads=2,
                           num_hidden_layers=1, max_length=32, label_names=names, num_labels=len(names),
                           problem_type=request.param)  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    longread.save_pretrained(model, place / "checkpoint", tokenizer=tokenizer)
    return place / "checkpoint"


def problem_of(checkpoint: Path) -> ProblemType:
    return json.loads((checkpoint / "config.json").read_text())["problem_type"]  # type: ignore[no-any-return]


def test_answers_are_the_labels_above_the_threshold_or_the_number(checkpoint: Path) -> None:
    found = load(checkpoint).predict([*TEXTS[:3], " "])
    ids = [load(checkpoint).tokenizer.inner.encode(text).ids for text in TEXTS[:3]]
    logits = [longread.from_pretrained(checkpoint)(torch.tensor([own]))[0].detach() for own in ids]
    for answer, own in zip(found[:3], logits, strict=True):
        if problem_of(checkpoint) == REGRESSION:
            assert answer.value == pytest.approx(own[0].item(), rel=1e-5) and not answer.probabilities
            continue
        expected = dict(zip(NAMES[MULTI_LABEL], own.sigmoid().tolist(), strict=True))
        assert answer.probabilities == pytest.approx(expected, abs=1e-6)
        assert answer.labels == tuple(name for name, p in expected.items() if p > 0.5)
    assert found[3].why and found[3].value is None and found[3].labels is None


def test_chunks_are_pooled_by_what_is_asked(checkpoint: Path) -> None:
    """The highest of each label, the mean of a number."""
    whole = load(checkpoint)
    whole.cut = Cut(truncation="chunk")
    (answer,) = whole.predict([TEXTS[3]])
    reading = whole.read([TEXTS[3]], None)
    logits = whole.scorer.logits(reading.encoded, 1000)
    assert len(logits) > 1
    if problem_of(checkpoint) == REGRESSION:
        assert answer.value == pytest.approx(logits.mean(), rel=1e-5)
    else:
        expected = 1 / (1 + np.exp(-logits.max(axis=0)))
        assert list(answer.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_files_have_the_answers_and_the_ids(checkpoint: Path, ending: str, tmp_path: Path) -> None:
    table, out = tmp_path / "in.csv", tmp_path / f"out{ending}"
    table.write_text("case,text\n" + "".join(f"c{n},{text}\n" for n, text in enumerate(TEXTS)))
    arguments = ["predict", str(checkpoint), "--file", str(table), "--id-column", "case", "--out", str(out)]
    assert main(arguments) == 0
    if ending == ".csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(out.read_text().splitlines()))
        rows = [row | {"labels": [part for part in row.get("labels", "").split(";") if part]} for row in rows]
    elif ending == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pq.read_table(out).to_pylist()
    assert [row["case"] for row in rows] == ["c0", "c1", "c2", "c3"]
    for row, own in zip(rows, load(checkpoint).predict(TEXTS), strict=True):
        if problem_of(checkpoint) == REGRESSION:
            assert float(row["value"]) == pytest.approx(own.value, rel=1e-4) and "probability_score" not in row
        else:
            assert tuple(row["labels"]) == own.labels


def test_an_explanation_adds_up_to_the_answer(checkpoint: Path) -> None:
    predictor = load(checkpoint)
    (found,), (answer,) = predictor.explain(TEXTS[:1]), predictor.predict(TEXTS[:1])
    total = sum(token.attribution for token in found.tokens)
    assert total == pytest.approx(found.logit - found.baseline_logit, rel=0.05, abs=1e-3)
    if problem_of(checkpoint) == REGRESSION:
        assert found.value == pytest.approx(answer.value) == pytest.approx(found.logit)
        assert found.probability is None and found.heading().startswith("score ")
        assert found.sides() == ("raises score", "lowers score")
    else:
        assert found.probability == max(answer.probabilities.values()) == answer.probabilities[found.label]
        assert predictor.explain(TEXTS[:1], label="rude")[0].explained_label == "rude"


@pytest.mark.slow  # onnxruntime and the exporter
def test_the_graph_answers_alike(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    own, made = load(checkpoint), load(export(load(checkpoint).model, tmp_path / "model.onnx"))
    assert made.problem_type == problem_of(checkpoint)
    for one, other in zip(own.predict(TEXTS), made.predict(TEXTS), strict=True):
        assert one.labels == other.labels
        assert one.value is None or other.value == pytest.approx(one.value, rel=1e-4)
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-5)


def test_the_service_answers_alike(checkpoint: Path) -> None:
    pytest.importorskip("fastapi")
    from longread.serving.service import Item, Service
    from longread.serving.settings import ServeSettings

    predictor = load(checkpoint)
    predictor.cut = Cut(truncation="chunk")
    service = Service(predictor, ServeSettings(threads=1))

    async def ask() -> list[dict[str, Any]]:
        return [one.body for one in await asyncio.gather(*(service.predict(Item(text)) for text in [*TEXTS, ""]))]

    try:
        *bodies, empty = asyncio.run(ask())
    finally:
        service.close()
    for body, own in zip(bodies, predictor.predict(TEXTS), strict=True):
        if problem_of(checkpoint) == REGRESSION:
            assert body["value"] == pytest.approx(own.value, rel=1e-4) and "probabilities" not in body
        else:
            assert tuple(body["labels"]) == own.labels and body["probabilities"] == pytest.approx(own.probabilities)
    assert empty["why"] and empty["value" if problem_of(checkpoint) == REGRESSION else "labels"] is None


@pytest.mark.parametrize("kind", ["separator", "number"])
def test_a_file_is_trained_on_recorded_kept_and_evaluated(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, cells, options = {
        "separator": ("labels", lambda n: "; ".join(["late"] * (n % 2) + ["rude"] * (n % 3 == 0)),
                      ["--label-separator", ";"]),
        "number": ("score", lambda n: f"{100 + n / 4}", ["--label-columns", "score"]),
    }[kind]  # fmt: skip
    task = tmp_path / "task.csv"
    task.write_text(f"text,{header}\n" + "".join(f"words {n} more {n % 2},{cells(n)}\n" for n in range(40)))
    out = tmp_path / "out"
    assert main(["train", str(task), *options, *TINY, "--out", str(out)]) == 0
    (place,) = (path.parent for path in out.glob("runs/*/checkpoint"))
    run = load_run(place)
    assert run is not None
    problem = run.record["dataset"]["problem_type"]
    assert problem == (REGRESSION if kind == "number" else MULTI_LABEL)
    predicted = run.predictions()
    assert predicted is not None
    if kind == "number":
        squared = np.square(predicted["label"] - predicted["predicted"])
        assert squared.mean() == pytest.approx(run.record["metrics"]["mse"])
        assert predicted["label"].max() < 110 and abs(predicted["predicted"].mean() - 105) < 5  # begins at the mean
    else:
        assert run.record["dataset"]["label_names"] == ["late", "rude"]
        right = (predicted["label"] == predicted["predicted"]).all(axis=1).mean()
        assert right == run.record["metrics"]["exact_match"] and predicted["probabilities"].shape == (4, 2)
    assert main(["evaluate", str(place), "--out", str(out), "--threads", "1"]) == 0  # its columns are in the record
    told = capsys.readouterr().err
    assert ("R²" if kind == "number" else "micro F1") in told
    compact(out, tmp_path / "kept")
    found = find_run(tmp_path / "kept", run.record["run_id"])
    kept = found and found.predictions()
    assert kept is not None
    for name, values in predicted.items():
        np.testing.assert_allclose(kept[name], values, rtol=2**-12, atol=0)
