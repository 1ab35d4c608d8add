"""One run from configuration to record: it is skipped, begun, gone on with, ended and recorded here, of any kind."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from longread import records
from longread.config import RunConfig
from longread.data.dataset import Split
from longread.errors import ProcessLost, UserError
from longread.models.checkpoint import save_pretrained
from longread.models.classifier import Classifier
from longread.records import Environment, Run, RunRecord, conversion_under_current_names
from longread.records.record import Status
from longread.system import processes, runtime, sharding
from longread.system.measure import PeakMemory, environment, foreign_load
from longread.system.memory import is_failed_allocation
from longread.training import state as states
from longread.training.balance import check_targets
from longread.training.card import write_card
from longread.training.classification import ClassificationWork
from longread.training.identity import Identity, identify, resumable
from longread.training.lineage import Provenance
from longread.training.linear import train_linear
from longread.training.resolve import resolve, resolve_machine
from longread.training.signals import Interrupted, signals_wait
from longread.training.start import start
from longread.training.trainer import Diverged, Event, Trainer
from longread.training.work import Work

log = logging.getLogger("longread")
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of those who do not want to hear."""


def train(
    config: RunConfig, *, resume: bool = False, restart: bool = False, on_event: Listener = ignore
) -> Run:  # fmt: skip
    """Train and evaluate one configuration; its record is in `OUT/runs/<run_id>/`.

    A finished run is not repeated. With `resume`, a stopped one goes on where it stopped, on the threads, device and
    precision that it began with; with `restart` it begins anew. A run that diverges, runs out of memory or is
    interrupted leaves a record that says so. UserError for wrong input, before anything is written, and for a stopped
    run where neither `resume` nor `restart` is asked for.
    """
    config = resolve(config)
    if config.is_baseline:
        return train_linear(config, on_event)
    with processes.joined():
        return _train(config, resume=resume, restart=restart, on_event=on_event)


def _train(config: RunConfig, *, resume: bool, restart: bool, on_event: Listener) -> Run:
    _check_shard(config)
    before = Before(config)
    with processes.first_goes_ahead():
        begun = start(config)
    check_targets(begun.data.train, config)
    _say_what_is_cut(begun.data.train, begun.config)
    work = ClassificationWork(
        config=begun.config,
        model=begun.model,
        tokenizer=begun.data.tokenizer,
        fingerprints=begun.data.fingerprints,
        lineage=begun.lineage,
        data=begun.data,
    )
    return run_work(work, resume=resume, restart=restart, on_event=on_event, before=before)


def _say_what_is_cut(split: Split, config: RunConfig) -> None:
    cut = int(split.encoded.truncated.sum())
    if cut and config.truncation is None:
        log.warning(
            "%s of %s training texts are longer than %s tokens and are cut: try a larger --max-length, or --truncation "
            "tail, head_tail or chunk", f"{cut:,}", f"{len(split):,}", f"{config.max_length:,}",
        )  # fmt: skip


class Before:
    """The machine as it was before a run read anything: what it takes is measured above that."""

    def __init__(self, config: RunConfig) -> None:
        self.load = foreign_load()
        self.memory = PeakMemory(runtime.pick_device(config.device))


def run_work(work: Work, *, resume: bool, restart: bool, on_event: Listener, before: Before) -> Run:
    """Trains and records; `before` was taken before `work` was prepared.

    On several processes each calls this; the first one alone writes and speaks.
    """
    config = work.config
    on_event = on_event if processes.is_first() else ignore
    resume = resume or processes.restarted_by_torchrun()
    shape = work.model.config
    wanted = identify(work, resolve_machine(config, shape.hidden_size, shape.num_hidden_layers))
    finished = records.find_run(config.out, wanted.run_id)
    if finished is not None and finished.record["status"] == "ok":
        on_event({"event": "skipped", "run_id": wanted.run_id})
        processes.wait()
        return finished
    this = (resumable(work, wanted) if resume else None) or wanted
    directory = config.out / "runs" / this.run_id
    with records.locked(directory) if processes.is_first() else nullcontext(False) as waited:
        finished = records.find_run(config.out, this.run_id) if waited else None
        if processes.tell(finished is not None and finished.record["status"] == "ok"):
            on_event({"event": "skipped", "run_id": this.run_id})
            found = finished or records.find_run(config.out, this.run_id)
            assert found is not None
            return found
        return _run_alone(work, this, resume=resume, restart=restart, on_event=on_event, before=before)


def _run_alone(work: Work, this: Identity, *, resume: bool, restart: bool, on_event: Listener, before: Before) -> Run:
    """`run_work` of a run that no other process has under way."""
    config = work.config
    directory = config.out / "runs" / this.run_id
    for folder in (config.out, config.out / "cache", directory) if processes.is_first() else ():
        records.remove_leftovers(folder)
    state = states.load_state(directory) if resume else None
    processes.wait()  # until all have read what there is
    if state is None and processes.is_first():
        _make_room(this, restart, config)
    resolved = this.config
    assert resolved.threads
    torch.set_num_threads(resolved.threads)
    device = runtime.pick_device(resolved.device)
    torch.manual_seed(config.seed)
    model = work.model.to(device)
    if resolved.shard:
        sharding.shard(model, model.blocks, ["classify"], device)
    rows = len(work.splits["train"])
    on_event(
        {
            "event": "start",
            "run_id": this.run_id,
            "num_parameters": model.num_parameters,
            "rows": rows,
            "resumed": state is not None,
            "config": work.named(resolved) | {"seed": config.seed},
        }
    )
    trainer = work.trainer(resolved, directory, on_event)
    trainer.work_id = this.work_id
    found: dict[str, Any] = {}
    failure: Exception | None = None
    status = "error"
    error: str | None = "it did not end"
    try:
        trainer.run(state)
        found = work.results(trainer)
        if resolved.shard:
            work = replace(work, model=_whole(model))
        if processes.is_first():
            work.write(trainer, directory)
        status, error = "ok", None
    except (Interrupted, KeyboardInterrupt, ProcessLost) as stop:
        status, error = "interrupted", "stopped by a signal; --resume goes on"
        lost = stop if isinstance(stop, ProcessLost) else processes.lost_process(0.2)
        if lost is not None:
            failure, error = _with_its_state(lost, directory), f"{lost}; --resume goes on"
    except (Diverged, FloatingPointError) as fault:
        status, error = "diverged", str(fault)
    except Exception as fault:
        failure, error = fault, _in_a_line(fault)
        if is_failed_allocation(fault):
            status, failure = "out_of_memory", None if processes.is_first() else fault
        elif resolved.shard and (lost := processes.lost_process()) is not None:  # said by torch's own gathering
            status, failure, error = "interrupted", _with_its_state(lost, directory), f"{lost}; --resume goes on"
    if not processes.is_first():
        return _recorded_by_the_first(config, this.run_id, failure)
    # What has failed is told whole: torchrun sends SIGTERM when a process is lost, a closed terminal a second signal.
    with nullcontext() if status == "ok" else signals_wait():
        record = _record(work, this, trainer, status, error, found)
        record = replace(
            record,
            peak_memory_bytes=before.memory.bytes(),
            memory_kind=before.memory.kind,
            environment=Environment(
                **environment(device, resolved.precision),
                processes=processes.count(),
                load_at_start=before.load,
                load_at_end=foreign_load(),
            ),
        )
        if status == "ok":
            save_pretrained(work.model, directory / "checkpoint", tokenizer=work.tokenizer)
            provenance = Provenance(this.run_id, work.kind, trainer.watch.seconds, work.lineage)
            provenance.write(directory / "checkpoint")
            write_card(Run(record.to_json(), directory), directory / "checkpoint")
        run = records.write_record(config.out, record)
        if status == "ok":
            records.check_held(directory)
            states.delete_states(directory)
        on_event(
            {"event": "end", "run_id": this.run_id, "status": status, "error": error, "metrics": dict(record.metrics)}
        )
        if failure is not None:
            raise failure
    if status != "out_of_memory":  # the others wait for gradients that will not come: they end when this one does
        processes.wait()
    return run


def _with_its_state(lost: ProcessLost, directory: Path) -> ProcessLost:
    kept = states.state_files(directory)
    there = f"step {states.step_of(kept[0])} is kept in {directory}" if kept else "nothing was saved yet"
    told = ProcessLost(f"{lost}; {there}")
    told.speaks = lost.speaks
    return told


def _recorded_by_the_first(config: RunConfig, run_id: str, failure: Exception | None) -> Run:
    """The record that the first process of the run is writing."""
    if failure is not None:
        raise failure
    processes.wait()
    run = records.find_run(config.out, run_id)
    assert run is not None
    return run


def _check_shard(config: RunConfig) -> None:
    if not config.shard:
        return
    if processes.count() == 1:
        raise UserError("--shard: only with several processes; start them with torchrun --nproc-per-node N")
    if config.average_weights:
        raise UserError("--average-weights: not with --shard; leave one out")


def _whole(model: Classifier) -> Classifier:
    """On the first process the model without shards, in the processor's memory; the others help."""
    tensors = states.whole(model.state_dict(), keep=processes.is_first())
    if not processes.is_first():
        return model
    plain = Classifier(model.config)
    plain.load_state_dict(tensors)
    for name, buffer in model.named_buffers():
        plain.get_buffer(name).copy_(buffer)
    plain.tokenizer_file, plain.loading, plain.decision = model.tokenizer_file, model.loading, model.decision
    return plain.train(model.training)


def _make_room(this: Identity, restart: bool, config: RunConfig) -> None:
    """The folder of a run that begins anew is empty but for its lock.

    UserError where work of a stopped run would be lost.
    """
    directory = config.out / "runs" / this.run_id
    stopped = states.state_files(directory)
    if stopped and not restart:
        raise UserError(
            f"{directory}: this run was stopped at step {states.step_of(stopped[0])}; --resume goes on from there, "
            "--restart begins anew and deletes what it has learned"
        )
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != records.LOCK:
            path.unlink()


def _in_a_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _record(
    work: Work, this: Identity, trainer: Trainer, status: str, error: str | None, found: dict[str, Any]
) -> RunRecord:
    chosen: Status = status  # type: ignore[assignment]
    found = dict(found)
    cpu_seconds = trainer.watch.cpu_seconds + found.pop("cpu_seconds", 0.0)
    tokens = trainer.gradients.tokens
    fitting = None if tokens == this.config.tokens_per_micro_batch else tokens
    fields: dict[str, Any] = {
        "init": this.config.init,
        "mechanism": work.model.config.look(),
        "conversion": _conversion(work.model),
        "encoder": work.model.config.to_dict(),
        "num_parameters": work.model.num_parameters,
        "truncated_fraction": work.truncated_fraction(),
        "tokens_per_micro_batch_that_fit": fitting,
        "padded_fraction": trainer.gradients.usage.padded_fraction,
        "dataset": work.dataset(),
        "lineage": work.lineage,
        "train_seconds": trainer.watch.seconds,
        "cpu_seconds": cpu_seconds,
    }
    return RunRecord(
        run_id=this.run_id,
        kind=work.kind,
        status=chosen,
        error=error,
        task=this.config.task,
        attention=work.model.config.attention,  # of a checkpoint with a pattern, more than was asked for
        config=work.named(this.config),
        seed=this.config.seed,
        **(fields | found),
    )


def _conversion(model: Classifier) -> dict[str, Any] | None:
    done = model.loading.converted if model.loading else None
    return None if done is None else conversion_under_current_names(done)
