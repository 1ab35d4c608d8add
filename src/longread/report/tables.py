"""The comparison as plain data, narrow and whole: Markdown, the page and the terminal print the same cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.groups import Group, Line, setting_text, value_text
from longread.report.measures import Measure, all_measures, main_measures, measure_cell, measure_decimals
from longread.report.naming import dense_here, train_part
from longread.report.notes import comparison_notes

if TYPE_CHECKING:
    from longread.report.pairs import Pairs

STATUS = {
    "diverged": "diverged",
    "out_of_memory": "out of memory",
    "interrupted": "interrupted",
    "error": "failed",
    "ok": "no result recorded",
}
LONGEST_ERROR = 90  # characters
ATTENTION = Column("Attention", numeric=False)
INTERVAL = (Column("95 % interval", "%", numeric=False), Column("over", numeric=False))
WHAT_RAN = Column("What ran", "share of tokens", numeric=False, terminal=False)
FIELD_COLUMNS = {"num_hidden_layers": Column("Layers"), "init": Column("Init", numeric=False)}


def comparison(group: Group, pairs: Pairs) -> Table:
    """What a choice is made by, in eight columns: one row a configuration, its runs together; a run that failed is a
    row of its own."""
    best = pairs.best_line()
    measures = main_measures(group)

    def front(line: Line) -> list[Cell]:
        return [name_cell(line, line.name())]

    columns = (ATTENTION, *share_columns(group), *(measure.column for measure in measures), WHAT_RAN)
    return Table(columns, rows_of(group, best, front, measures, len(columns)), comparison_notes(group, best))


def all_columns(group: Group, pairs: Pairs) -> Table:
    """Every column there is, each setting that varies in one of its own."""
    fields, measures = field_columns(group), all_measures(group)

    def front(line: Line) -> list[Cell]:
        return [name_cell(line, line.title()), *(field_cell(line, name) for name, _ in fields)]

    shares = share_columns(group)
    columns = (ATTENTION, *(c for _, c in fields), *shares, *(measure.column for measure in measures), WHAT_RAN)
    return Table(columns, rows_of(group, pairs.best_line(), front, measures, len(columns)))


def share_columns(group: Group) -> tuple[Column, ...]:
    """Of what `accuracy_cells` gives."""
    return (Column(group.measure.capitalize(), "%"), *INTERVAL)


def rows_of(
    group: Group,
    best: Line | None,
    front: Callable[[Line], list[Cell]],
    measures: Sequence[Measure],
    width: int,
    score: Callable[[Line, bool], list[Cell]] | None = None,
) -> tuple[Row, ...]:
    """Linear models last, then the runs that failed. score: cells behind the front; None for `accuracy_cells`."""
    score = score or accuracy_cells
    decimals = [measure_decimals(group, measure) for measure in measures]
    rows: list[Row] = []
    for line in sorted(group.done, key=lambda line: line.is_baseline):
        body = [measure_cell(line, m, d) for m, d in zip(measures, decimals, strict=True)]
        cells = (*front(line), *score(line, line is best), *body, Cell(effective(line), effective(line)))
        rows.append(Row(cells, "baseline" if line.is_baseline else "", line.attention))
    for line in group.lines:
        for run in line.failures:
            status = STATUS.get(str(run.record.get("status")), str(run.record.get("status")))
            error = " ".join(str(run.record.get("error") or "").split())
            text = f"seed {run.record.get('seed')}: {status}" + (f" ({shorten(error)})" if error else "")
            names = front(line)
            cells = (*names, Cell(text, None, error, span=width - len(names)))
            rows.append(Row(cells, "failed", line.attention))
    return tuple(rows)


def field_columns(group: Group) -> list[tuple[str, Column]]:
    columns = []
    for name in group.fields:
        values = [line.settings[name] for line in group.lines if name in line.settings]
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        title = name.replace("_", " ").capitalize()
        columns.append((name, FIELD_COLUMNS.get(name, Column(title, numeric=numeric))))
    return columns


def name_cell(line: Line, name: str) -> Cell:
    """A mechanism that was dense on all its tokens says so beside its name."""
    return Cell(f"{name}, dense here" if dense_here(line) else name, line.attention)


def field_cell(line: Line, name: str) -> Cell:
    if name not in line.settings:
        return Cell(say.NOTHING, None)
    value = line.settings[name]
    if name == "train_rows":
        part = next((found for o in line.outcomes if (found := train_part(o.run)) is not None), None)
        return Cell(value_text(value) + (f" ({say.share(part)} of train)" if part else ""), value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = setting_text(name, value) if name in ("init", "kind", "device") else value_text(value)
    return Cell(text, value if number else text)


def accuracy_decimals(line: Line) -> int:
    """One row more or less should show: a second decimal from 2,000 rows on."""
    return 2 if line.evaluated >= 2000 else 1


def accuracy_cells(line: Line, bold: bool) -> list[Cell]:
    """Accuracy, its interval, and what the interval is over."""
    values = [o.accuracy for o in line.outcomes]
    rows, runs, draws = say.plural(line.evaluated, "row"), say.plural(len(values), "run"), len(set(line.draws))
    mean, interval = line.accuracy
    decimals = accuracy_decimals(line)
    each = "; ".join(f"seed {o.run.record.get('seed')}: {100 * o.accuracy:.3f} %" for o in line.outcomes)
    low, high = say.percent(interval.low, decimals), say.percent(interval.high, decimals)
    over = f"rows and {draws} draws" if draws > 1 else "rows" + (f" ({runs}, one draw)" if len(values) > 1 else "")
    over_title = f"{rows}, {runs}, {say.plural(draws, 'independent draw')}"
    return [
        Cell(say.percent(mean, decimals), mean, each, bold),
        Cell(f"{low} – {high}", interval.low, f"{100 * interval.low:.3f} – {100 * interval.high:.3f} %"),
        Cell(over, draws, over_title),
    ]


def effective(line: Line) -> str:
    parts: dict[str, list[float]] = {}
    for o in line.outcomes:
        for name, share in (o.run.record.get("effective_attention") or {}).items():
            parts.setdefault(str(name), []).append(float(share))
    if not parts:
        return say.NOTHING
    return say.fractions({name: sum(values) / len(line.outcomes) for name, values in parts.items()})


def shorten(text: str) -> str:
    return text if len(text) <= LONGEST_ERROR else text[: LONGEST_ERROR - 1].rstrip() + "…"
