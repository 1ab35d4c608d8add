"""Rows of the published studies, by name: what the tables and numbers of the documents are made from.

A row is named `ATTENTION setting=value …`, as `performer num_hidden_layers=3`; a value may be a pattern
(`init=*longer`). `STUDY/ATTENTION …` is a row of another study than the one at hand.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from longread.records import load_runs
from longread.records.store import RECORDS
from longread.report.goals import read_goals
from longread.report.grouping import eval_part, group_runs, settings_of
from longread.report.groups import Group, Line
from longread.report.lengths import Bench, Series, benches
from longread.report.pairs import match
from longread.report.statistics import Comparison, compare
from longread.report.verdicts import Verdict, judge

RESULTS = Path(__file__).parent
PEERS = "benchmarks"


class NoSuchRowError(Exception):
    """A document names a study, a row or a measure that no record has; the message says which."""


@cache
def groups(study: str) -> tuple[Group, ...]:
    if not (RESULTS / study / RECORDS).exists():
        raise NoSuchRowError(f"results/{study} has no records")
    return tuple(group_runs(load_runs(RESULTS / study)))


def studies() -> list[str]:
    """Every folder of run records; results/benchmarks holds another kind."""
    return sorted(path.parent.name for path in RESULTS.glob(f"*/{RECORDS}") if path.parent.name != PEERS)


def verdicts(study: str) -> list[Verdict]:
    """What became of a study's goals."""
    return judge(read_goals(RESULTS / "goals.toml", study), groups(study), groups)


@cache
def bench() -> Bench:
    """The measurements by length; those of the processor with the most of them, where there are several."""
    return max(benches(load_runs(RESULTS / "lengths")), key=lambda bench: len(bench.series))


def series(attention: str) -> Series:
    for one in bench().series:
        if one.attention == attention:
            return one
    raise NoSuchRowError(f"results/lengths has no measurement of {attention!r}")


def row(study: str, name: str) -> Line:
    """The one row of a study that has this name."""
    words = name.split()
    study, attention = words[0].split("/") if "/" in words[0] else (study, words[0])
    wanted = dict(word.split("=", 1) for word in words[1:])
    found = [
        line
        for group in groups(study)
        for line in group.done
        if line.attention == attention and all(fits(line, group, k, v) for k, v in wanted.items())
    ]
    if len(found) != 1:
        raise NoSuchRowError(f"{len(found)} rows of results/{study} fit {name!r}; one is needed")
    return found[0]


def fits(line: Line, group: Group, setting: str, pattern: str) -> bool:
    value = group.task if setting == "task" else settings_of(line.outcomes[0].run).get(setting)
    return fnmatchcase(re.sub(r"\.0$", "", str(value)), pattern)


def compared(first: Line, second: Line) -> Comparison:
    """First minus second on the evaluation rows that both have."""
    read = {eval_part(line.outcomes[0].run).get("fingerprint") for line in (first, second)}
    matched = match(first, second) if len(read) == 1 else None
    if matched is None:
        raise NoSuchRowError(f"{first.name()} and {second.name()} have no evaluation rows in common")
    return compare(*matched)
