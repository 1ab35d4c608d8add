"""Goals: what a study should reach, written into `results/goals.toml` before its first run and not edited after.

The report of a study reads the file beside its folder, and says of each goal whether it is met, missed, or not shown
(report/verdicts.py). One goal is one table:

    [[goal]]
    study = "sst2-from-dense"         # the study's folder
    task = "sst2"
    attention = "linformer"           # a mechanism, or tfidf or nbsvm
    where = { max_length = 512 }      # optional: other settings of the run. Several rows that fit are all judged
    metric = "accuracy"               # the default; or f1, training_seconds (teacher and distillation included),
                                      # eval_seconds, peak_memory_bytes
    within = 0.02                     # what is asked: exactly one of
    of = { attention = "dense" }      #   at_least = X        the metric itself (accuracy and F1 as fractions)
                                      #   at_most = X
                                      #   within = X          accuracy at most X below that of another row
                                      #   above = X           accuracy at least X above it
                                      #   at_most_times = X   the metric at most X times the other row's
    # `of` names the other row, for the last three: attention, where, and study where it is another one's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longread.errors import UserError

METRICS = ("accuracy", "f1", "training_seconds", "eval_seconds", "peak_memory_bytes")
ABSOLUTE, RELATIVE = ("at_least", "at_most"), ("within", "above", "at_most_times")
OF_ACCURACY = ("within", "above")


@dataclass(frozen=True)
class Selector:
    """Which row of a comparison: an attention, and settings that set it apart from others of its kind."""

    attention: str
    where: Mapping[str, Any] = field(default_factory=dict)
    study: str | None = None  # None: the goal's own

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.where.items())
        return self.attention + (f" ({settings})" if settings else "") + (f" of {self.study}" if self.study else "")


@dataclass(frozen=True)
class Goal:
    study: str
    task: str
    selector: Selector
    metric: str
    asked: str  # at_least, at_most, within, above or at_most_times
    value: float
    other: Selector | None = None  # the row that the last three compare with


def read_goals(path: Path, study: str) -> list[Goal]:
    """The goals of one study, in the file's order; none where there is no file. UserError names goal and key."""
    if not path.exists():
        return []
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not TOML ({error})") from None
    if set(content) - {"goal"} or not isinstance(content.get("goal", []), list):
        raise UserError(f"{path}: holds [[goal]] tables and nothing else, not {', '.join(sorted(content))}")
    goals = [_goal(f"{path}, goal {number}", entry) for number, entry in enumerate(content.get("goal", []), 1)]
    return [goal for goal in goals if goal.study == study]


def _goal(place: str, entry: Mapping[str, Any]) -> Goal:
    known = {"study", "task", "attention", "where", "metric", "of", *ABSOLUTE, *RELATIVE}
    _refuse_unknown(place, entry, known)
    asked = [name for name in (*ABSOLUTE, *RELATIVE) if name in entry]
    if len(asked) != 1:
        raise UserError(f"{place}: exactly one of {', '.join((*ABSOLUTE, *RELATIVE))} is asked, not {asked or 'none'}")
    (name,) = asked
    metric = _text(place, entry, "metric", "accuracy")
    if metric not in METRICS:
        raise UserError(f"{place}: metric {metric!r}; there are {', '.join(METRICS)}")
    if name in OF_ACCURACY and metric != "accuracy":
        raise UserError(f"{place}: {name} is asked of accuracy, not of {metric}")
    if (name in RELATIVE) != ("of" in entry):
        raise UserError(f"{place}: `of` goes with {', '.join(RELATIVE)}, and each of them needs it")
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{place}: {name} is {value!r}, which is no number")
    other = None
    if "of" in entry:
        if not isinstance(entry["of"], dict):
            raise UserError(f"{place}: of is {entry['of']!r}; {{ attention = … }} would be right")
        _refuse_unknown(f"{place}, of", entry["of"], {"attention", "where", "study"})
        other = _selector(f"{place}, of", entry["of"])
    own = {name: entry[name] for name in ("attention", "where") if name in entry}
    study, task = _text(place, entry, "study"), _text(place, entry, "task")
    return Goal(study, task, _selector(place, own), metric, name, float(value), other)


def _selector(place: str, entry: Mapping[str, Any]) -> Selector:
    where = entry.get("where", {})
    if not isinstance(where, dict):
        raise UserError(f"{place}: where is {where!r}; {{ max_length = 512 }} would be right")
    study = _text(place, entry, "study") if "study" in entry else None
    return Selector(_text(place, entry, "attention"), where, study)


def _text(place: str, entry: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = entry.get(name, default)
    if not isinstance(value, str):
        raise UserError(f"{place}: {name} is {'missing' if value is None else repr(value)}; a text is needed")
    return value


def _refuse_unknown(place: str, entry: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise UserError(f"{place}: unknown {', '.join(unknown)}; there are {', '.join(sorted(known))}")
