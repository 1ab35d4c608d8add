"""A comparison within a time: a plan is made, kept, and carried out; a stopped one goes on with the same plan."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from longread import records
from longread.config import RunConfig
from longread.records import Run
from longread.study.child import Event, Listener, run_one
from longread.study.compare import check, grid
from longread.study.kept_plan import WAITING, KeptPlan, plan_within
from longread.study.plan import Entry, Plan, described, no_time, report_seconds
from longread.study.planner import make_plan
from longread.training.resolve import resolve
from longread.training.signals import signals_interrupt

log = logging.getLogger("longread")

SECONDS_BETWEEN_NOTES = 10.0  # of the time that is used: so much of it is forgotten when the program is killed
LEAST_PACE = 0.25  # runs are not expected to take less of what was measured
TOO_LATE = 3.0  # seconds that are not enough to begin anything
Clock = Callable[[], float]
RunOne = Callable[..., Run]
PlanAgain = Callable[[float, float], Plan]  # of the seconds that are left, and how much faster all was than expected


@dataclass(frozen=True)
class Compared:
    kept: KeptPlan
    runs: list[Run]


def compare_within(
    base: RunConfig,
    seconds: float,
    *,
    attentions: Sequence[str],
    depths: Sequence[int] = (1,),
    seeds: Sequence[int] = (0,),
    with_baselines: bool = True,
    on_plan: Callable[[KeptPlan, bool], None] = lambda kept, old: None,
    on_event: Listener = lambda index, event: None,
    probe: Callable[[RunConfig], Any] | None = None,
    clock: Clock = time.monotonic,
    run: RunOne = run_one,
) -> Compared:
    """Plans, says the plan to `on_plan` (True: it was there before), and runs it. UserError for wrong input.

    base.task names the one task; what `base` gives (max_length, epochs, a size) is not chosen. probe: measures instead
    of `longread.study.probe.Probe`, as which it is made and asked.
    """
    from longread.study.probe import Probe

    began = clock()
    configs = check(
        grid(base, tasks=[base.task], attentions=attentions, depths=depths, seeds=seeds, with_baselines=with_baselines)
    )
    first = next((config for config in configs if not config.is_baseline), configs[0])
    asked = [config for config in configs if not config.is_baseline]
    found = (probe or Probe)(replace(resolve(first), epochs=base.epochs, max_length=base.max_length))
    prints = (found.train.fingerprint, found.evaluation.fingerprint)
    kept, old = plan_within(configs, seconds, prints, found.texts, found, clock=clock, began=began)
    on_plan(kept, old)

    def plan_again(left: float, pace: float) -> Plan:
        found.forget(pace)
        return make_plan(asked, found.texts(), found, left, clock=clock)

    return Compared(kept, run_plan(kept, on_event, clock=clock, run=run, plan_again=plan_again if asked else None))


def run_plan(
    kept: KeptPlan,
    on_event: Listener = lambda index, event: None,
    *,
    clock: Clock = time.monotonic,
    run: RunOne = run_one,
    plan_again: PlanAgain | None = None,
) -> list[Run]:
    """The runs that were done or begun, in the order of the plan; the file says what became of each.

    A run that is not finished at the end of the time is stopped, its state saved and its record marked. One that
    would not be finished by then, going by what the others took, is not begun. Where the others took less time than was
    expected, what was left out for lack of it is run, too; where no transformer was, these are planned again.
    """
    work = _Work(kept, on_event, clock, run)
    with signals_interrupt():
        work.run_planned()
        work.run_spare()
        if plan_again is not None:
            work.run_planned_again(plan_again)
    return work.runs


@dataclass
class _Work:
    """A plan that is being carried out."""

    kept: KeptPlan
    on_event: Listener
    clock: Clock
    run: RunOne
    runs: list[Run] = field(default_factory=list)

    def run_planned(self) -> None:
        for index, entry in enumerate(self.kept.plan.entries):
            state = self.kept.states[index]
            begun = records.find_run(entry.config.out, state["run_id"]) if state["run_id"] else None
            need = self._need(entry) - state["took_seconds"]
            if begun is not None and begun.record["status"] == "ok":
                self.on_event(index, {"event": "skipped", "run_id": state["run_id"]})
                self.runs.append(begun)
            elif self.kept.left < max(TOO_LATE, need):
                self._leave_out(index, no_time(need, self.kept.left))
                self.runs += [begun] if begun is not None else []
            else:
                self._run(index)

    def run_spare(self) -> None:
        """What was left out for lack of time, where the others took less than was expected."""
        while all(state["state"] in ("done", "not begun") for state in self.kept.states):
            more = next((entry for entry in self.kept.plan.spare if self._need(entry) <= self.kept.left), None)
            if more is None:
                return
            self.kept.plan.spare.remove(more)
            self._run(self._add(more))

    def run_planned_again(self, plan_again: PlanAgain) -> None:
        """Where no transformer was in the plan: by then it is known how long the linear models took."""
        kept = self.kept
        least = max((state["took_seconds"] for state in kept.states), default=0.0)  # no transformer takes less
        if kept.left <= least or not all(entry.config.is_baseline for entry in kept.plan.entries):
            return
        before = self.clock()
        plan = plan_again(kept.left + report_seconds(kept.left), self._pace(linear=True))
        kept.spent += self.clock() - before
        for entry in plan.entries:
            if self._need(entry) <= kept.left:
                self._run(self._add(entry))

    def _run(self, index: int) -> None:
        kept, entry, state = self.kept, self.kept.plan.entries[index], self.kept.states[index]
        before, spent = state["took_seconds"], kept.spent
        begun = noted = self.clock()

        def note() -> None:
            state["took_seconds"] = round(before + self.clock() - begun, 1)
            kept.spent = spent + self.clock() - begun
            kept.write()

        def heard(place: int, event: Event) -> None:
            nonlocal noted
            state["run_id"] = event.get("run_id", state["run_id"])
            if self.clock() - noted > SECONDS_BETWEEN_NOTES:
                noted = self.clock()
                note()
            self.on_event(place, event)

        state["state"] = "begun"
        try:
            found = self.run(index, entry.config, heard, time_limit=kept.left)
        finally:
            note()
        status = found.record["status"]
        state |= {"state": "done" if status == "ok" else status, "run_id": found.record["run_id"]}
        kept.write()
        self.runs.append(found)

    def _add(self, entry: Entry) -> int:
        """The number of a further entry."""
        kept = self.kept
        kept.plan.left_out = [one for one in kept.plan.left_out if one[0] != described(entry.config)]
        kept.plan.entries.append(entry)
        kept.states.append(dict(WAITING))
        self.on_event(len(kept.states) - 1, {"event": "added"})
        return len(kept.states) - 1

    def _leave_out(self, index: int, why: str) -> None:
        kept = self.kept
        what, state = described(kept.plan.entries[index].config), kept.states[index]
        state["state"] = "not begun" if not state["took_seconds"] else "stopped"
        kept.plan.left_out = [one for one in kept.plan.left_out if one[0] != what] + [(what, why)]
        kept.write()
        self.on_event(index, {"event": "left_out", "error": why})

    def _need(self, entry: Entry) -> float:
        """Seconds that it should take, going by those before."""
        return max(TOO_LATE, entry.seconds * self._pace(entry.config.is_baseline))

    def _pace(self, linear: bool) -> float:
        """How much longer those took that are done than was expected, of the linear models or of the transformers."""
        done = [
            (state["took_seconds"], entry.seconds)
            for entry, state in zip(self.kept.plan.entries, self.kept.states, strict=True)
            if state["state"] == "done" and entry.config.is_baseline == linear and state["took_seconds"]
        ]
        took, expected = sum(own for own, _ in done), sum(own for _, own in done)
        return max(LEAST_PACE, took / expected) if expected else 1.0
