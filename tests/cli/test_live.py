"""The time left that a grid shows."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from longread.cli import live
from longread.config import RunConfig


def test_time_left_counts_runs_that_wait_begin_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    view = live.GridView([RunConfig(seed=seed) for seed in range(3)])
    view.on_event(0, {"event": "start"})
    now[0] = 100.0
    view.on_event(0, {"event": "end", "status": "ok", "error": None})
    assert view._left() == 200
    view.on_event(1, {"event": "start"})
    assert view._left() == 200
    step = {"event": "progress", "epoch": 1, "epochs": 3, "step": 1, "steps": 9, "loss": 1.0, "seconds_left": 70.0}
    view.on_event(1, step)
    assert view._left() == 170
    view.on_event(1, {"event": "evaluating", "name": "evaluation", "rows": 30, "of": 40, "seconds_left": 5.0})
    assert view._left() == 105
    assert live.logs._state.status.endswith("seed 1: evaluating the evaluation rows: 30 of 40, 5 s left")


def test_time_left_is_unknown_while_only_a_linear_model_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    view = live.GridView([RunConfig(attention="tfidf"), RunConfig(), RunConfig(seed=1)])
    view.on_event(0, {"event": "start"})
    view.on_event(0, {"event": "end", "status": "ok", "error": None})
    view.on_event(1, {"event": "start"})
    assert view._left() is None
    step = {"event": "progress", "epoch": 1, "epochs": 3, "step": 1, "steps": 9, "loss": 1.0, "seconds_left": 70.0}
    view.on_event(1, step)
    assert view._left() == 140


def test_a_run_that_has_begun_is_what_the_log_says_in_silence() -> None:
    live.logs.status("measuring how long runs take")
    view = live.GridView([RunConfig(), RunConfig(seed=1)])
    view.on_event(1, {"event": "start"})
    assert live.logs._state.status == "[2/2] dense depth 1, seed 1: started"
    pretrained = live.GridView([RunConfig(init="some/encoder", seed=1)])  # its depth is not a setting
    assert pretrained._place(0) == "[1/1] dense, seed 1"


def test_a_study_of_other_sizes_names_its_runs_by_what_is_set() -> None:
    view = live.GridView([
        RunConfig(attention="tfidf"),
        RunConfig(task="sst2", init="some/encoder", epochs=2, seed=1),
        RunConfig(attention="performer", epochs=None, max_length=512),
    ])  # fmt: skip
    names = [view._place(index).split("] ")[1] for index in range(3)]
    assert names == ["reviews tfidf", "sst2 dense, 2 epochs, seed 1", "reviews performer, 1 x 64, 512 tokens"]


@pytest.mark.parametrize(
    ("choose_by", "told"),
    [
        (None, "accuracy 0.7000"),
        ("f1_macro", "held-out macro F1 0.6000"),
        ("f1:late", "held-out F1 of 'late' 0.5000"),
        ("loss", "held-out loss 0.9000"),
    ],
)
def test_an_epoch_is_told_by_what_it_is_chosen_by(choose_by: str | None, told: str) -> None:
    event = {"event": "epoch", "epoch": 1, "train_loss": 1.0, "eval_loss": 0.8, "eval_accuracy": 0.7,
             "selection_accuracy": 0.65, "selection_f1_macro": 0.6, "selection_f1:late": 0.5,
             "selection_loss": 0.9, "train_seconds": 1.0}  # fmt: skip
    assert live.epoch_line(event, choose_by).endswith(f", {told}")
    view = live.GridView([RunConfig(choose_by=choose_by)])
    view.on_event(0, event)
    assert f"{view.state[0]['metric']} {view.state[0]['value']:.4f}" == told


def test_of_a_finished_run_that_is_deleted_which_there_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "longread")
    view = live.RunView(RunConfig(out=tmp_path))
    view.on_event({"event": "skipped", "run_id": "abc"})
    (tmp_path / "runs/abc").mkdir(parents=True)
    view.on_event({"event": "skipped", "run_id": "abc"})
    places = [f"its line in {tmp_path}/runs.jsonl", f"{tmp_path}/runs/abc"]
    assert caplog.messages == [f"run abc was done before; delete {place} to repeat it" for place in places]
