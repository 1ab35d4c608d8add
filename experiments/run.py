"""Runs a study from nothing to its report: python experiments/run.py STUDY [--data-dir DIR] [--out DIR] [--threads N]

Each run has a process and a folder of its own in out/studies/STUDY/runs/ (or --out), with its checkpoint. What a step
begins from is made first. A finished run is skipped and a stopped one goes on where it was, so that the same command
may be given again at any point. At the end the records become compact (longread.records.compact) in results/STUDY/ (or
DIR/kept/), with the tables; the page with its figures is out/studies/STUDY/report/ (or DIR/report/).

What results/STUDY/ has a record of is not run again, also where no checkpoint is left; --out somewhere else repeats it.
`--only` takes mechanisms and `--tasks` tasks, so that two calls can share a study between two processor cores; what
such a step begins from is done whatever it is.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from experiments.recorded import recorded  # noqa: E402
from longread.cli.cluster import cluster_of  # noqa: E402
from longread.cli.live import GridView  # noqa: E402
from longread.errors import UserError  # noqa: E402
from longread.records import Run  # noqa: E402
from longread.records.compact import compact  # noqa: E402
from longread.report import build_report, summary_table  # noqa: E402
from longread.study import ray as on_ray  # noqa: E402
from longread.study.chain import Step, in_order, run_steps  # noqa: E402
from longread.study.cluster import Cluster  # noqa: E402
from longread.study.compare import check  # noqa: E402

Own = Callable[[Any, Callable[[dict[str, Any]], None]], Run]


def studies() -> dict[str, ModuleType]:
    """By name: the modules of this folder that have `steps`."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    modules = {name: importlib.import_module(f"experiments.{name}") for name in names if name != "run"}
    return {name: module for name, module in modules.items() if hasattr(module, "steps")}


def placed(steps: Sequence[Step], **changes: Any) -> list[Step]:
    """The steps, and those they begin from, with these fields of their configurations (out, data_dir, threads)."""
    made: dict[Step, Step] = {}
    for step in in_order(steps):
        before = made[step.init] if step.init else None
        made[step] = Step(replace(step.config, **changes), init=before, distill_steps=step.distill_steps)
    return [made[step] for step in steps]


def run_study(
    steps: Sequence[Step], out: Path, kept: Path, own: Own | None = None, cluster: Cluster | None = None
) -> list[Run]:
    """What is not recorded yet, in order; then the compact records and the tables, in `kept`. One run for each step.

    own: what a study does in place of training. cluster: where the runs are, if not here. KeyboardInterrupt after the
    run under way has saved its state.
    """
    done = recorded(steps, kept)
    steps = in_order(steps)
    missing = [step for step in steps if step not in done]
    if done:
        print(f"{kept}: has {len(done)} of {len(steps)} runs already", file=sys.stderr)
    if missing:
        first = in_order(missing)  # and what they begin from, whose checkpoint is needed
        if own is None:  # what does something else than training checks its own settings
            check([step.config for step in first if step.distill_steps is None and step.init is None])
        with GridView([step.config for step in first]) as view:
            if own:
                found = [own(step.config, partial(view.on_event, index)) for index, step in enumerate(first)]
            elif cluster:
                found = on_ray.run_steps(first, cluster, on_event=view.on_event)
            else:
                found = run_steps(first, on_event=view.on_event)
        as_kept = {run.record["run_id"]: run for run in compact(out, kept)}
        done = {step: as_kept[run.record["run_id"]] for step, run in zip(first, found, strict=True)} | done
    build_report(kept, figures=False)
    return [done[step] for step in steps]


def main(arguments: Sequence[str] | None = None) -> int:
    known = studies()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help=", ".join(known))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", metavar="ATTENTION")
    parser.add_argument("--tasks", nargs="+", metavar="TASK")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--on", choices=("here", "ray"), default="here")
    for field in fields(Cluster):
        kind = {"run_cpus": int, "run_retries": int, "run_memory": float, "run_gpus": float}.get(field.name, str)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    given = parser.parse_args(arguments)
    try:
        study = known.get(given.study) or _unknown(given.study, known)
        cluster = cluster_of(given.on, Cluster(**{field.name: getattr(given, field.name) for field in fields(Cluster)}))
        own = getattr(study, "run", None)
        if own and cluster:
            raise UserError(f"--on ray: {given.study} trains nothing; it runs here alone")
        out = given.out or ROOT / "out" / "studies" / given.study
        kept = given.out / "kept" if given.out else ROOT / "results" / given.study.replace("_", "-")
        steps = [
            step
            for step in study.steps()
            if (not given.only or step.config.attention in given.only)
            and (not given.tasks or step.config.task in given.tasks)
            and (not given.seeds or step.config.seed in given.seeds)
        ]
        if not steps:
            raise UserError(f"{given.study} has no run for what --only, --tasks and --seeds ask")
        changes = {"out": out, "data_dir": given.data_dir} | ({"threads": given.threads} if given.threads else {})
        finished = run_study(placed(steps, **changes), out, kept, own, cluster)
        print(summary_table([run for run in finished if run.record["kind"] != "distill"]), file=sys.stderr)
        print(f"report: {build_report(kept, out / 'report')}", file=sys.stderr)
    except UserError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("experiments: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0 if all(run.record["status"] == "ok" for run in finished) else 1


def _unknown(name: str, known: dict[str, ModuleType]) -> ModuleType:
    """UserError, which knows where the records of an earlier study of this name belong."""
    folder = name.replace("_", "-")
    now = next((study for study, module in known.items() if folder in module.RECORDS), None)
    if now:
        raise UserError(f"{name} is part of {now} now; its records stay in results/{folder}")
    raise UserError(f"there is no study {name!r}; there are {', '.join(known)}")


if __name__ == "__main__":
    sys.exit(main())
