"""How a run ended, and what its record says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longread.errors import ProcessLost
from longread.models.classifier import Classifier
from longread.records import RunRecord
from longread.records.record import Status
from longread.system import processes
from longread.system.memory import is_failed_allocation
from longread.training import state as states
from longread.training.identity import Identity
from longread.training.signals import Interrupted
from longread.training.trainer import Diverged, Trainer
from longread.training.work import Work


@dataclass(frozen=True)
class Outcome:
    """`failure` is raised once the record is written; `found` are the record's fields that the training gave."""

    status: Status
    error: str | None = None
    failure: BaseException | None = None
    found: dict[str, Any] = field(default_factory=dict)


def outcome_of(fault: BaseException, directory: Path, *, sharded: bool) -> Outcome:
    """Of a training that `fault` ended. A stop, a divergence and lack of memory are recorded and not raised."""
    if isinstance(fault, Interrupted | KeyboardInterrupt | ProcessLost):
        lost = fault if isinstance(fault, ProcessLost) else processes.lost_process(0.2)
        if lost is None:
            return Outcome("interrupted", "stopped by a signal; --resume goes on")
        return _after_a_loss(lost, directory)
    if isinstance(fault, Diverged | FloatingPointError):
        return Outcome("diverged", str(fault))
    if is_failed_allocation(fault):
        return Outcome("out_of_memory", _in_a_line(fault), None if processes.is_first() else fault)
    if sharded and (lost := processes.lost_process()) is not None:  # said by torch's own gathering
        return _after_a_loss(lost, directory)
    return Outcome("error", _in_a_line(fault), fault)


def _after_a_loss(lost: ProcessLost, directory: Path) -> Outcome:
    kept = states.state_files(directory)
    there = f"step {states.step_of(kept[0])} is kept in {directory}" if kept else "nothing was saved yet"
    told = ProcessLost(f"{lost}; {there}")
    told.speaks = lost.speaks
    return Outcome("interrupted", f"{lost}; --resume goes on", told)


def _in_a_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def record_of(work: Work, this: Identity, trainer: Trainer, outcome: Outcome, measured: dict[str, Any]) -> RunRecord:
    """measured: memory and environment (inference/meter.py)."""
    found = dict(outcome.found)
    cpu_seconds = trainer.watch.cpu_seconds + found.pop("cpu_seconds", 0.0)
    tokens = trainer.gradients.tokens
    fields: dict[str, Any] = {
        "init": this.config.init,
        "mechanism": work.model.config.look(),
        "conversion": _conversion(work.model),
        "encoder": work.model.config.to_dict(),
        "num_parameters": work.model.num_parameters,
        "truncated_fraction": work.truncated_fraction(),
        "tokens_per_micro_batch_that_fit": None if tokens == this.config.tokens_per_micro_batch else tokens,
        "padded_fraction": trainer.gradients.usage.padded_fraction,
        "dataset": work.dataset(),
        "lineage": work.lineage,
        "train_seconds": trainer.watch.seconds,
        "cpu_seconds": cpu_seconds,
    }
    return RunRecord(
        run_id=this.run_id,
        kind=work.kind,
        status=outcome.status,
        error=outcome.error,
        task=this.config.task,
        attention=work.model.config.attention,  # of a checkpoint with a pattern, more than was asked for
        config=work.named(this.config),
        seed=this.config.seed,
        **(fields | found),  # a distillation knows its conversion better
        **measured,
    )


def _conversion(model: Classifier) -> dict[str, Any] | None:
    done = model.loading.converted if model.loading else None
    return None if done is None else dict(done)
