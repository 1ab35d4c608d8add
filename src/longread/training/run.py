"""One run from configuration to record: it is skipped, begun, gone on with, ended and recorded here, of any kind."""

from __future__ import annotations

import logging
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from longread import records
from longread.config import RunConfig
from longread.data.dataset import Split
from longread.errors import UserError
from longread.inference.meter import Meter
from longread.models.checkpoint import save_pretrained
from longread.models.classifier import Classifier
from longread.records import Run, RunRecord
from longread.system import allocator, processes, runtime, sharding
from longread.training import state as states
from longread.training.balance import check_targets
from longread.training.card import write_card
from longread.training.classification import ClassificationWork
from longread.training.events import Listener, ignore
from longread.training.identity import Identity, identify, resumable
from longread.training.lineage import Provenance, trained_on_rows
from longread.training.linear import train_linear
from longread.training.outcome import Outcome, outcome_of, record_of
from longread.training.resolve import resolve, resolve_machine
from longread.training.signals import signals_wait
from longread.training.start import start
from longread.training.trainer import Trainer
from longread.training.work import Work

log = logging.getLogger("longread")


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
    meter = Meter(runtime.pick_device(config.device))
    with processes.first_goes_ahead():
        begun = start(config)
    check_targets(begun.data.train, config)
    say_what_is_cut(begun.data.train, begun.config)
    work = ClassificationWork(
        config=begun.config,
        model=begun.model,
        tokenizer=begun.data.tokenizer,
        fingerprints=begun.data.fingerprints,
        lineage=begun.lineage,
        earlier=begun.earlier,
        data=begun.data,
    )
    return run_work(work, resume=resume, restart=restart, on_event=on_event, meter=meter)


def say_what_is_cut(split: Split, config: RunConfig) -> None:
    """A warning where texts are longer than what is read of them, and nobody chose what that is."""
    cut = int(split.encoded.truncated.sum())
    if cut and config.truncation is None:
        others = "" if split.encoded.first_texts is not None else ", or --truncation tail, head_tail or chunk"
        log.warning(
            "%s of %s training texts are longer than %s tokens and are cut: try a larger --max-length%s",
            f"{cut:,}", f"{len(split):,}", f"{config.max_length:,}", others,
        )  # fmt: skip


def run_work(work: Work, *, resume: bool, restart: bool, on_event: Listener, meter: Meter) -> Run:
    """Trains and records; `meter` was made before `work` was prepared.

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
        return _run_alone(work, this, resume=resume, restart=restart, on_event=on_event, meter=meter)


def _run_alone(work: Work, this: Identity, *, resume: bool, restart: bool, on_event: Listener, meter: Meter) -> Run:
    """`run_work` of a run that no other process has under way."""
    config, resolved = work.config, this.config
    directory = config.out / "runs" / this.run_id
    state = _saved_state(directory, resume, restart)
    device = _prepare_machine(work.model, resolved)
    on_event(
        {
            "event": "start",
            "run_id": this.run_id,
            "num_parameters": work.model.num_parameters,
            "rows": len(work.splits["train"]),
            "resumed": state is not None,
            "config": work.named(resolved) | {"seed": config.seed},
        }
    )
    trainer = work.trainer(resolved, directory, on_event)
    trainer.work_id = this.work_id
    work, outcome = _carry_out(work, trainer, state, directory, sharded=resolved.shard)
    if not processes.is_first():
        return _recorded_by_the_first(config, this.run_id, outcome.failure)
    # What has failed is told whole: torchrun sends SIGTERM when a process is lost, a closed terminal a second signal.
    with nullcontext() if outcome.status == "ok" else signals_wait():
        record = record_of(work, this, trainer, outcome, meter.fields(device, resolved.precision))
        if outcome.status == "ok":
            _write_checkpoint(work, record, trainer.watch.seconds, directory / "checkpoint")
        run = records.write_record(config.out, record)
        if outcome.status == "ok":
            records.check_held(directory)
            states.delete_states(directory)
        told = {"run_id": this.run_id, "status": outcome.status, "error": outcome.error}
        on_event({"event": "end", **told, "metrics": dict(record.metrics)})
        if outcome.failure is not None:
            raise outcome.failure
    if outcome.status != "out_of_memory":  # the others wait for gradients that will not come: they end with this one
        processes.wait()
    return run


def _saved_state(directory: Path, resume: bool, restart: bool) -> states.State | None:
    """The state to go on with; where there is none to go on with, the folder is made ready for a new run."""
    out = directory.parent.parent
    for folder in (out, out / "cache", directory) if processes.is_first() else ():
        records.remove_leftovers(folder)
    state = states.load_state(directory) if resume else None
    processes.wait()  # until all have read what there is
    if state is None and processes.is_first():
        _make_room(directory, restart)
    return state


def _prepare_machine(model: Classifier, resolved: RunConfig) -> torch.device:
    """Threads and the seed are set, and the model is where it computes."""
    assert resolved.threads
    torch.set_num_threads(resolved.threads)
    allocator.tune_for_training(resolved.precision, resolved.eval_precision)
    device = runtime.pick_device(resolved.device)
    torch.manual_seed(resolved.seed)
    model.to(device)
    if resolved.shard:
        sharding.shard(model, model.blocks, ["classify"], device)
    return device


def _carry_out(
    work: Work, trainer: Trainer, state: states.State | None, directory: Path, *, sharded: bool
) -> tuple[Work, Outcome]:
    """Trains, measures and writes the results; the work comes back with its model in one piece."""
    try:
        trainer.run(state)
        found = work.results(trainer)
        if sharded:
            work = replace(work, model=_whole(work.model))
        if processes.is_first():
            work.write(trainer, directory)
    except (Exception, KeyboardInterrupt) as fault:
        return work, outcome_of(fault, directory, sharded=sharded)
    return work, Outcome("ok", found=found)


def _write_checkpoint(work: Work, record: RunRecord, train_seconds: float, place: Path) -> None:
    save_pretrained(work.model, place, tokenizer=work.tokenizer)
    trained_on = trained_on_rows(record, work.config, work.splits["train"].sources, work.earlier)
    Provenance(record.run_id, work.kind, train_seconds, work.lineage, trained_on).write(place)
    write_card(Run(record.to_json(), place.parent), place)


def _recorded_by_the_first(config: RunConfig, run_id: str, failure: BaseException | None) -> Run:
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


def _make_room(directory: Path, restart: bool) -> None:
    """The folder of a run that begins anew is empty but for its lock.

    UserError where work of a stopped run would be lost.
    """
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
