"""Two folders of run records beside each other: what became better, what worse, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.document import Block, Report, Section, environments
from longread.report.grouping import RESOLVED, eval_part, group_runs, regression_groups
from longread.report.grouping import settings_of as settings_of_run
from longread.report.groups import Group, Line, setting_text
from longread.report.measures import INFERENCE, LOADED, MEMORY, Measure, average, timed_outcomes
from longread.report.mechanisms import learn
from longread.report.naming import full_name
from longread.report.pairs import match
from longread.report.runcards import run_cards
from longread.report.statistics import Comparison, compare, holm
from longread.report.tables import accuracy_decimals

if TYPE_CHECKING:
    from longread.records import Run

# where and from what path a run was made, not what it is
NOT_COMPARED = RESOLVED | {"kind"}
NOTES = (
    "Rows of the two folders stand beside each other where attention and settings are the same, or where an attention "
    "has one row in each; then the last column says what differs.",
    "Difference: second minus first, on the same evaluation rows, with its 95 % interval; p by Holm's method over all "
    "of this page. Better and worse need three independent draws; “over rows” is the same with fewer.",
    f"Times: second divided by first, and so of memory; not said where a machine had other work ({LOADED}) or the two "
    "were measured on different ones.",
)


@dataclass(frozen=True)
class Beside:
    """One row of the table: the same thing in both folders. `result` None: no rows that both were evaluated on."""

    first: Line
    second: Line
    result: Comparison | None


def against(first: Sequence[Run], second: Sequence[Run], names: tuple[str, str]) -> Report:
    """A report of what changed from the first folder's runs to the second's; a pure function of the records."""
    learn([*first, *second])
    sections, lone = [], []
    groups = [grouped(first), grouped(second)]
    shared = [key for key in groups[0] if key in groups[1]]
    found = [beside(groups[0][key], groups[1][key]) for key in shared]
    tested = [row for rows in found for row in rows if row.result is not None]
    corrected = dict(zip(map(id, tested), holm([r.result.p for r in tested if r.result]), strict=True))
    for key, rows in zip(shared, found, strict=True):
        sections.append(section(groups[0][key], groups[1][key], rows, corrected))
    for side, other, name in ((0, 1, names[0]), (1, 0, names[1])):
        tasks = {group.task for key, group in groups[side].items() if key not in groups[other]}
        lone += [f"{task} in {name}" for task in sorted(tasks)]
    text = f"First: {names[0]}, {say.plural(len(first), 'run')}. Second: {names[1]}, {say.plural(len(second), 'run')}."
    if lone:
        text += f" On rows that the other folder has no run on: {say.listing(lone)}."
    if not shared:
        text += " No task was evaluated on the same rows in both: there is nothing to compare."
    of_both = [group for side in groups for group in side.values()]
    return Report(
        "longread: two folders", text, sections, run_cards([*first, *second], of_both), environments([*first, *second])
    )


def grouped(runs: Sequence[Run]) -> dict[tuple[str, str], Group]:
    """By task and fingerprint of the evaluation rows."""
    found = {}
    for group in [*group_runs(runs), *regression_groups(runs)]:
        prints = [str(eval_part(run).get("fingerprint")) for run in group.runs if eval_part(run).get("fingerprint")]
        if prints and group.done:
            found[group.task, prints[0]] = group
    return found


def beside(first: Group, second: Group) -> list[Beside]:
    """Lines with equal settings, then what is left where an attention has one line on each side."""
    left = [list(first.done), list(second.done)]
    pairs = []
    for line in first.done:
        equal = [other for other in left[1] if other.attention == line.attention and not changes(line, other)]
        if equal:
            pairs.append((line, equal[0]))
            left[0].remove(line)
            left[1].remove(equal[0])
    for line in list(left[0]):
        alone = [[o for o in side if o.attention == line.attention] for side in left]
        if [len(side) for side in alone] == [1, 1]:
            pairs.append((line, alone[1][0]))
            left[0].remove(line)
            left[1].remove(alone[1][0])
    order = {id(line): place for place, line in enumerate(first.done)}
    pairs.sort(key=lambda pair: order[id(pair[0])])
    return [Beside(a, b, tested(b, a)) for a, b in pairs]


def tested(second: Line, first: Line) -> Comparison | None:
    if any(o.correct is None for o in (*first.outcomes, *second.outcomes)):
        return None
    matched = match(second, first)
    return None if matched is None else compare(*matched)


def own_settings(line: Line) -> dict[str, Any]:
    found = settings_of_run(line.outcomes[0].run)
    return {name: value for name, value in found.items() if name not in NOT_COMPARED and value is not None}


def changes(first: Line, second: Line) -> dict[str, Any]:
    """Settings that the second line has otherwise; those that it no longer has as None."""
    a, b = own_settings(first), own_settings(second)
    differ = [n for n in {**a, **b} if json.dumps(a.get(n), sort_keys=True) != json.dumps(b.get(n), sort_keys=True)]
    return {name: b.get(name) for name in sorted(differ)}


def verdict(row: Beside, corrected: float | None) -> str:
    if row.result is None or corrected is None:
        return "not tested"
    if row.result.difference == 0 and row.result.low == row.result.high:
        return "the same answers"
    if not row.result.apart(corrected):
        return "no difference shown"
    word = "better" if row.result.difference > 0 else "worse"
    return word if row.result.enough_draws else f"{word} over rows"


def section(first: Group, second: Group, rows: Sequence[Beside], corrected: dict[int, float]) -> Section:
    columns = (
        Column("Attention", numeric=False),
        Column(f"First, {first.measure}", "%"),
        Column(f"Second, {first.measure}", "%"),
        Column("Difference", "points", numeric=False),
        Column("Verdict", numeric=False),
        Column("Inference", "times"),
        Column("Memory", "times"),
        Column("What differs", numeric=False),
    )
    made, words = [], []
    for row in rows:
        words.append(verdict(row, corrected.get(id(row))))
        made.append(Row(cells(row, words[-1], corrected.get(id(row))), color=row.first.attention))
    text = f"{say.plural(len(rows), 'model')} in both folders"
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    text += ": " + ", ".join(f"{count} {word}" for word, count in counts.items()) + "." if counts else "."
    known = {id(line) for row in rows for line in (row.first, row.second)}
    for name, group in (("first", first), ("second", second)):
        alone = [full_name(line) for line in group.done if id(line) not in known]
        text += f" Only in the {name}: {say.listing(alone)}." if alone else ""
    blocks = [Block("Side by side", Table(columns, tuple(made), NOTES))] if made else []
    return Section(first.key, first.title, text, blocks=blocks)


def cells(row: Beside, word: str, p: float | None) -> tuple[Cell, ...]:
    decimals = [accuracy_decimals(line) for line in (row.first, row.second)]
    means = [line.accuracy[0] for line in (row.first, row.second)]
    values = [Cell(say.percent(mean, d), mean) for mean, d in zip(means, decimals, strict=True)]
    result = row.result
    if result is None:
        difference = Cell(say.signed_percent(means[1] - means[0], 2), means[1] - means[0])
    else:
        ends = f"{say.signed_percent(result.low, 2)} to {say.signed_percent(result.high, 2)}"
        told = f"{say.plural(result.rows, 'row')}; p {say.p_value(p)}" if p is not None else ""
        difference = Cell(f"{say.signed_percent(result.difference, 2)} ({ends})", result.difference, told)
    what = ", ".join(
        f"without {name.replace('_', ' ')}" if value is None else setting_text(name, value)
        for name, value in changes(row.first, row.second).items()
    )
    said = Cell(word, word, bold=word in ("better", "worse"))
    name, rest = Cell(row.first.name(), row.first.name()), Cell(what or "nothing", what)
    return (name, *values, difference, said, ratio(row, INFERENCE), ratio(row, MEMORY), rest)


def ratio(row: Beside, measure: Measure) -> Cell:
    """Second over first; a dash where a time is not to be quoted or the machines differ."""
    lines = (row.first, row.second)
    machines = {machine(line) for line in lines}
    if measure.timed and (any(line.timed_under_load for line in lines) or len(machines) > 1):
        return Cell(f"{say.NOTHING}{LOADED}" if len(machines) == 1 else say.NOTHING)
    values = [average(timed_outcomes(line, measure), measure)[0] for line in lines]
    if not values[0] or values[1] is None:
        return Cell(say.NOTHING)
    return Cell(f"{values[1] / values[0]:.2f}", values[1] / values[0])


def machine(line: Line) -> str:
    found = line.outcomes[0].run.record.get("environment") or {}
    return json.dumps([found.get(name) for name in ("device", "processor", "threads", "precision")])
