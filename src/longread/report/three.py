"""Three models to choose from: the most accurate, the fastest within one point of it, and the smallest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.groups import Group, Line
from longread.report.measures import PARAMETERS, average
from longread.report.naming import full_name
from longread.report.pairs import mean_accuracy
from longread.report.recommend import WITHIN, behind, chance, quiet_seconds
from longread.report.statistics import NonInferiority
from longread.report.tables import accuracy_decimals

POINT = f"{100 * WITHIN:g} point"
MOST_ACCURATE, FASTEST, SMALLEST = "most accurate", f"fastest within {POINT} of it", "smallest"


@dataclass(frozen=True)
class Three:
    """What is recommended, each with its reason; the same line may stand for several. faster: what may be nearer."""

    chosen: tuple[tuple[str, Line], ...]
    best: Line
    against: dict[int, NonInferiority | None]  # how far each line is behind the best, by its id()
    of: int
    faster: tuple[Line, ...]


def choose_three(group: Group) -> Three | None:
    """None where nothing is better than chance, or where there is nothing to choose from.

    Fastest are those alone that are *shown* to be within a point; the smallest is any that is better than chance.
    """
    trained = [line for line in group.done if not any(o.run.record.get("head_is_untrained") for o in line.outcomes)]
    able = [line for line in trained if line.accuracy[1].low > chance(group)]
    if len(trained) < 2 or not able:
        return None
    # Of those that are equally accurate, the cheapest: fewest seconds, then fewest parameters.
    best = max(trained, key=lambda line: (mean_accuracy(line), -cost(quiet_seconds(line)), -cost(parameters(line))))
    against = {id(line): behind(line, best) for line in trained if line is not best}

    def shown(line: Line) -> bool:
        found = against.get(id(line))
        return line is best or (found is not None and found.shown)

    seconds = {id(line): value for line in able if (value := quiet_seconds(line)) is not None}
    timed = [line for line in able if id(line) in seconds]
    near = [line for line in timed if shown(line)]
    fastest = min(near, key=lambda line: seconds[id(line)]) if id(best) in seconds else None
    sized = [line for line in able if parameters(line) is not None]
    smallest = min(sized, key=lambda line: (cost(parameters(line)), -mean_accuracy(line))) if sized else None
    closer = [line for line in timed if not shown(line) and mean_accuracy(line) > mean_accuracy(best) - WITHIN]
    faster = [x for x in closer if fastest is not None and seconds[id(x)] < seconds[id(fastest)]]
    chosen = ((MOST_ACCURATE, best), (FASTEST, fastest), (SMALLEST, smallest))
    found = tuple((what, line) for what, line in chosen if line is not None)
    return Three(found, best, against, len(trained), tuple(faster))


def three_table(group: Group) -> Table | None:
    """None as `choose_three`."""
    three = choose_three(group)
    if three is None:
        return None
    notes = [
        "Behind: of the accuracy, over the same rows; in brackets at worst, with 95 % confidence (one-sided). "
        f"Within {POINT}: “yes” where even the worst is; “not shown” does not mean that it is not.",
        f"The most accurate of {three.of} was picked on these rows: expect a little less of it on others.",
    ]
    if FASTEST not in dict(three.chosen):
        notes.append(f"The {FASTEST}: not said. The machine had other work (†), or no time is recorded.")
    if three.faster:
        names = say.listing(full_name(line) for line in three.faster)
        notes.append(f"Faster, and within {POINT} by its mean, but not shown to be: {names}. More rows would tell.")
    rows = tuple(row(what, line, three.against.get(id(line)), line is three.best) for what, line in three.chosen)
    return Table(columns(group), rows, tuple(notes))


def columns(group: Group) -> tuple[Column, ...]:
    return (
        Column("Recommended", numeric=False),
        Column("Model", numeric=False),
        Column(group.measure.capitalize(), "%"),
        Column("95 % interval", "%", numeric=False),
        Column("Behind, and at worst", "points", numeric=False),
        Column(f"Within {POINT}", numeric=False),
        Column("Inference", "s"),
        Column("Parameters"),
    )


def row(what: str, line: Line, found: NonInferiority | None, is_best: bool) -> Row:
    mean, interval = line.accuracy
    decimals = accuracy_decimals(line)
    time, size = quiet_seconds(line), parameters(line)
    low, high = say.percent(interval.low, decimals), say.percent(interval.high, decimals)
    apart = Cell(say.NOTHING, None)
    if found is not None:
        told = f"{say.signed_percent(found.difference, 2)} ({say.signed_percent(found.lower, 2)})"
        apart = Cell(told, found.difference)
    within = say.NOTHING if is_best else "yes" if found is not None and found.shown else "not shown"
    return Row(
        (
            Cell(what, what),
            Cell(full_name(line), full_name(line)),
            Cell(say.percent(mean, decimals), mean),
            Cell(f"{low} – {high}", interval.low, f"over {interval.over}"),
            apart,
            Cell(within, within),
            Cell(say.NOTHING if time is None else say.significant(time, 2), time),
            Cell(say.NOTHING if size is None else f"{size:,.0f}", size),
        ),
        "",
        line.attention,
    )


def cost(value: float | None) -> float:
    """What is not known is not cheap."""
    return math.inf if value is None else value


def parameters(line: Line) -> float | None:
    return average(line.outcomes, PARAMETERS)[0]
