"""Training on rows that stay in files: the run that it would be in memory, to the bit."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather
import pytest
from test_stops import same, stop_at
from test_train import small

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import stream_memory

from longread.config import RunConfig
from longread.data.batches import EpochBatches
from longread.data.dataset import tokenize
from longread.data.load import load_task
from longread.data.tokenizer import byte_tokenizer
from longread.inference.run import evaluate
from longread.training import trainer
from longread.training.calibrate import calibrate
from longread.training.distill import distill
from longread.training.run import train


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three files."""
    folder = tmp_path_factory.mktemp("rows")
    drawn = np.random.default_rng(0)
    for number in range(3):
        with (folder / f"part-{number}.jsonl").open("w") as file:
            for _ in range(40):
                good = bool(drawn.integers(2))
                words = drawn.choice(["fine", "well"] if good else ["late", "lost"], drawn.integers(2, 30))
                file.write(json.dumps({"text": " ".join(words), "label": "good" if good else "bad"}) + "\n")
    return folder


def config(rows: Path, out: Path, **more: Any) -> RunConfig:
    return small(out, task=str(rows), train_rows=None, eval_rows=None, epochs=2, max_length=32, dropout=0.2, **more)


def test_a_streamed_run_is_the_run_in_memory_also_stopped_inside_an_epoch(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_EVENTS", 0)
    choices: dict[str, Any] = {"class_weights": "balanced", "choose_by": "f1:bad", "token_dropout": 0.1}
    memory = train(config(rows, tmp_path / "memory", **choices))
    assert "streamed" not in memory.record["dataset"]
    streamed = config(rows, tmp_path / "streamed", stream=True, **choices)
    steps = 86 // streamed.batch_size
    assert steps > 2
    stopped = train(streamed, on_event=stop_at(steps // 2))
    assert stopped.record["status"] == "interrupted"
    run = train(streamed, resume=True)
    assert run.record["status"] == "ok" and run.record["dataset"].pop("streamed")
    assert same(memory, run) and run.record["run_id"] == memory.record["run_id"]
    for name in ("metrics", "dataset", "config", "calibration", "class_metrics"):
        assert run.record.get(name) == memory.record.get(name)
    files = [(found.directory / "predictions.parquet").read_bytes() for found in (memory, run)]
    assert files[0] == files[1]
    again = evaluate(replace(RunConfig(task=str(rows)), out=tmp_path / "e", stream=True), run.directory / "checkpoint")
    assert again.record["metrics"]["accuracy"] == run.record["metrics"]["accuracy"]
    assert again.record["dataset"]["streamed"]


def test_a_file_that_is_replaced_under_way_is_told_once_and_not_read(
    rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_EVENTS", 0)
    folder = Path(shutil.copytree(rows, tmp_path / "rows"))
    whole = train(config(folder, tmp_path / "whole", stream=True))

    def replaces(event: dict[str, Any]) -> None:
        if event["event"] == "start":
            (folder / "part-1.jsonl").write_bytes((folder / "part-0.jsonl").read_bytes())
            (folder / "part-2.jsonl").unlink()

    run = train(config(folder, tmp_path / "replaced", stream=True), on_event=replaces)
    assert len(run.history()) == 2 and same(whole, run)
    (line,) = [own.getMessage() for own in caplog.records if "since the rows were read" in own.getMessage()]
    assert line.startswith(f"{folder / 'part-1.jsonl'} and 1 more: replaced, changed or deleted")
    stopped = train(config(folder, tmp_path / "replaced", stream=True), on_event=stop_at(2))
    assert stopped.record["run_id"] != run.record["run_id"] and stopped.record["dataset"]["train"]["rows"] < 86
    shutil.copy(rows / "part-2.jsonl", folder)
    train(config(folder, tmp_path / "replaced", stream=True), resume=True)
    assert f"--resume: run {stopped.record['run_id']} was stopped with these settings, but on other rows" in caplog.text


def test_the_order_of_an_epoch_is_numpys_permutation_in_half_the_bytes() -> None:
    for rows in (1, 2, 103, 5000):
        batches = EpochBatches(rows, 10, 3, 4)
        assert batches.order.nbytes == 4 * rows
        assert np.array_equal(np.concatenate(batches[:]), np.random.default_rng([3, 4]).permutation(rows))


def test_distilled_calibrated_and_linear_models_read_streamed_rows_as_those_in_memory(
    rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = str(train(config(rows, tmp_path / "teacher")).directory / "checkpoint")
    own = RunConfig(task=str(rows), init=teacher, attention="performer", out=tmp_path / "memory", threads=1)
    memory, streamed = distill(own, steps=3), distill(replace(own, out=tmp_path / "s", stream=True, workers=1), steps=3)
    distances = [run.record["distillation"]["distance_after"] for run in (memory, streamed)]
    assert distances[0] == distances[1] > 0 and same(memory, streamed)
    assert streamed.record["run_id"] == memory.record["run_id"] and streamed.record["dataset"]["streamed"]

    lines = [json.loads(line) for path in rows.iterdir() for line in path.read_text().splitlines()]
    for line in lines[::5]:  # wrong ones, so that there is a temperature to find
        line["label"] = {"good": "bad", "bad": "good"}[line["label"]]
    others = tmp_path / "others.jsonl"
    others.write_text("".join(json.dumps(line) + "\n" for line in lines))
    chosen = [
        calibrate(
            teacher, str(others), tmp_path / f"calibrated-{stream}", config=RunConfig(stream=stream, out=tmp_path)
        )
        for stream in (None, True)
    ]
    assert chosen[0] == chosen[1] and chosen[0].temperature

    pyarrow.feather.write_feather(pyarrow.Table.from_pylist(lines), tmp_path / "mail.arrow")
    linear = [
        train(RunConfig(task=str(tmp_path / name), attention="tfidf", out=tmp_path / name.replace(".", "-")))
        for name in ("others.jsonl", "mail.arrow")
    ]
    assert linear[0].record["metrics"] == linear[1].record["metrics"]
    assert "in memory, though the texts stay in files" in caplog.text


def test_a_sample_of_streamed_rows_is_tokenized_in_memory(rows: Path, tmp_path: Path) -> None:
    """As a plan for a budget does."""
    data = replace(config(rows, tmp_path), stream=True).data_config()
    sample = load_task(data)[0].take(np.array([3, 1, 40]))
    split = tokenize(sample, byte_tokenizer(), 32, None)
    expected = byte_tokenizer().encode(list(sample.texts), None, 32)
    assert split.encoded.maps is None and np.array_equal(split.encoded.tokens, expected.tokens)


@pytest.mark.slow
def test_memory_above_the_model_is_bounded(tmp_path: Path) -> None:
    """The command on files of two sizes, evaluation and record included."""
    few, many = stream_memory.measure([10_000, 100_000], tmp_path)
    assert 0 < few["above_bytes"] < many["above_bytes"] < 300e6
    assert many["anonymous_above_bytes"] < 300e6
