"""`longread compare --budget`: the plan before it begins, the runs, and what to take at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.table import Table

from longread.cli import logs
from longread.cli.live import GridView
from longread.cli.status import status_of
from longread.config import RunConfig
from longread.errors import UserError
from longread.study.budgeted import compare_within
from longread.study.kept_plan import KeptPlan
from longread.study.plan import described, duration, seconds_of


def compare_in_time(
    base: RunConfig,
    budget: str,
    tasks: Sequence[str],
    attentions: Sequence[str],
    depths: Sequence[int],
    seeds: Sequence[int],
    baselines: bool,
) -> int:
    """`longread compare` with a time instead of a grid. UserError for wrong input."""
    from longread.report import build_report, summary_tables, three_to_choose_from

    seconds = seconds_of(budget)
    logs.status("measuring how long runs take")
    if len(set(tasks)) > 1:
        raise UserError(f"--budget: for one --task, not {len(set(tasks))}; give each its own command")
    view: GridView | None = None
    planned: KeptPlan | None = None

    def on_plan(kept: KeptPlan, old: bool) -> None:
        nonlocal view, planned
        planned = kept
        logs.status("at work")
        say_plan(kept, old)
        view = GridView(kept.configs)
        view.__enter__()

    def on_event(index: int, event: dict[str, Any]) -> None:
        assert view is not None and planned is not None
        if event["event"] == "added":
            view.add(planned.configs[index])
        view.on_event(index, event)

    try:
        done = compare_within(
            replace(base, task=tasks[0]), seconds, attentions=attentions, depths=depths, seeds=seeds,
            with_baselines=baselines, on_plan=on_plan,
            on_event=on_event,
        )  # fmt: skip
    finally:
        if view is not None:
            view.__exit__(*sys.exc_info())
    if not done.runs:
        raise UserError(f"--budget {budget}: too short for any run; {done.kept.path} says what each would take")
    page = build_report(base.out)
    logs.tables(summary_tables(done.runs))
    three = three_to_choose_from(done.runs)
    for table in three:
        logs.table(table, "to choose from", notes=True)
    if not three:
        logs.result(
            "none is recommended: nothing is shown to be better than chance, or the task is to predict numbers, whose "
            "differences are not tested",
            apart=True,
        )
    logs.result(f"report: {page}", report=page)
    logs.result(f"{duration(done.kept.spent)} of {duration(seconds)} used; plan: {done.kept.path}")
    return status_of(done.runs, fine=("ok", "interrupted"))


def say_plan(kept: KeptPlan, old: bool) -> None:
    """What will run, how long each is expected to take, and what is left out and why."""
    plan = kept.plan
    if old:
        logs.log.info(
            "goes on with the plan in %s: %s of %s used", kept.path, duration(kept.spent), duration(kept.seconds)
        )
    else:
        logs.log.info(
            "plan for %s (measuring took %s), kept in %s", duration(kept.seconds), duration(kept.spent), kept.path
        )
    table = Table(box=None, pad_edge=False)
    for name in ("run", "tokens", "epochs", "about", ""):
        table.add_column(name, justify="left" if name in ("run", "") else "right")
    for entry, state in zip(plan.entries, kept.states, strict=True):
        config = entry.config
        own = ("", "") if config.is_baseline else (f"{config.max_length:,}", str(config.epochs))
        told = "" if state["state"] == "waiting" else state["state"]
        table.add_row(described(config, brief=True), *own, duration(entry.seconds), told)
    table.add_row("all", "", "", duration(plan.seconds), "")
    left_out = Table(box=None, pad_edge=False)
    left_out.add_column("left out", no_wrap=True)
    left_out.add_column("why")
    for what, why in plan.left_out:
        left_out.add_row(what, why)
    logs.drawn(table, "plan")
    if plan.left_out:
        logs.drawn(left_out, "left out")
