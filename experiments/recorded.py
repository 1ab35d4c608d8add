"""Which records are runs that a study's steps ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from longread.config import SCRATCH_SETTINGS
from longread.records import Run, load_runs
from longread.study.chain import Step, in_order
from longread.training.identity import BY_CONTENT, OF_THE_MACHINE
from longread.training.resolve import resolve
from longread.training.start import OVERRIDES
from longread.training.unlabelled import READ

# Left open by a configuration, these are the checkpoint's own, and are in the record.
OF_THE_CHECKPOINT = (*OVERRIDES, "max_length")


def recorded(steps: Sequence[Step], study: Path) -> dict[Step, Run]:
    """Steps, and those that they begin from, whose finished run is in the folder of a study.

    A run that begins from another one's weights counts only if its lineage names a run of that other step.
    """
    runs = [run for run in load_runs(study) if run.record["status"] == "ok"]
    candidates: dict[Step, list[Run]] = {}
    for step in in_order(steps):
        parents = {run.record["run_id"] for run in candidates[step.init]} if step.init else set()
        candidates[step] = [
            run for run in runs if asks_for(step, run.record) and (step.init is None or _parent(run.record) in parents)
        ]
    return {step: found[0] for step, found in candidates.items() if found}


def _parent(record: Mapping[str, Any]) -> str | None:
    lineage = record.get("lineage") or [{}]
    return lineage[0].get("run_id")


def asks_for(step: Step, record: Mapping[str, Any]) -> bool:
    """Whether a record is of a run as the step asks for it; where it ran is no part of that.

    Of the weights that it begins from, the record shows where they are published, or how they were distilled.
    """
    kinds = ("distill",) if step.distill_steps else ("train", "evaluate")
    if record["kind"] not in kinds or record["seed"] != step.config.seed:
        return False
    if record["kind"] == "evaluate":  # it has no settings of a training; its weights are made on the spot
        same = ("task", "attention", "eval_rows", "max_length", "sample_seed", "precision")
        return all(record["config"].get(name) == getattr(step.config, name) for name in same)
    return _same_settings(step, record["config"]) and _same_beginning(step, record)


def _same_settings(step: Step, config: Mapping[str, Any]) -> bool:
    asked = step.config if step.init is None else replace(step.config, init="an earlier step")
    if step.distill_steps is None:
        asked = resolve(asked)
        named = asked.named()
    else:
        used = (*READ, *asked.options)
        named = {name: value for name, value in asked.named().items() if name in used} | {"steps": step.distill_steps}
    elsewhere = {*OF_THE_MACHINE, *BY_CONTENT}
    if asked.init != "scratch":  # earlier records name a shape that the checkpoint decided
        elsewhere |= {*SCRATCH_SETTINGS}
    left_open = {name for name in OF_THE_CHECKPOINT if getattr(asked, name) is None}
    same = all(config.get(name) == value for name, value in named.items() if name not in elsewhere)
    return same and set(config) <= set(named) | elsewhere | left_open


def _same_beginning(step: Step, record: Mapping[str, Any]) -> bool:
    init = str(record.get("init") or "scratch")
    if step.init is None:
        return step.config.is_baseline or init == step.config.init
    if init == "scratch" or init.startswith("package:"):
        return False
    done = (record.get("conversion") or {}).get("distillation") or {}
    if step.init.distill_steps is None or step.distill_steps is not None:
        return step.distill_steps is not None or not done
    before = step.init.config
    wanted = {"steps": step.init.distill_steps, "batch_size": before.batch_size, "learning_rate": before.learning_rate}
    return all(done.get(name) == value for name, value in wanted.items())
