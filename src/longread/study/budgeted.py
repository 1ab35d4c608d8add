"""A comparison within a time: a plan is made, kept, and carried out; a stopped one goes on with the same plan.

`OUT/plans/NAME.json` has the plan, what was left out and why, and how much of the time is used. The name is that of
what was asked for: settings, rows and time.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longread import records
from longread.config import RunConfig
from longread.errors import UserError
from longread.records import Run, canonical, fingerprint, write_json
from longread.study.budget import Entry, Measure, Plan, Texts, described, duration, make_plan, report_seconds
from longread.study.child import Event, Listener, run_one
from longread.study.compare import check, grid
from longread.training.resolve import resolve
from longread.training.signals import signals_interrupt

log = logging.getLogger("longread")

PLANS = "plans"
SCHEMA = 1
SECONDS_BETWEEN_NOTES = 10.0  # of the time that is used: so much of it is forgotten when the program is killed
WAITING = {"state": "waiting", "run_id": None, "took_seconds": 0.0}
LEAST_PACE = 0.25  # runs are not expected to take less of what was measured
TOO_LATE = 3.0  # seconds that are not enough to begin anything
OF_A_PLACE = ("out", "data_dir")  # settings that change no plan
Clock = Callable[[], float]
RunOne = Callable[..., Run]
PlanAgain = Callable[[float, float], Plan]  # of the seconds that are left, and how much faster all was than expected


@dataclass
class KeptPlan:
    """A plan, its file, the time that it may take and has taken, and what became of each entry."""

    path: Path
    plan: Plan
    seconds: float
    spent: float
    states: list[dict[str, Any]]  # of each entry: state, run_id, took_seconds

    @property
    def left(self) -> float:
        """Seconds for runs; the report has its own."""
        return self.seconds - report_seconds(self.seconds) - self.spent

    @property
    def configs(self) -> list[RunConfig]:
        return [entry.config for entry in self.plan.entries]

    def write(self) -> None:
        entries = [_told(e) | state for e, state in zip(self.plan.entries, self.states, strict=True)]
        spare = [_told(entry) for entry in self.plan.spare]
        left_out = [{"what": what, "why": why} for what, why in self.plan.left_out]
        write_json(
            self.path,
            {"schema": SCHEMA, "budget_seconds": self.seconds, "spent_seconds": round(self.spent, 1),
             "entries": entries, "left_out": left_out, "spare": spare},
        )  # fmt: skip


def _told(entry: Entry) -> dict[str, Any]:
    return {"config": entry.config.to_json(), "expected_seconds": round(entry.seconds, 1)}


def name_of(configs: Sequence[RunConfig], seconds: float, fingerprints: Sequence[str]) -> str:
    asked = [{k: v for k, v in c.to_json().items() if k not in OF_A_PLACE} for c in configs]
    return fingerprint("plan", canonical(asked), str(seconds), *fingerprints)


def read_plan(path: Path, out: Path, data_dir: Path | None) -> KeptPlan | None:
    """None where there is none. UserError for a file that is none of ours."""
    try:
        told = json.loads(path.read_bytes())
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']!r}")
        entries, spare = (
            [
                Entry(
                    replace(RunConfig.from_json(e["config"]), out=out, data_dir=data_dir), float(e["expected_seconds"])
                )
                for e in told[name]
            ]
            for name in ("entries", "spare")
        )
        states = [{k: e[k] for k in ("state", "run_id", "took_seconds")} for e in told["entries"]]
        plan = Plan(entries, [(str(e["what"]), str(e["why"])) for e in told["left_out"]], spare)
        return KeptPlan(path, plan, float(told["budget_seconds"]), float(told["spent_seconds"]), states)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a plan ({error}); delete it, and another one is made") from None


def plan_within(
    configs: Sequence[RunConfig],
    seconds: float,
    fingerprints: Sequence[str],
    texts: Callable[[], Texts],
    measure: Measure,
    *,
    clock: Clock = time.monotonic,
    began: float | None = None,
) -> tuple[KeptPlan, bool]:
    """The plan of what is asked for, and whether it was there before. It is written down before anything runs."""
    base = configs[0]
    path = base.out / PLANS / f"{name_of(configs, seconds, fingerprints)}.json"
    kept = read_plan(path, base.out, base.data_dir)
    if kept is not None:
        return kept, True
    began = clock() if began is None else began
    plan = make_plan(configs, texts(), measure, seconds, clock=clock, began=began)
    states = [dict(WAITING) for _ in plan.entries]
    kept = KeptPlan(path, plan, seconds, clock() - began, states)
    kept.write()
    return kept, False


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
            done = records.find_run(entry.config.out, state["run_id"]) if state["run_id"] else None
            if done is not None and done.record["status"] == "ok":
                on_event(index, {"event": "skipped", "run_id": state["run_id"]})
                runs.append(done)
                continue
            need = _need(kept, entry) - state["took_seconds"]
            if kept.left < max(TOO_LATE, need):
                why = f"would take about {duration(max(need, 0))}; {duration(max(0.0, kept.left))} left"
                state["state"] = "not begun" if not state["took_seconds"] else "stopped"
                kept.plan.left_out = [e for e in kept.plan.left_out if e[0] != described(entry.config)]
                kept.plan.left_out.append((described(entry.config), why))
                kept.write()
                on_event(index, {"event": "left_out", "error": why})
                if done is not None:
                    runs.append(done)
                continue
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
