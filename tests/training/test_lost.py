"""A run on several processes of which one dies, or which goes on on another number of them."""

from __future__ import annotations

import json
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import weights

from longread import records
from longread.cli.main import main
from longread.config import RunConfig
from longread.training import trainer
from longread.training.classification import Validation
from longread.training.gradients import Gradients
from longread.training.run import train
from many import Ended, on_processes

SMALL = {"train_rows": 24, "eval_rows": 8, "epochs": 3, "batch_size": 8, "hidden_size": 16, "num_attention_heads": 2,
         "vocab_size": 300, "max_length": 96, "threads": 1, "dropout": 0.2, "attention": "performer"}  # fmt: skip
OPTIONS = [part for name, value in SMALL.items() for part in ("--" + name.replace("_", "-"), str(value))]


def run(dying: int | None, moment: str, *command: str) -> int:
    """The command; this process is killed in the fifth step or in the second evaluation if it is the one to die."""
    steps, evaluations = 0, 0
    accumulate, predict = Gradients.accumulate, Validation._predict

    def in_step(self: Any, *given: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 5 and moment == "step":
            os.kill(os.getpid(), signal.SIGKILL)
        return accumulate(self, *given)

    def in_evaluation(self: Any, *given: Any) -> Any:
        nonlocal evaluations
        evaluations += 1
        if evaluations == 2 and moment == "evaluation":
            os.kill(os.getpid(), signal.SIGKILL)
        return predict(self, *given)

    if os.environ.get("RANK") == str(dying):
        Gradients.accumulate, Validation._predict = in_step, in_evaluation  # type: ignore[method-assign]
    return main([*command])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> records.Run:
    out = tmp_path_factory.mktemp("whole")
    assert [one.result for one in started(2, out)] == [0, 0]
    return found(out)


def started(count: int, out: Path, *more: str, dying: int | None = None, moment: str = "step") -> list[Ended]:
    return on_processes(count, out / "said", run, dying, moment, "train", *OPTIONS, "--out", str(out), *more)


def found(out: Path) -> records.Run:
    (run,) = records.load_runs(out)
    return run


@pytest.mark.parametrize(("dying", "moment", "step"), [(1, "step", 4), (0, "step", 4), (1, "evaluation", 6)])
def test_a_killed_process_is_named_and_the_run_goes_on_to_the_same_bits(
    dying: int, moment: str, step: int, whole: records.Run, tmp_path: Path
) -> None:
    ended = started(2, tmp_path, dying=dying, moment=moment)
    left = ended[1 - dying]
    assert (ended[dying].code, left.code, left.result) == (-signal.SIGKILL, 0, 1)
    line = left.said.strip().splitlines()[-1]
    name = whole.record["run_id"]
    told = f"process {dying} of 2 has ended (killed or crashed); step {step} is kept in {tmp_path}/runs/{name}; go on"
    assert line.startswith(f"longread: {told}")
    command = line.partition("torchrun --nproc-per-node 2 -m longread ")[2]
    if dying == 1:
        record = found(tmp_path).record
        assert record["status"] == "interrupted"
        assert record["error"] == "process 1 of 2 has ended (killed or crashed); --resume goes on"
    again = on_processes(2, tmp_path / "again", main, shlex.split(command))
    assert [one.result for one in again] == [0, 0]
    assert f"goes on at step {step} of 9" in again[0].said
    one, other = weights(whole), weights(found(tmp_path))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_killed_process_of_a_run_in_shards_is_named(tmp_path: Path) -> None:
    left = started(2, tmp_path, "--shard", "--save-seconds", "0", dying=1)[0]
    assert "longread: process 1 of 2 has ended (killed or crashed); step 4 is kept in" in left.said
    assert "Traceback" not in left.said
    assert found(tmp_path).record["status"] == "interrupted"


def stops(config: RunConfig, step: int | None, resume: bool = False) -> None:
    """In float64, until a signal after `step`; None: to the end, from where it was stopped."""
    torch.set_default_dtype(torch.float64)
    trainer.SECONDS_BETWEEN_EVENTS = 0.0

    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    train(config, resume=resume or step is None, on_event=listener)


def history(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (found(out).directory / "history.jsonl").read_text().splitlines()]


def test_a_run_goes_on_on_another_number_of_processes_with_the_same_losses(tmp_path: Path) -> None:
    config = replace(RunConfig(**SMALL), attention="longformer", token_dropout=0.1)  # type: ignore[arg-type]
    on_processes(1, tmp_path / "one", stops, replace(config, out=tmp_path / "one"), None)
    lines = history(tmp_path / "one")
    assert len(lines) == 3
    for before, after in ((1, 2), (2, 1), (2, 4)):
        out = tmp_path / f"{before} {after}"
        on_processes(before, out / "before", stops, replace(config, out=out), 4)
        assert found(out).record["status"] == "interrupted"
        on_processes(after, out / "after", stops, replace(config, out=out), None)
        record = found(out).record
        assert (record["status"], record["environment"]["processes"]) == ("ok", after)
        for line, own in zip(lines, history(out), strict=True):
            assert own["train_loss"] == pytest.approx(line["train_loss"], rel=1e-10)
            assert own["eval_loss"] == pytest.approx(line["eval_loss"], abs=1e-5)
