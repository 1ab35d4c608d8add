"""What became of each goal, by how much, and how sure that is.

Met: also the unfavourable end of the interval reaches it. Not shown: the measured value does, the interval's end does
not. Missed: the measured value does not. An accuracy is judged by its 95 % interval; a distance from another row by a
one-sided 95 % bound on the same rows (non-inferiority); times and memory by their runs' spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.goals import Goal, Selector
from longread.report.grouping import eval_part, settings_of
from longread.report.groups import Group, Line
from longread.report.measures import LOADED, whole_training
from longread.report.naming import full_name
from longread.report.notes import length_of
from longread.report.pairs import match
from longread.report.statistics import non_inferiority, standard_error, student

MET, NOT_SHOWN, MISSED, OPEN = "met", "not shown", "missed", "open"
Elsewhere = Callable[[str], Sequence[Group]]  # the groups of another study; empty where it has no records


@dataclass(frozen=True)
class Measured:
    """A value and the interval that it is judged by; `note`: what the interval is over, or lacks."""

    value: float
    low: float
    high: float
    note: str


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    row: str  # the row that was judged
    word: str  # met, not shown, missed or open
    measured: Measured | None = None
    why: str = ""  # of an open one


def judge(goals: Sequence[Goal], groups: Sequence[Group], elsewhere: Elsewhere) -> list[Verdict]:
    """A verdict for each row that a goal is about; one that says why where there is none."""
    found: list[Verdict] = []
    for goal in goals:
        members = [group for group in groups if group.task == goal.task]
        rows = [(group, line) for group in members for line in fitting(group.lines, goal.selector)]
        if not rows:
            found.append(Verdict(goal, str(goal.selector), OPEN, why="no run of it is recorded"))
        found += [judge_row(goal, group, line, elsewhere) for group, line in rows]
    return found


def judge_row(goal: Goal, group: Group, line: Line, elsewhere: Elsewhere) -> Verdict:
    def left_open(why: str) -> Verdict:
        return Verdict(goal, full_name(line), OPEN, why=why)

    if not line.outcomes:
        return left_open("its runs failed")
    if goal.metric.endswith("_seconds") and loaded(line, goal):
        return left_open(f"its times are not to be quoted ({LOADED})")
    if goal.other is None:
        measured = accuracy_of(line) if goal.metric == "accuracy" else spread_of(values_of(line, goal.metric), line)
        return verdict(goal, line, measured) if measured else left_open(f"no {goal.metric} is recorded")
    others = other_rows(goal.other, group, elsewhere)
    if len(others) != 1:
        return left_open(f"{len(others) or 'no'} rows fit {goal.other} on the same evaluation rows; one is needed")
    measured = against(goal, line, others[0])
    return verdict(goal, line, measured) if measured else left_open("the two cannot be compared row by row")


def verdict(goal: Goal, line: Line, measured: Measured) -> Verdict:
    floor = goal.asked in ("at_least", "above", "within")
    asked = -goal.value if goal.asked == "within" else goal.value
    reached = measured.value >= asked if floor else measured.value <= asked
    sure = measured.low >= asked if floor else measured.high <= asked
    return Verdict(goal, full_name(line), MET if sure else NOT_SHOWN if reached else MISSED, measured)


def fitting(lines: Sequence[Line], selector: Selector) -> list[Line]:
    """The rows that a selector names."""
    found = []
    for line in lines:
        run = line.outcomes[0].run if line.outcomes else line.failures[0]
        settings = settings_of(run) | ({"max_length": length_of(line)} if line.outcomes else {})
        if line.attention == selector.attention and all(settings.get(k) == v for k, v in selector.where.items()):
            found.append(line)
    return found


def other_rows(selector: Selector, group: Group, elsewhere: Elsewhere) -> list[Line]:
    """Of the same group, or of the same evaluation rows of the same task in another study."""
    groups = [group]
    if selector.study is not None:
        rows = eval_part(group.runs[0]).get("fingerprint")
        groups = [g for g in elsewhere(selector.study) if g.task == group.task]
        groups = [g for g in groups if rows is not None and eval_part(g.runs[0]).get("fingerprint") == rows]
    return [line for g in groups for line in fitting(g.lines, selector) if line.outcomes]


def loaded(line: Line, goal: Goal) -> bool:
    return line.trained_under_load if goal.metric == "training_seconds" else line.timed_under_load


def accuracy_of(line: Line) -> Measured:
    value, interval = line.accuracy
    return Measured(value, interval.low, interval.high, f"over {interval.over}")


def values_of(line: Line, metric: str) -> list[float]:
    if metric == "training_seconds":
        found = [whole_training(o) for o in line.quiet]
    elif metric == "f1":
        found = [say.finite((o.run.record.get("metrics") or {}).get("f1")) for o in line.outcomes]
    else:
        found = [say.finite(o.run.record.get(metric)) for o in line.quiet]
    return [value for value in found if value is not None]


def spread_of(values: Sequence[float], line: Line) -> Measured | None:
    """Mean and Student's interval over the independent draws; of one draw the value stands for itself."""
    if not values:
        return None
    mean = sum(values) / len(values)
    draws = line.draws if len(values) == len(line.outcomes) else [0] * len(values)
    count = len(set(draws))
    half = student(count) * standard_error(values, draws)
    return Measured(mean, mean - half, mean + half, f"over {count} draws" if count > 1 else "one draw, no interval")


def against(goal: Goal, line: Line, other: Line) -> Measured | None:
    if goal.asked == "at_most_times":
        own, theirs = values_of(line, goal.metric), values_of(other, goal.metric)
        if not own or not theirs or min(theirs) <= 0 or (goal.metric.endswith("_seconds") and loaded(other, goal)):
            return None
        ratio = sum(own) / len(own) / (sum(theirs) / len(theirs))
        return Measured(ratio, min(own) / max(theirs), max(own) / min(theirs), "range of the runs")
    if any(o.correct is None for o in (*line.outcomes, *other.outcomes)):
        return None
    matched = match(line, other)
    if matched is None:
        return None
    first, second, draws = matched
    result = non_inferiority(first, second, goal.value, draws if draws is not None else [0] * len(first))
    over = f"over rows and {result.draws} draws" if result.draws > 1 else "over rows"
    return Measured(result.difference, result.lower, 1.0, f"one-sided, {over}")


def goal_text(goal: Goal) -> str:
    """`accuracy within 2 points of dense`."""
    fraction = goal.metric in ("accuracy", "f1")
    noun = goal.metric.replace("_", " ").removesuffix(" seconds").removesuffix(" bytes").replace("eval", "inference")
    value = f"{100 * goal.value:g}" if fraction else f"{goal.value:,g}"
    unit = " %" if fraction else " s" if goal.metric.endswith("_seconds") else " bytes"
    if goal.asked in ("at_least", "at_most"):
        return f"{noun} {goal.asked.replace('_', ' ')} {value}{unit}"
    if goal.asked == "at_most_times":
        return f"{noun} at most {goal.value:g} × that of {goal.other}"
    points = f"{value} point{'' if value == '1' else 's'}"
    place = f"within {points} of" if goal.asked == "within" else f"at least {points} above"
    return f"{noun} {place} {goal.other}"


def goal_table(verdicts: Sequence[Verdict]) -> Table:
    columns = tuple(
        Column(name, numeric=False) for name in ("Goal", "Task", "Row", "Measured", "95 % interval", "Verdict")
    )
    rows = []
    for v in verdicts:
        measured, interval = (say.NOTHING, v.why) if v.measured is None else texts_of(v.goal, v.measured)
        cells = [v.goal.task, v.row, measured, interval]
        rows.append(Row((Cell(goal_text(v.goal)), *(Cell(c) for c in cells), Cell(v.word, bold=v.word == MET))))
    return Table(columns, tuple(rows), NOTES)


NOTES = (
    "Met: the unfavourable end of the interval reaches the goal too. Not shown: the measured value reaches it, the "
    "interval's end does not. Missed: the measured value does not. Open: nothing to judge by.",
    "“Within” and “above” are judged by the one-sided 95 % bound of the difference on the same rows (non-inferiority).",
)


def texts_of(goal: Goal, measured: Measured) -> tuple[str, str]:
    """The measured value with its distance from the goal, and its interval."""
    if goal.asked in ("within", "above"):
        missing = measured.value + goal.value if goal.asked == "within" else measured.value - goal.value
        text = f"{say.signed_percent(measured.value, 2)} points ({say.signed_percent(missing, 2)} to the goal)"
        return text, f"from {say.signed_percent(measured.low, 2)}, {measured.note}"
    if goal.asked == "at_most_times":
        return f"{measured.value:.2f} ×", f"{measured.low:.2f} – {measured.high:.2f}, {measured.note}"
    if goal.metric in ("accuracy", "f1"):
        text = f"{say.percent(measured.value, 2)} % ({say.signed_percent(measured.value - goal.value, 2)} points)"
        return text, f"{say.percent(measured.low, 2)} – {say.percent(measured.high, 2)}, {measured.note}"
    text = f"{say.significant(measured.value)} ({measured.value / goal.value:.2f} × the goal)"
    return text, f"{say.significant(measured.low)} – {say.significant(measured.high)}, {measured.note}"


def summary(verdicts: Sequence[Verdict]) -> str:
    """`2 of 3 goals met, 1 not shown.`"""
    counts = {word: sum(v.word == word for v in verdicts) for word in (MET, NOT_SHOWN, MISSED, OPEN)}
    rest = [f"{count} {word}" for word, count in counts.items() if count and word != MET]
    met = f"{counts[MET]} of {say.plural(len(verdicts), 'goal')} met"
    return say.listing([met, *rest]) + ". Goals are written into goals.toml before a study's first run."
