"""The time left that a grid shows."""

from __future__ import annotations

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


def test_time_left_is_unknown_while_only_a_linear_model_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    view = live.GridView([RunConfig(attention="tfidf"), RunConfig(), RunConfig(seed=1)])
    view.on_event(0, {"event": "start"})
    view.on_event(0, {"event": "end", "status": "ok", "error": None})
    view.on_event(1, {"event": "start"})
    assert view._left() is None
    step = {"event": "progress", "epoch": 1, "epochs": 3, "step": 1, "steps": 9, "loss": 1.0, "seconds_left": 70.0}
    view.on_event(1, step)
    assert view._left() == 140
