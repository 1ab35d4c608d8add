"""What a reader came for: which row to take, and how sure that is."""

from __future__ import annotations

from longread.problems import MULTI_LABEL
from longread.report import numbers as say
from longread.report.groups import Group, Line
from longread.report.measures import INFERENCE, average
from longread.report.naming import full_name
from longread.report.pairs import match
from longread.report.statistics import DRAWS_FOR_A_CLAIM, NonInferiority, non_inferiority
from longread.report.tables import accuracy_decimals

WITHIN = 0.01  # an accuracy this much lower is worth a faster model


def recommendation(group: Group) -> str:
    """The fastest row at inference of those that are shown to be within a point of the most accurate; its uncertainty.

    Empty where there is nothing to choose from. Times that are not to be quoted choose nothing.
    """
    trained = [line for line in group.done if not any(o.run.record.get("head_is_untrained") for o in line.outcomes)]
    if len(trained) < 2:
        return ""
    best = max(trained, key=lambda line: line.accuracy[0])
    near = {id(line): shown for line in trained if line is not best and (shown := distance(line, best)) is not None}
    seconds = {id(line): value for line in trained if (value := quiet_seconds(line)) is not None}
    timed = [line for line in trained if id(line) in seconds and (line is best or id(line) in near)]
    chosen = min(timed, key=lambda line: seconds[id(line)]) if id(best) in seconds else best
    mean, interval = chosen.accuracy
    if interval.low <= chance(group):
        return ""  # nothing here tells the classes apart
    decimals = accuracy_decimals(chosen)
    low, high = say.percent(interval.low, decimals), say.percent(interval.high, decimals)
    text = (
        f"{full_name(chosen)}: {group.measure} {say.percent(mean, decimals)} % ({low} – {high}, over {interval.over})"
    )
    if id(chosen) in seconds:
        text += f", inference {say.seconds(seconds[id(chosen)])}"
    parts = [text + ".", reason(chosen, best, near, id(best) in seconds)]
    if not chosen.is_baseline and interval.draws < DRAWS_FOR_A_CLAIM:
        count = "One draw" if interval.draws == 1 else "Two draws"
        parts.append(f"{count} only: another training may order the rows otherwise.")
    return " ".join(parts)


def reason(chosen: Line, best: Line, near: dict[int, NonInferiority], timed: bool) -> str:
    if chosen is not best:
        result = near[id(chosen)]
        behind = f"{say.signed_percent(result.difference, 2)} points, at worst {say.signed_percent(result.lower, 2)}"
        name = f"{full_name(best)}, {say.percent(best.accuracy[0], accuracy_decimals(best))} %"
        return (
            f"It is the fastest at inference of what is shown to be within {100 * WITHIN:g} point of the most accurate "
            f"({name}): {behind} with 95 % confidence, over {'rows' if result.draws < 2 else 'rows and draws'}."
        )
    if not timed:
        return "The most accurate. Its time was taken beside other work, so that only accuracy decides here."
    if near:
        return f"The most accurate, and faster than all that is shown to be within {100 * WITHIN:g} point of it."
    return f"The most accurate; nothing else is shown to be within {100 * WITHIN:g} point of it."


def chance(group: Group) -> float:
    """Accuracy of guessing; 0 where the classes are not recorded, and where a row has several."""
    if group.problem_type == MULTI_LABEL:
        return 0.0
    names = [(run.record.get("dataset") or {}).get("label_names") or () for run in group.runs]
    return 1 / max(map(len, names)) if any(names) else 0.0


def distance(line: Line, best: Line) -> NonInferiority | None:
    """By how much a row is behind the best, if that is shown to be at most WITHIN; else None."""
    result = behind(line, best)
    return result if result is not None and result.shown else None


def behind(line: Line, best: Line) -> NonInferiority | None:
    """By how much, on the same rows; None where there are no predictions of both."""
    if any(o.correct is None for o in (*line.outcomes, *best.outcomes)):
        return None
    matched = match(line, best)
    if matched is None:
        return None
    first, second, draws = matched
    return non_inferiority(first, second, WITHIN, draws if draws is not None else [0] * len(first))


def quiet_seconds(line: Line) -> float | None:
    return None if line.timed_under_load else average(line.quiet, INFERENCE)[0]
