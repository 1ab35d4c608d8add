"""A study's steps: what is missing is done first, in order, once; what fails does not stop the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_train import small

from longread import records
from longread.config import RunConfig
from longread.errors import UserError
from longread.study.chain import Step, in_order, run_steps


def test_steps_run_behind_what_they_begin_from_and_are_skipped_when_finished(tmp_path: Path) -> None:
    teacher = Step(small(tmp_path, train_rows=32, epochs=1))
    linformer = RunConfig(attention="linformer", train_rows=32, threads=1, out=tmp_path)
    distilled = Step(replace(linformer, projection_size=4, batch_size=8), init=teacher, distill_steps=3)
    tuned = Step(replace(linformer, epochs=1, eval_rows=16), init=distilled)
    impossible = Step(replace(tuned.config, attention="performer"), init=distilled)
    behind = Step(tuned.config, init=impossible)
    steps = [tuned, behind]
    assert in_order(steps) == [teacher, distilled, tuned, impossible, behind]
    runs = run_steps(steps)
    assert [run.record["kind"] for run in runs] == ["train", "distill", "train", "train", "train"]
    assert [run.record["status"] for run in runs] == ["ok"] * 3 + ["error"] * 2
    assert "linformer attention" in runs[3].record["error"]
    assert runs[4].record["error"] == f"the run it begins from, {runs[3].record['run_id']}, is error"
    assert {run.record["run_id"] for run in records.load_runs(tmp_path)} == {run.record["run_id"] for run in runs}
    names = [run.record["run_id"] for run in runs]
    assert [ancestor["run_id"] for ancestor in runs[2].record["lineage"]] == [names[1], names[0]]
    events: list[tuple[int, str]] = []
    again = run_steps([distilled], on_event=lambda index, event: events.append((index, event["event"])))
    assert [run.record["run_id"] for run in again] == names[:2]
    assert events == [(0, "skipped"), (1, "skipped")]
    with pytest.raises(UserError, match="not from both"):
        Step(replace(linformer, init="somewhere"), init=teacher)


def test_sigterm_to_compare_reaches_its_worker(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "longread", "compare", "--attention", "dense", "--no-baselines", "--no-benchmark",
               "--train-rows", "64", "--eval-rows", "16", "--epochs", "4000", "--hidden-size", "16", "--threads", "1",
               "--num-attention-heads", "2", "--vocab-size", "300", "--max-length", "96", "--out",
               str(tmp_path)]  # fmt: skip
    source = str(Path(records.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/history.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    (run,) = records.load_runs(tmp_path)
    assert run.record["status"] == "interrupted"
    assert len(list(run.directory.glob("state-*.safetensors"))) == 1
