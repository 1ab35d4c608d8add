"""Runs in trackers: what is logged there, where a run goes on, and that a tracker never ends a run."""

from __future__ import annotations

import logging
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from longread.cli import main as cli
from longread.config import RunConfig
from longread.errors import UserError
from longread.records import Run
from longread.training import tracking
from longread.training.run import train
from longread.training.tracking import Tracking


def config(out: Path, **changes: Any) -> RunConfig:
    given = {"task": "reviews:128", "train_rows": 64, "eval_rows": 16, "hidden_size": 8, "num_attention_heads": 2,
             "epochs": 3, "batch_size": 16, "max_length": 32, "threads": 1, "vocab_size": 300}  # fmt: skip
    return RunConfig(out=out, **(given | changes))


def stopped_and_resumed(name: str, out: Path) -> Run:
    """A run, stopped behind its first epoch and gone on with, each time by a process of its own as far as it knows."""
    listener = Tracking(name, out)  # type: ignore[arg-type]

    def stop(event: dict[str, Any]) -> None:
        listener.on_event(event)
        if event["event"] == "epoch":
            os.kill(os.getpid(), signal.SIGINT)

    assert train(config(out), on_event=stop).record["status"] == "interrupted"
    return train(config(out), resume=True, on_event=Tracking(name, out).on_event)  # type: ignore[arg-type]


def test_tensorboard_shows_one_run_before_and_after_a_stop(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = stopped_and_resumed("tensorboard", tmp_path)
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == run.record["run_id"]
    found = accumulator.EventAccumulator(str(folder)).Reload()
    assert [one.step for one in found.Scalars("eval/loss")] == [4, 8, 12]
    assert [one.value for one in found.Scalars("eval/accuracy")] == pytest.approx(
        [line["eval_accuracy"] for line in run.history()]
    )
    assert found.Scalars("final/accuracy")[0].value == pytest.approx(run.record["metrics"]["accuracy"])
    rates = found.Scalars("learning_rate")
    assert rates and 0 < rates[-1].value < rates[0].value <= run.record["config"]["learning_rate"] * 1.001
    (text,) = {one.tensor_proto.string_val[0] for one in found.Tensors("config/text_summary")}
    assert b'"epochs": 3' in text and b'"tokens_per_micro_batch"' in text


@pytest.mark.filterwarnings("ignore")  # mlflow's own
def test_mlflow_keeps_one_run_before_and_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed: pip install 'longread[mlflow]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = stopped_and_resumed("mlflow", tmp_path)
    client = mlflow.MlflowClient((tmp_path / "mlflow").as_uri())
    (one,) = client.search_runs([client.get_experiment_by_name("longread").experiment_id])
    assert one.info.status == "FINISHED" and one.info.run_name == run.record["run_id"]
    assert one.data.params["epochs"] == "3" and one.data.params["attention"] == "dense"
    assert one.data.metrics["final/accuracy"] == pytest.approx(run.record["metrics"]["accuracy"])
    steps = [point.step for point in client.get_metric_history(one.info.run_id, "eval/loss")]
    assert sorted(set(steps)) == [4, 8, 12]


def test_wandb_is_offline_and_goes_on_under_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up package: the real one is not among the tests' requirements."""
    began: list[dict[str, Any]] = []
    logged: list[tuple[int, dict[str, float]]] = []
    ends: list[int] = []
    run = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), finish=lambda exit_code: ends.append(exit_code)
    )
    made = types.ModuleType("wandb")
    made.__spec__ = types.SimpleNamespace(name="wandb")  # type: ignore[assignment]
    made.init = lambda **given: began.append(given) or run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", made)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    done = stopped_and_resumed("wandb", tmp_path)
    assert [one["mode"] for one in began] == ["offline"] * 2 and [one["resume"] for one in began] == [None, "allow"]
    assert {one["id"] for one in began} == {done.record["run_id"]} and ends == [1, 0]
    assert [step for step, values in logged if "eval/loss" in values] == [4, 8, 12]


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, place: Path) -> None: ...
        def begin(self, *_: Any, **__: Any) -> None: ...
        def log(self, *_: Any) -> None:
            raise OSError("the disk is full")

    monkeypatch.setitem(tracking.TRACKERS, "mlflow", ("json", Broken))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "longread"):
        run = train(config(tmp_path), on_event=Tracking("mlflow", tmp_path).on_event)
    assert run.record["status"] == "ok"
    assert [m for m in caplog.messages if "--track mlflow" in m] == [
        "--track mlflow: nothing more is logged there (OSError: the disk is full)"
    ]


def test_what_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracking.TRACKERS, "wandb", ("no_such_package", tracking.TRACKERS["wandb"][1]))
    with pytest.raises(UserError, match=r"--track wandb: not installed; pip install 'longread\[wandb\]'"):
        Tracking("wandb", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_grid_and_a_linear_model_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(tmp_path)
    small = ["--task", "reviews:128", "--train-rows", "32", "--eval-rows", "16", "--threads", "1"]
    assert cli.main(["train", *small, "--attention", "tfidf", "--track", "tensorboard"]) == 0
    grid = ["--attention", "dense", "--hidden-size", "8", "--num-attention-heads", "2", "--epochs", "1"]
    assert cli.main(["compare", *small, *grid, "--no-benchmark", "--no-baselines", "--track", "tensorboard"]) == 0
    folders = list(Path("out/tensorboard").iterdir())
    assert {path.name for path in folders} == {path.name for path in Path("out/runs").iterdir()}
    for folder in folders:
        assert "final/accuracy" in accumulator.EventAccumulator(str(folder)).Reload().Tags()["scalars"]
