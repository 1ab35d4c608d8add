"""Which lines of a table are tested against each other, and what the tests said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.groups import Group, Line, Outcome
from longread.report.lineage import draws
from longread.report.statistics import DRAWS_FOR_A_CLAIM, Comparison, compare, holm

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Pair:
    first: Line
    second: Line
    result: Comparison
    corrected: float  # Holm, over all pairs that are shown

    @property
    def significant(self) -> bool:
        return self.result.significant(self.corrected)

    @property
    def over_rows(self) -> bool:
        """Of these very models on other rows: significant. Another training may end otherwise; too few were run."""
        return not self.result.enough_draws and self.result.apart(self.corrected)


@dataclass(frozen=True)
class Pairs:
    """All tests of one group."""

    lines: tuple[Line, ...]
    tested: tuple[Pair, ...]

    def of(self, first: Line, second: Line) -> Pair | None:
        for pair in self.tested:
            if (pair.first is first and pair.second is second) or (pair.first is second and pair.second is first):
                return pair
        return None

    def best_line(self) -> Line | None:
        """The line whose lead over every other is significant; None (nothing is bold) where there is no such line."""
        if len(self.lines) < 2:
            return None
        best = max(self.lines, key=mean_accuracy)
        against = [self.of(best, other) for other in self.lines if other is not best]
        return best if all(pair is not None and pair.significant for pair in against) else None


def mean_accuracy(line: Line) -> float:
    return sum(o.accuracy for o in line.outcomes) / len(line.outcomes)


def differ_in_one(first: Line, second: Line) -> bool:
    """Pairs that answer a question: one thing differs, or one side is a linear model."""
    if first.is_baseline or second.is_baseline:
        return True
    names = {*first.settings, *second.settings}
    changed = sum(first.settings.get(n) != second.settings.get(n) for n in names)
    return bool(changed + (first.attention != second.attention) == 1)


def compare_lines(groups: Sequence[Group]) -> list[Pairs]:
    """Tests, in each group, every pair that differs in one thing, and the best line against all.

    p is corrected by Holm's method over all pairs of all groups: over everything that a report shows.
    """
    found: list[list[tuple[Line, Line, Comparison]]] = []
    for group in groups:
        lines = [line for line in group.done if all(o.correct is not None for o in line.outcomes)]
        best = max(lines, key=mean_accuracy) if lines else None
        found.append([])
        for first, second in combinations(lines, 2):
            if differ_in_one(first, second) or best in (first, second):
                matched = match(first, second)
                if matched is not None:
                    found[-1].append((first, second, compare(*matched)))
    corrected = iter(holm([result.p for members in found for _, _, result in members]))
    tested = [tuple(Pair(*member, next(corrected)) for member in members) for members in found]
    return [Pairs(tuple(group.done), pairs) for group, pairs in zip(groups, tested, strict=True)]


def seed_of(outcome: Outcome) -> int:
    return int(outcome.run.record.get("seed") or 0)


def right_by_row(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers, rising, and whether each was right; only lines with predictions are tested."""
    assert outcome.rows is not None
    assert outcome.correct is not None
    return outcome.rows, outcome.correct


def match(first: Line, second: Line) -> tuple[np.ndarray, np.ndarray, list[int] | None] | None:
    """Correctness [S, R] of both on the rows they share, run beside run, and the draw of each pair of runs.

    The draws are None where both are linear models, which have no chance in their training. None where no rows are
    shared.
    """
    import numpy as np

    sides = side_by_side(first, second)
    right = [[right_by_row(outcome) for outcome in side] for side in sides]
    rows = right[0][0][0]
    for own, _ in [*right[0], *right[1]]:
        rows = np.intersect1d(rows, own)
    if len(rows) < 2:
        return None
    both = [np.stack([correct[np.searchsorted(own, rows)] for own, correct in side]) for side in right]
    trained = [side for line, side in zip((first, second), sides, strict=True) if not line.is_baseline]
    chance = [set[str]().union(*(outcome.chance for outcome in pair)) for pair in zip(*trained, strict=True)]
    return both[0], both[1], draws(chance) if trained else None


def side_by_side(first: Line, second: Line) -> tuple[list[Outcome], list[Outcome]]:
    """As many runs of each, in pairs: equal seeds beside each other, then the remaining ones in order.

    A single run stands beside all of the other's, which makes them one draw; so does a linear model's, which adds no
    draw, because its training has no chance in it.
    """
    a, b = list(first.outcomes), list(second.outcomes)
    if first.is_baseline:
        a = a[:1]
    if second.is_baseline:
        b = b[:1]
    if 1 in (len(a), len(b)):
        return a * (len(b) if len(a) == 1 else 1), b * (len(a) if len(b) == 1 else 1)
    shared = {seed_of(outcome) for outcome in a} & {seed_of(outcome) for outcome in b}
    by_seed = [{seed_of(outcome): outcome for outcome in side if seed_of(outcome) in shared} for side in (a, b)]
    rest = [[outcome for outcome in side if seed_of(outcome) not in shared] for side in (a, b)]
    count = min(map(len, rest))
    a, b = ([found[seed] for seed in sorted(shared)] + left[:count] for found, left in zip(by_seed, rest, strict=True))
    return a, b


def pair_table(pairs: Pairs) -> Table:
    columns = (
        Column("First", numeric=False),
        Column("Second", numeric=False),
        Column("Difference", "points"),
        Column("95 % interval", "points", numeric=False),
        Column("p", "Holm"),
        Column("Draws"),
        Column("Significant?", numeric=False),
    )
    rows = []
    for pair in sorted(pairs.tested, key=lambda p: (not p.significant, p.corrected, -abs(p.result.difference))):
        r = pair.result
        a, b, sign = (pair.first, pair.second, 1) if r.difference >= 0 else (pair.second, pair.first, -1)
        low, high = (r.low, r.high) if sign == 1 else (-r.high, -r.low)
        each = ", ".join(say.signed_percent(sign * d, 2) for d in r.per_seed)
        runs = f"{say.plural(len(r.per_seed), 'pair')} of runs"
        title = f"per seed: {each} points on {say.plural(r.rows, 'row')}; p before correction {r.p:.4g}"
        rows.append(
            Row(
                (
                    Cell(a.name(), a.name()),
                    Cell(b.name(), b.name()),
                    Cell(say.signed_percent(sign * r.difference, 2), sign * r.difference, title),
                    Cell(f"{say.signed_percent(low, 2)} to {say.signed_percent(high, 2)}", low),
                    Cell(say.p_value(pair.corrected), pair.corrected, title),
                    Cell(say.NOTHING if r.draws is None else str(r.draws), r.draws, runs),
                    Cell(answer(pair), int(not pair.significant), bold=pair.significant),
                ),
                "significant" if pair.significant else "",
            )
        )
    return Table(columns, tuple(rows), PAIR_NOTES if rows else ())


def answer(pair: Pair) -> str:
    return "yes" if pair.significant else "over rows" if pair.over_rows else "not shown"


PAIR_NOTES = (
    "Each seed of one against the same seed of the other, on the same rows: an exact McNemar test. The seeds' p "
    "values are pooled by Rüger's rule at the median (valid whatever their dependence; a seed that points the other "
    "way counts as 1), then corrected by Holm's method over all pairs of this report.",
    "The interval holds both sources of chance: rows (normal, per-row differences) and independent draws (Student's "
    "t), added in squares; with one draw, rows alone. It is not widened for the number of pairs.",
    f"Significant: at least {DRAWS_FOR_A_CLAIM} independent draws, corrected p < .05 and an interval without 0. “Over "
    "rows”: the same with fewer draws: these models differ on such rows, another training may end otherwise. “Not "
    "shown” does not mean equal. Runs that share a teacher, a distillation or trained first weights are one draw. A "
    "linear model has no chance in its training: its one run stands beside every seed.",
)


def matrix_table(pairs: Pairs) -> Table | None:
    """Row minus column in points, for a glance; only where it fits and says more than the list does."""
    lines = [line for line in pairs.lines if any(line in (p.first, p.second) for p in pairs.tested)]
    if not 3 <= len(lines) <= 10:
        return None
    lines.sort(key=mean_accuracy, reverse=True)
    columns = (
        Column("Row minus column", "points", numeric=False),
        *(Column(line.label()) for line in lines),
    )
    rows = []
    for line in lines:
        cells = [Cell(line.name(), None)]
        for other in lines:
            pair = pairs.of(line, other) if line is not other else None
            if pair is None:
                cells.append(Cell("·" if line is other else say.NOTHING, None))
                continue
            difference = pair.result.difference * (1 if pair.first is line else -1)
            word = {"yes": "significant", "over rows": "significant over rows"}.get(answer(pair), "not shown")
            title = f"{line.name()} minus {other.name()}: {say.signed_percent(difference, 2)} points, "
            title += f"p {say.p_value(pair.corrected)} after Holm, {word}"
            cells.append(Cell(say.signed_percent(difference), difference, title, bold=pair.significant))
        rows.append(Row(tuple(cells), "", line.attention))
    note = (
        f"By mean accuracy. Bold: significant, that is at least {DRAWS_FOR_A_CLAIM} independent draws, p < .05 after "
    )
    note += "Holm's correction and an interval without 0. Plain: not shown, which does not mean equal."
    return Table(columns, tuple(rows), (note,))
