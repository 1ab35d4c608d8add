"""An exported file in place of its checkpoint: evaluate and serve take it, with the same rows, answers and limits."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import longread
from longread import records
from longread.cli.main import main
from longread.config import RunConfig
from longread.data.config import Cut
from longread.errors import UserError
from longread.inference.run import evaluate
from longread.inference.unseen import default_task
from longread.records.predictions import read_predictions

pytest.importorskip("onnxruntime")
from longread.inference.onnx import padded_batches

WORDS = {"bug": "it crashes at once", "praise": "works so well", "wish": "please add this"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> records.Run:
    folder = tmp_path_factory.mktemp("mail")
    lines = [f"{words * (1 + i % 4)} number {i},{label}" for i in range(30) for label, words in WORDS.items()]
    (folder / "mail.csv").write_text("body,team\n" + "\n".join(lines) + "\n")
    config = RunConfig(
        task=str(folder / "mail.csv"), text_columns=("body",), label_columns=("team",), validation_fraction=0.2,
        sample_seed=3, epochs=2, learning_rate=3e-3, hidden_size=16, num_attention_heads=2, vocab_size=300,
        max_length=16, truncation="chunk", chunk_stride=2, threads=1, attention="longformer", attention_window=6,
        out=folder / "out",
    )  # fmt: skip
    return longread.train(config)


@pytest.fixture(scope="module")
def graph(trained: records.Run) -> Path:
    path = trained.directory.parents[2] / "mail.onnx"
    assert main(["export", str(trained.directory), "--out", str(path)]) == 0
    return path


def test_evaluate_scores_the_checkpoints_rows_alike(
    trained: records.Run, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    task = str(shutil.copy(trained.record["task"], tmp_path / "renamed.csv"))
    assert main(["evaluate", str(graph), "--task", task, "--out", str(tmp_path), "--mistakes", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    own = evaluate(RunConfig(task=task, out=tmp_path), trained.directory).record
    assert record["dataset"] == own["dataset"], "the rows that training held out"
    assert record["metrics"] == pytest.approx(own["metrics"], abs=1e-5)
    for name in ("attention", "num_parameters", "truncated_fraction", "per_class", "confusion_matrix"):
        assert record[name] == own[name], name
    assert record["config"]["truncation"] == "chunk" and record["run_id"] != own["run_id"]
    one, other = (read_predictions(tmp_path / "runs" / r["run_id"] / "predictions.parquet") for r in (record, own))
    assert all(np.array_equal(one[name], other[name]) for name in ("row", "label", "predicted"))
    tail = RunConfig(task=task, out=tmp_path, truncation="tail")
    found = [evaluate(tail, place).record["metrics"]["loss"] for place in (graph, trained.directory)]
    assert found[0] == pytest.approx(found[1], abs=1e-5) and found[0] != pytest.approx(own["metrics"]["loss"], abs=1e-5)


def test_a_service_answers_as_the_checkpoint(
    trained: records.Run, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from longread.serving import server
    from longread.serving.app import create_app
    from longread.serving.service import Service
    from longread.serving.settings import ServeSettings

    taken: list[Service] = []
    monkeypatch.setattr(server, "serve", lambda load, settings: taken.append(load()))
    assert main(["serve", str(graph), "--threads", "1"]) == 0
    (service,) = taken
    predictor, checkpoint = service.predictor, longread.load(trained.directory)
    assert predictor.cut == checkpoint.cut == Cut(truncation="chunk", chunk_stride=2)
    texts = [" ".join(WORDS.values()) * n for n in (1, 2, 7)]
    assert not service.pairs
    with TestClient(create_app(lambda: service, ServeSettings())) as client:
        while client.get("/ready").status_code != 200:
            time.sleep(0.01)
        bodies = client.post("/predict", json={"inputs": texts}).json()
        refused = client.post("/explain", json={"text": texts[0]})
    assert refused.status_code == 422 and refused.json()["error"].startswith("an exported graph only predicts")
    for body, expected in zip(bodies, checkpoint.predict(texts), strict=True):
        assert body["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert (body["tokens"], body["tokens_in_text"]) == (expected.tokens, expected.tokens_in_text)
    with pytest.raises(UserError, match="only predicts"):
        predictor.explain(texts)


def test_what_a_graph_cannot_do_is_said(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "mail.pt2"
    archive.write_bytes(b"")
    for command, place, said in (
        (
            ["evaluate", "--task", "reviews", "--precision", "bfloat16"],
            graph,
            "--precision: .*is an exported graph, which is as",
        ),
        (["evaluate", "--task", "reviews", "--attention-window", "8"], graph, "-window: .*is an exported graph"),
        (["train", "--init"], graph, "an exported graph, which only predicts"),
        (["explain"], graph, "an exported graph only predicts"),
        (["predict"], archive, "a torch.export archive, for torch.export.load .* or export NAME.onnx"),
        (["evaluate"], archive, "a torch.export archive"),
        (["evaluate", "--task", "reviews"], archive, "a torch.export archive"),
        (["predict"], tmp_path / "none.onnx", "no such file"),
    ):
        name, *options = command
        words = [name, *options, str(place)] if name == "train" else [name, str(place), *options]
        words += ["a text"] if name in ("explain", "predict") else ["--out", str(tmp_path)]
        assert main(words) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert str(place) in line
        assert re.search(said, line), line
    with pytest.raises(UserError, match="for torch"):
        default_task(archive, None)


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 200))
def test_padded_batches_hold_every_sequence_once_and_stay_small(lengths: Sequence[int], tokens: int) -> None:
    of = np.array(lengths, dtype=np.int64)
    parts = list(padded_batches(of, tokens))
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * of[part].max() <= tokens
