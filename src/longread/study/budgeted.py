"""A comparison within a time: a plan is made, kept, and carried out; a stopped one goes on with the same plan."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    runs: list[Run] = []
    with signals_interrupt():
        for index, entry in enumerate(kept.plan.entries):
            state = kept.states[index]
            begun = records.find_run(entry.config.out, state["run_id"]) if state["run_id"] else None
            need = _need(kept, entry) - state["took_seconds"]
            if begun is not None and begun.record["status"] == "ok":
                on_event(index, {"event": "skipped", "run_id": state["run_id"]})
                runs.append(begun)
            elif kept.left < max(TOO_LATE, need):
                _leave_out(kept, index, no_time(need, kept.left), on_event)
                runs += [begun] if begun is not None else []
            else:
                runs.append(_run_entry(kept, index, on_event, clock, run))
        while (more := _next_spare(kept)) is not None:
            kept.plan.spare.remove(more)
            runs.append(_run_entry(kept, _add(kept, more, on_event), on_event, clock, run))
        least = max((state["took_seconds"] for state in kept.states), default=0.0)  # no transformer takes less
        only_linear = all(entry.config.is_baseline for entry in kept.plan.entries)
        if plan_again is not None and only_linear and kept.left > least:
            before = clock()
            plan = plan_again(kept.left + report_seconds(kept.left), _pace(kept, linear=True))
            kept.spent += clock() - before
            runs += [
                _run_entry(kept, _add(kept, entry, on_event), on_event, clock, run)
                for entry in plan.entries
                if _need(kept, entry) <= kept.left
            ]
    return runs


def _leave_out(kept: KeptPlan, index: int, why: str, on_event: Listener) -> None:
    what, state = described(kept.plan.entries[index].config), kept.states[index]
    state["state"] = "not begun" if not state["took_seconds"] else "stopped"
    kept.plan.left_out = [one for one in kept.plan.left_out if one[0] != what] + [(what, why)]
    kept.write()
    on_event(index, {"event": "left_out", "error": why})


def _add(kept: KeptPlan, entry: Entry, on_event: Listener) -> int:
    """The number of a further entry."""
    kept.plan.left_out = [e for e in kept.plan.left_out if e[0] != described(entry.config)]
    kept.plan.entries.append(entry)
    kept.states.append(dict(WAITING))
    on_event(len(kept.states) - 1, {"event": "added"})
    return len(kept.states) - 1


def _need(kept: KeptPlan, entry: Entry) -> float:
    """Seconds that it should take, going by those before."""
    return max(TOO_LATE, entry.seconds * _pace(kept, entry.config.is_baseline))


def _next_spare(kept: KeptPlan) -> Entry | None:
    """The first for which there is time after all: the others took less than was expected."""
    if any(state["state"] not in ("done", "not begun") for state in kept.states):
        return None
    return next((e for e in kept.plan.spare if _need(kept, e) <= kept.left), None)


def _run_entry(kept: KeptPlan, index: int, on_event: Listener, clock: Clock, run: RunOne) -> Run:
    entry, state = kept.plan.entries[index], kept.states[index]
    before, begun, spent, noted = state["took_seconds"], clock(), kept.spent, clock()

    def note() -> None:
        state["took_seconds"] = round(before + clock() - begun, 1)
        kept.spent = spent + clock() - begun
        kept.write()

    def heard(place: int, event: Event) -> None:
        nonlocal noted
        state["run_id"] = event.get("run_id", state["run_id"])
        if clock() - noted > SECONDS_BETWEEN_NOTES:
            noted = clock()
            note()
        on_event(place, event)

    state["state"] = "begun"
    try:
        found = run(index, entry.config, heard, time_limit=kept.left)
    finally:
        note()
    state |= {"state": "done" if found.record["status"] == "ok" else found.record["status"],
              "run_id": found.record["run_id"]}  # fmt: skip
    kept.write()
    return found


def _pace(kept: KeptPlan, linear: bool) -> float:
    """How much longer those took that are done than was expected of them, the linear models or the transformers."""
    done = [
        (s["took_seconds"], e.seconds)
        for e, s in zip(kept.plan.entries, kept.states, strict=True)
        if s["state"] == "done" and e.config.is_baseline == linear and s["took_seconds"]
    ]
    took, expected = sum(t for t, _ in done), sum(e for _, e in done)
    return max(LEAST_PACE, took / expected) if expected else 1.0
