"""Runs that are stopped, killed or damaged: they go on to the same bits, or say why they cannot."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import small, weights

from longread import records
from longread.config import RunConfig
from longread.data.tokenizer import byte_tokenizer
from longread.errors import ProcessLost, UserError
from longread.inference.evaluate import Predictions
from longread.models.checkpoint import save_pretrained
from longread.models.classifier import build
from longread.models.weights import CHECKSUMS
from longread.system.memory import is_failed_allocation
from longread.training import classification, gradients, state
from longread.training import trainer as training
from longread.training.gradients import Gradients
from longread.training.run import train
from longread.training.signals import signals_interrupt


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_EVENTS", 0.0)


def stop_at(step: int, number: int = signal.SIGTERM) -> Any:
    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == step:
            os.kill(os.getpid(), number)

    return listener


def signalled(work: Any) -> Any:
    def after(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return work(*args)

    return after


class Killed(BaseException):
    """As good as SIGKILL: nothing of ours catches it."""


def kill_at(step: int) -> Any:
    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == step:
            raise Killed

    return listener


def same(one: records.Run, other: records.Run) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> records.Run:
    return train(small(tmp_path_factory.mktemp("whole"), dropout=0.2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_saves_first(whole: records.Run, number: int, tmp_path: Path) -> None:
    config = small(tmp_path, dropout=0.2)
    stopped = train(config, on_event=stop_at(4, number))
    assert (stopped.record["status"], stopped.record["run_id"]) == ("interrupted", whole.record["run_id"])
    resumed = train(config, resume=True)
    assert resumed.record["status"] == "ok" and same(whole, resumed)
    assert not state.state_files(resumed.directory)


def test_a_second_signal_waits_until_the_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "write_record", signalled(records.write_record))
    with signals_interrupt(), pytest.raises(KeyboardInterrupt):
        train(small(tmp_path), on_event=stop_at(4, signal.SIGHUP))
    (run,) = records.load_runs(tmp_path)
    assert run.record["status"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_error_of_an_import_that_a_signal_cut_short_is_the_interrupt(number: int) -> None:
    def imported(signalled: bool) -> None:
        try:
            if signalled:
                signal.raise_signal(number)
        except KeyboardInterrupt:
            pass  # as libraries do that try one way after the other
        raise AttributeError("half a module")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands ignore it
    try:
        for signalled, error in ((True, KeyboardInterrupt), (False, AttributeError)):
            with pytest.raises(error), signals_interrupt():
                imported(signalled)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_lost_process_is_told_though_torchrun_sends_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> None:
        raise ProcessLost("a process of this run has ended")

    monkeypatch.setattr(training.Trainer, "_train_epoch", lost)
    monkeypatch.setattr(records, "write_record", signalled(records.write_record))
    with signals_interrupt(), pytest.raises(ProcessLost):
        train(small(tmp_path))
    (run,) = records.load_runs(tmp_path)
    assert run.record["status"] == "interrupted" and "a process of this run has ended" in str(run.record["error"])


def test_a_stopped_runs_work_is_never_deleted_unasked(tmp_path: Path) -> None:
    config = small(tmp_path)
    stopped = train(config, on_event=stop_at(4))
    kept = state.state_files(stopped.directory)
    with pytest.raises(UserError, match="stopped at step 4; --resume goes on from there, --restart begins anew"):
        train(config)
    assert state.state_files(stopped.directory) == kept
    events: list[dict[str, Any]] = []
    assert train(config, restart=True, on_event=events.append).record["status"] == "ok"
    assert not any(event["event"] == "resumed" for event in events)


def test_a_killed_run_goes_on_from_its_last_state(whole: records.Run, tmp_path: Path) -> None:
    config = small(tmp_path, dropout=0.2, save_seconds=0)
    with pytest.raises(Killed):
        train(config, on_event=kill_at(8))
    events: list[dict[str, Any]] = []
    resumed = train(config, resume=True, on_event=events.append)
    assert [event["step"] for event in events if event["event"] == "resumed"] == [7]
    assert same(whole, resumed)


@pytest.mark.parametrize("moment", ["last evaluation", "signal in the last evaluation", "checkpoint"])
def test_the_end_of_a_run_can_be_repeated(
    whole: records.Run, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, dropout=0.2, save_seconds=0)
    evaluations = 0
    predict = classification.predict_split

    def fall(*args: Any, **values: Any) -> Predictions:
        nonlocal evaluations
        evaluations += 1
        if evaluations == 2:
            if moment == "last evaluation":
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(*args, **values)

    def killed(*args: Any, **values: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "checkpoint":
            patch.setattr("longread.training.run.save_pretrained", killed)
        else:
            patch.setattr(classification, "predict_split", fall)
        if moment.startswith("signal"):
            assert train(config, on_event=lambda event: None).record["status"] == "interrupted"
        else:
            with pytest.raises(Killed):
                train(config)
    resumed = train(config, resume=True)
    assert same(whole, resumed)
    assert len(resumed.history()) == 2


def test_of_two_with_one_run_the_second_waits_and_takes_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small(tmp_path, epochs=1)
    second: list[dict[str, Any]] = []
    others: list[threading.Thread] = []

    def begin_another(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and not others:
            others.append(threading.Thread(target=train, args=(config,), kwargs={"on_event": second.append}))
            others[0].start()
            # Until it waits: threads of one process share torch's generator, from which both draw first weights.
            while others[0].is_alive() and "waiting until it ends" not in caplog.text:
                time.sleep(0.01)
        if event["event"] == "epoch":
            others[0].join(0.5)
            assert others[0].is_alive()

    first = train(config, on_event=begin_another)
    others[0].join()
    assert second == [{"event": "skipped", "run_id": first.record["run_id"]}]
    assert not list(tmp_path.rglob(".*"))


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_state_is_noticed_and_the_one_before_is_used(
    whole: records.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small(tmp_path, dropout=0.2, save_seconds=0)
    stopped = train(config, on_event=stop_at(7))
    files = state.state_files(stopped.directory)
    assert [state.step_of(file) for file in files] == [7, 6]
    damage(files[0])
    events: list[dict[str, Any]] = []
    resumed = train(config, resume=True, on_event=events.append)
    assert "is damaged" in caplog.text
    assert [event["step"] for event in events if event["event"] == "resumed"] == [6]
    assert same(whole, resumed)


def test_without_a_whole_state_the_run_is_refused_and_nothing_deleted(tmp_path: Path) -> None:
    config = small(tmp_path, save_seconds=0)
    stopped = train(config, on_event=stop_at(4))
    files = state.state_files(stopped.directory)
    damage(files[0])
    files[1].write_bytes(files[1].read_bytes()[:100])
    with pytest.raises(UserError, match="no saved state of this run is whole; --restart"):
        train(config, resume=True)
    assert state.state_files(stopped.directory) == files


def test_a_state_that_says_something_else_and_what_only_looks_like_one(tmp_path: Path) -> None:
    config = small(tmp_path, save_seconds=0)
    directory = train(config, on_event=stop_at(4)).directory
    for number, make in ((5, Path.mkdir), (6, lambda path: path.symlink_to("/dev/zero"))):
        make(directory / f"state-{number:010}-{'0' * 64}.safetensors")
    (directory / "state-x.safetensors").touch()
    assert [state.step_of(file) for file in state.state_files(directory)] == [4, 3]
    states = state.load_state(directory)
    assert states is not None
    del states.values["step"]
    state.save_state(directory, states, 9)
    with pytest.raises(UserError, match=r"the saved state does not fit the run .*step.*; --restart begins anew"):
        train(config, resume=True)


def test_a_run_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    config = small(tmp_path, threads=None)
    began = train(replace(config, threads=1, tokens_per_micro_batch=500), on_event=stop_at(4))
    with pytest.raises(UserError, match=r"begun with --precision float32 \(not bfloat16\)"):
        train(replace(config, precision="bfloat16"), resume=True)
    resumed = train(config, resume=True)
    assert resumed.record["run_id"] == began.record["run_id"]
    assert resumed.record["status"] == "ok"
    assert (resumed.record["config"]["threads"], resumed.record["config"]["tokens_per_micro_batch"]) == (1, 500)


def test_a_nan_of_the_last_evaluation_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = classification.predict_split
    evaluations = 0

    def spoilt(*args: Any, **values: Any) -> Predictions:
        nonlocal evaluations
        evaluations += 1
        done = predict(*args, **values)
        return done if evaluations < 2 else replace(done, loss=float("nan"))

    monkeypatch.setattr(classification, "predict_split", spoilt)
    run = train(small(tmp_path))
    assert run.record["status"] == "diverged"
    assert "the loss on the validation rows is nan after step 12" in run.record["error"]


def test_a_nan_is_found_in_its_step_before_it_reaches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[torch.nn.Module] = []
    original = Gradients.accumulate

    def spoilt(self: Gradients, indices: Any, planned: Any, step: int) -> Any:
        found = original(self, indices, planned, step)
        if step == 4:
            models.append(self.model)
            next(p for p in self.trained if p.dim() == 1).grad[0] = float("inf")  # type: ignore[index]
        return found

    monkeypatch.setattr(Gradients, "accumulate", spoilt)
    run = train(small(tmp_path, gradient_clip=0.0))
    assert run.record["status"] == "diverged"
    assert "the gradient is inf at step 5" in run.record["error"]
    assert all(parameter.isfinite().all() for parameter in models[0].parameters())


def test_any_other_fault_leaves_a_record_and_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("out of shape: memory layout")

    monkeypatch.setattr(gradients, "clip", broken)
    with pytest.raises(RuntimeError, match="memory layout"):
        train(small(tmp_path))
    (run,) = records.load_runs(tmp_path)
    assert (run.record["status"], run.record["error"]) == ("error", "RuntimeError: out of shape: memory layout")


def test_only_a_failed_allocation_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as huge:
        torch.empty(2**60, dtype=torch.int8)
    assert is_failed_allocation(huge.value)
    assert is_failed_allocation(MemoryError()) and is_failed_allocation(torch.OutOfMemoryError())
    assert not is_failed_allocation(RuntimeError("the memory format is not supported"))


def test_two_runs_differ_by_every_initial_weight_and_by_what_the_machine_chose(tmp_path: Path) -> None:
    """A changed bias in the last block of --init is another run; the place of the same checkpoint is not."""
    from safetensors.torch import load_file, save_file

    first = train(small(tmp_path / "first"))
    checkpoint = first.directory / "checkpoint"
    moved = checkpoint.rename(tmp_path / "moved")

    def tune(out: str, **changes: Any) -> str:
        given = {"init": str(moved), "train_rows": 16, "eval_rows": 8, "epochs": 1, "threads": 1} | changes
        record = train(RunConfig(out=tmp_path / out, **given)).record
        assert record["config"]["max_length"] == 96 and "hidden_size" not in record["config"]  # not the default's
        return str(record["run_id"])

    before = tune("a")
    again = moved.rename(tmp_path / "again")
    assert tune("b", init=str(again)) == before
    assert tune("c", init=str(again), precision="bfloat16") != before
    tensors = load_file(again / "model.safetensors")
    tensors["blocks.0.down.bias"][-1] += 1e-3
    save_file(tensors, again / "model.safetensors", metadata={"format": "pt"})
    (again / CHECKSUMS).unlink()
    assert tune("d", init=str(again)) != before


def test_two_runs_differ_by_what_a_checkpoint_says_beside_its_weights(tmp_path: Path) -> None:
    """Windows of layers that are kept, and rotary bases; the second of two was skipped as done before."""
    tokenizer = byte_tokenizer()
    tokenizer.save(tmp_path / "tokenizer.json")
    shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 16, "num_attention_heads": 2, "max_length": 96}

    def tune(attention: str, model: dict[str, Any], **settings: Any) -> str:
        made = build(**(shape | {"attention": "dense local"} | model))
        made.tokenizer_file = tmp_path / "tokenizer.json"
        save_pretrained(made, tmp_path / "init", layout="longread")
        config = RunConfig(init=str(tmp_path / "init"), attention=attention, options=settings, train_rows=16,
                           eval_rows=8, epochs=1, threads=1, out=tmp_path / "out")  # fmt: skip
        return str(train(config).record["run_id"])

    ways: list[tuple[str, dict[str, Any]]] = [
        *(("longformer", {"local_window": window}) for window in (4, 8)),
        *(("longformer", {"attention": "longformer", "attention_window": window}) for window in (4, 8)),
        *(("dense", {"position_kind": "rotary", "rotary_base": base}) for base in (9.0, 10_000.0)),
    ]
    names = [tune(*way) for way in ways]
    assert len(set(names)) == len(ways) and tune(*ways[0]) == names[0]


@pytest.mark.parametrize(("attention", "late"), [("dense", False), ("dense", True), ("tfidf", True)])
def test_a_run_whose_folder_vanished_is_not_said_to_be_done(
    attention: str, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = RunConfig(attention=attention, train_rows=64, eval_rows=16, out=tmp_path)
    config = small(tmp_path) if attention == "dense" else linear
    write = records.write_record

    def delete(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and not late:
            shutil.rmtree(tmp_path / "runs")

    def delete_and_write(out: Path, record: Any) -> records.Run:
        shutil.rmtree(tmp_path / "runs")
        return write(out, record)

    if late:
        monkeypatch.setattr(records, "write_record", delete_and_write)
    with pytest.raises(FileNotFoundError, match="deleted or moved while it ran"):
        train(config, on_event=delete)
    monkeypatch.setattr(records, "write_record", write)
    assert records.load_runs(tmp_path) == []
    assert train(config).record["status"] == "ok"
