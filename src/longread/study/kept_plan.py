"""A plan in its file, so that a stopped comparison goes on with it.

`OUT/plans/NAME.json` has the plan, what was left out and why, and how much of the time is used. The name is that of
what was asked for: settings, rows and time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longread.config import RunConfig
from longread.errors import UserError
from longread.records import canonical, fingerprint, write_json
from longread.study.plan import Entry, Plan, Texts, report_seconds
from longread.study.planner import Measure, make_plan

PLANS = "plans"
SCHEMA = 1
WAITING = {"state": "waiting", "run_id": None, "took_seconds": 0.0}
OF_A_PLACE = ("out", "data_dir")  # settings that change no plan


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


def _entry(told: dict[str, Any], out: Path, data_dir: Path | None) -> Entry:
    """The inverse of `_told`, where this call keeps and finds its files."""
    return Entry(
        replace(RunConfig.from_json(told["config"]), out=out, data_dir=data_dir), float(told["expected_seconds"])
    )


def name_of(configs: Sequence[RunConfig], seconds: float, fingerprints: Sequence[str]) -> str:
    asked = [{k: v for k, v in c.to_json().items() if k not in OF_A_PLACE} for c in configs]
    return fingerprint("plan", canonical(asked), str(seconds), *fingerprints)


def read_plan(path: Path, out: Path, data_dir: Path | None) -> KeptPlan | None:
    """None where there is none. UserError for a file that is none of ours."""
    try:
        told = json.loads(path.read_bytes())
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']!r}")
        entries, spare = ([_entry(one, out, data_dir) for one in told[name]] for name in ("entries", "spare"))
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
    clock: Callable[[], float] = time.monotonic,
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
