"""Run records in order: which runs are a line, which lines a group."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longread.config import BASELINES, LATER_FIELDS
from longread.problems import MULTI_LABEL, REGRESSION, problem_of
from longread.report.groups import Group, Line, Outcome
from longread.report.lineage import RUN_FOLDER, all_ancestors
from longread.report.mechanisms import later_options, rank
from longread.report.numbers import finite

if TYPE_CHECKING:
    from longread.records import Run

# told elsewhere, or no part of what was compared
NOT_A_SETTING = {"attention", "task", "seed", "out", "data_dir", "tokens_per_micro_batch"}
# told beside a name wherever it varies in a group: it decides times
ALWAYS_TOLD = {"eval_precision"}
# decided by the machine or the data when a run starts: a run that failed early does not know them
RESOLVED = {"device", "threads", "precision", "train_rows"}


def is_loaded(run: Run) -> bool:
    """Did the machine have other work when the run began or ended (above half of the run's threads)?"""
    environment = run.record.get("environment") or {}
    loads = (environment.get("load_at_start"), environment.get("load_at_end"))
    return any(isinstance(v, int | float) and v > 0.5 * (environment.get("threads") or 1) for v in loads)


def settings_of(run: Run, known: Mapping[str, Run] | None = None) -> dict[str, Any]:
    """What could set two runs apart: the config, and from where it ran and on how many rows.

    known: runs by id, among them those that this one may have begun from; see `_origin`.
    """
    record = run.record
    config = {k: v for k, v in (record.get("config") or {}).items() if k not in NOT_A_SETTING}
    if record.get("kind") == "train" and record.get("attention") not in BASELINES:
        config = LATER_FIELDS | later_options(record.get("encoder") or {}) | config
    config["init"] = _origin(record, known or {})
    environment, dataset = record.get("environment") or {}, record.get("dataset") or {}
    config["device"] = environment.get("device")
    # Threads change times alone, and the times of a run that had company are not quoted.
    config["threads"] = None if is_loaded(run) else environment.get("threads")
    # Rows held out to choose an epoch were given for training too.
    given = [rows for name in ("train", "selection") if (rows := (dataset.get(name) or {}).get("rows"))]
    config["train_rows"] = sum(given) or None
    config["kind"] = record.get("kind")
    if record.get("status") != "ok":  # it may have ended before the machine had its say
        config = {name: value for name, value in config.items() if name not in RESOLVED}
    if record.get("attention") in BASELINES:  # a linear model knows no layers; say nothing of its init
        config = {k: config[k] for k in ("device", "train_rows", "kind") if k in config}
    return config


def _origin(record: Mapping[str, Any], known: Mapping[str, Run]) -> str | None:
    """`init`; of runs that differ in their seed alone, the first one's in place of each.

    Where every seed of a chain has its own first step, its runs are one line and as many draws.
    """
    before = _before(record, known)
    if before is None:
        return record.get("init")
    own = _recipe(before, known)
    alike = [(run.record.get("seed") or 0, name) for name, run in known.items() if _recipe(run, known) == own]
    return f"runs/{min(alike)[1]}/checkpoint"


def _before(record: Mapping[str, Any], known: Mapping[str, Run]) -> Run | None:
    """The run whose checkpoint a run began from."""
    folder = RUN_FOLDER.search(str(record.get("init")))
    return known.get(folder[1]) if folder else None


def _recipe(run: Run, known: Mapping[str, Run]) -> str:
    """What two runs have in common that differ in their seeds alone.

    Each step back leaves its run out of `known`: damaged records may name each other.
    """
    known = {name: other for name, other in known.items() if other is not run}
    left_out = ("init", "device", "threads")
    settings = {name: value for name, value in settings_of(run).items() if name not in left_out}
    before = _before(run.record, known)
    first = run.record.get("init") if before is None else _recipe(before, known)
    return json.dumps([run.record.get("task"), run.record.get("attention"), settings, first], sort_keys=True)


def varying(runs: Iterable[Run], known: Mapping[str, Run] | None = None) -> tuple[str, ...]:
    """Settings with more than one value, depth first.

    A setting that is absent counts as a value of its own only among runs of one mechanism and kind: that Linformer
    has no window is no difference, that one Longformer was given another window and one was not is.
    """
    values: dict[str, set[str]] = {}
    kinds: dict[str, list[dict[str, str]]] = {}
    for run in runs:
        settings = {k: json.dumps(v, sort_keys=True) for k, v in settings_of(run, known).items() if v is not None}
        kinds.setdefault(f"{run.record.get('attention')} {run.record.get('kind')}", []).append(settings)
        for name, value in settings.items():
            values.setdefault(name, set()).add(value)
    found = {name for name, seen in values.items() if len(seen) > 1}
    for members in kinds.values():
        for name in values.keys() - found:
            seen_here = {m.get(name) for m in members if name in m or name not in RESOLVED}
            found |= {name} if len(seen_here) > 1 else set()
    front = [name for name in ("kind", "init", "num_hidden_layers") if name in found]
    return (*front, *sorted(found.difference(front)))


def outcome(run: Run, known: Mapping[str, Run]) -> Outcome | None:
    """Accuracy from the predictions where they are stored, else as the record states it; R² as it is stated."""
    import numpy as np

    ancestry = all_ancestors(run.record, known)
    before = [known[name] for key in ancestry if (name := key.removeprefix("run ")) in known]
    times = is_loaded(run), ancestry, any(is_loaded(r) for r in before)
    problem, metrics = problem_of(run.record), run.record.get("metrics") or {}
    if problem == REGRESSION:
        explained, count = finite(metrics.get("r2")), int(eval_part(run).get("rows") or 0)
        return None if explained is None else Outcome(run, explained, count, None, None, *times)
    predictions = run.predictions()
    if predictions is not None and len(predictions["row"]):
        order = np.argsort(predictions["row"], kind="stable")
        correct = predictions["label"] == predictions["predicted"]
        correct = (correct.all(axis=1) if correct.ndim == 2 else correct)[order]
        rows = predictions["row"][order]
        return Outcome(run, float(correct.mean()), len(rows), rows, correct, *times)
    accuracy = finite(metrics.get("exact_match" if problem == MULTI_LABEL else "accuracy"))
    if accuracy is None:
        return None
    rows_stated = eval_part(run).get("rows") or 0
    return Outcome(run, accuracy, int(rows_stated), None, None, *times)


def eval_part(run: Run) -> Mapping[str, Any]:
    return (run.record.get("dataset") or {}).get("eval") or {}


def slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in text.lower()).split()) or "task"


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups of all runs that trained or evaluated a classifier, by task and evaluation rows; benchmarks are not here.

    What is right for a row differs between problem types; so do the rows' fingerprints, and no group mixes them.
    """
    return _groups([run for run in runs if problem_of(run.record) != REGRESSION])


def regression_groups(runs: Sequence[Run]) -> list[Group]:
    """The same of models that predict a number."""
    return _groups([run for run in runs if problem_of(run.record) == REGRESSION])


def _groups(runs: Sequence[Run]) -> list[Group]:
    split: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.record.get("kind") in ("train", "evaluate"):
            key = (str(run.record.get("task")), str(eval_part(run).get("fingerprint")))
            split.setdefault(key, []).append(run)
    tasks = [task for task, _ in split]
    # a run that died before its data was read has no fingerprint: it belongs to its task's only set of rows
    for task, fingerprint in [key for key in split if key[1] == "None"]:
        others = [key for key in split if key[0] == task and key[1] != "None"]
        if len(others) == 1:
            split[others[0]] += split.pop((task, fingerprint))
    groups = []
    known = {str(run.record.get("run_id")): run for run in runs}
    for task, fingerprint in sorted(split):
        several = tasks.count(task) > 1 and sum(t == task for t, _ in split) > 1
        members = split[task, fingerprint]
        rows = next((eval_part(r).get("rows") for r in members if eval_part(r).get("rows")), None)
        of_rows = "ended before the rows were read" if rows is None else f"{rows} rows ({fingerprint[:6]})"
        title = f"{task}, {of_rows}" if several else task
        key_text = slug(f"{task} {fingerprint[:6]}" if several else task)
        groups.append(make_group(task, key_text, title, members, known))
    return groups


def make_group(task: str, key: str, title: str, runs: Sequence[Run], known: Mapping[str, Run]) -> Group:
    fields = varying(runs, known)
    lines: dict[str, Line] = {}
    for run in sorted(runs, key=lambda run: (run.record.get("status") != "ok", is_loaded(run))):
        attention = str(run.record.get("attention"))
        own = settings_of(run, known)
        settings = {name: own[name] for name in fields if own.get(name) is not None}
        result = outcome(run, known) if run.record.get("status") == "ok" else None
        place = json.dumps([attention, settings], sort_keys=True)
        if place not in lines:  # beside the runs that it was meant to stand with, whatever the machine chose for them
            like = [k for k, line in lines.items() if line.attention == attention and agree(line.settings, settings)]
            place = like[0] if like else place
        line = lines.setdefault(place, Line(attention, settings))
        if result is None:
            line.failures.append(run)
        else:
            line.outcomes.append(result)
    for line in lines.values():
        line.only_mechanism = len({other.attention for other in lines.values()}) == 1
        alike = [other.settings for other in lines.values() if other.attention == line.attention]
        differ = [name for name in fields if len({json.dumps(other.get(name)) for other in alike}) > 1]
        told = {*differ, *ALWAYS_TOLD}
        line.apart = {name: line.settings[name] for name in fields if name in told and name in line.settings}
        line.outcomes.sort(key=lambda o: (o.run.record.get("seed") or 0, str(o.run.record.get("run_id"))))
        line.failures.sort(key=lambda r: (r.record.get("seed") or 0, str(r.record.get("run_id"))))
    return Group(task, key, title, sorted(lines.values(), key=line_order), fields)


def agree(full: Mapping[str, Any], partial: Mapping[str, Any]) -> bool:
    return all(full.get(k) == partial.get(k) for k in {*full, *partial} if k in partial or k not in RESOLVED)


def line_order(line: Line) -> tuple[Any, ...]:
    numbers = [(0, v, "") if isinstance(v, int | float) else (1, 0, str(v)) for v in line.settings.values()]
    return (*rank(line.attention), numbers)
