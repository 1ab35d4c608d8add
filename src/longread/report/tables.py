"""The tables of a report as plain data: Markdown, the page and the terminal print the same cells."""

from __future__ import annotations

import statistics as plain
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.groups import Group, Line, Outcome, setting_text, value_text

if TYPE_CHECKING:
    from longread.records import Run
    from longread.report.pairs import Pairs

STATUS = {
    "diverged": "diverged",
    "out_of_memory": "out of memory",
    "interrupted": "interrupted",
    "error": "failed",
    "ok": "no accuracy recorded",
}
LOADED = "†"


@dataclass(frozen=True)
class Measure:
    """A column that is a mean over runs: where its value stands in a record and how it is printed."""

    column: Column
    read: Callable[[Run], object]
    scale: float = 1.0
    decimals: int | None = None  # None: chosen by the column's smallest value
    timed: bool = False  # from idle runs where there are any, else marked


def held_out_accuracy(run: Run) -> float | None:
    """On the rows held out of train, at the epoch that they chose."""
    chosen = run.record.get("chosen_epoch")
    found = [line.get("selection_accuracy") for line in run.history() if line.get("epoch") == chosen]
    return found[0] if found else None


HELD_OUT = Measure(Column("Held-out accuracy", "%", terminal=False), held_out_accuracy, 100, 1)
MEASURES = (
    HELD_OUT,
    Measure(Column("F1", "%"), lambda r: (r.record.get("metrics") or {}).get("f1"), 100, 1),
    Measure(Column("Parameters"), lambda r: r.record.get("num_parameters"), 1, 0),
    Measure(Column("Training", "s"), lambda r: r.record.get("train_seconds") or None, timed=True),
    Measure(Column("Inference", "s"), lambda r: r.record.get("eval_seconds"), timed=True),
    Measure(Column("Inference", "samples/s"), lambda r: r.record.get("samples_per_second"), timed=True),
    Measure(Column("Peak memory", "MiB"), lambda r: r.record.get("peak_memory_bytes"), 1 / say.MEBIBYTE, 0),
    Measure(Column("Padding", "%", terminal=False), lambda r: r.record.get("padded_fraction"), 100, 1),
    Measure(Column("Truncated", "%", terminal=False), lambda r: r.record.get("truncated_fraction"), 100, 1),
)


def measures_of(group: Group) -> list[Measure]:
    """All, but for the rows held out where no run of the group has any."""
    held_out = any(held_out_accuracy(o.run) is not None for line in group.done for o in line.outcomes)
    return [m for m in MEASURES if held_out or m is not HELD_OUT]


FIELD_COLUMNS = {"num_hidden_layers": Column("Layers"), "init": Column("Init", numeric=False)}


def average(outcomes: Sequence[Outcome], measure: Measure) -> tuple[float | None, list[float]]:
    values = [say.finite(measure.read(o.run)) for o in outcomes]
    known = [value * measure.scale for value in values if value is not None]
    return (plain.fmean(known) if known else None), known


def field_columns(group: Group) -> list[tuple[str, Column]]:
    columns = []
    for name in group.fields:
        values = [line.settings[name] for line in group.lines if name in line.settings]
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        title = name.replace("_", " ").capitalize()
        columns.append((name, FIELD_COLUMNS.get(name, Column(title, numeric=numeric))))
    return columns


def accuracy_decimals(line: Line) -> int:
    """One row more or less should show: a second decimal from 2,000 rows on."""
    return 2 if line.evaluated >= 2000 else 1


def comparison(group: Group, pairs: Pairs) -> Table:
    """One row a configuration, its seeds together; a run that failed is a row of its own."""
    fields, measures = field_columns(group), measures_of(group)
    columns = (
        Column("Attention", numeric=False),
        *(column for _, column in fields),
        Column("Accuracy", "%"),
        Column("95 % interval", "%", numeric=False),
        Column("over", numeric=False),
        *(measure.column for measure in measures),
        Column("What ran", "share of tokens", numeric=False, terminal=False),
    )
    decimals = [measure_decimals(group, measure) for measure in measures]
    best = pairs.best_line()
    rows: list[Row] = []
    for line in sorted(group.done, key=lambda line: line.is_baseline):
        front = [name_cell(line), *(field_cell(line, name) for name, _ in fields)]
        body = [*accuracy_cells(line, bold=line is best)]
        body += [measure_cell(line, m, d) for m, d in zip(measures, decimals, strict=True)]
        body.append(Cell(effective(line), effective(line)))
        rows.append(Row((*front, *body), "baseline" if line.is_baseline else "", line.attention))
    for line in group.lines:
        for run in line.failures:
            status = STATUS.get(str(run.record.get("status")), str(run.record.get("status")))
            seed = run.record.get("seed")
            error = " ".join(str(run.record.get("error") or "").split())
            text = f"seed {seed}: {status}" + (f" ({shorten(error)})" if error else "")
            front = [name_cell(line), *(field_cell(line, name) for name, _ in fields)]
            rest = len(columns) - len(front)
            rows.append(Row((*front, Cell(text, None, error, span=rest)), "failed", line.attention))
    return Table(columns, tuple(rows), comparison_notes(group, best))


def comparison_notes(group: Group, best: Line | None) -> tuple[str, ...]:
    notes = []
    over = {len(set(line.draws)) > 1 for line in group.done}
    if True in over:
        notes.append(
            "Interval over rows and draws: Wilson's for the rows and Student's t for the independent draws, added in "
            "squares (MOVER, Zou and Donner 2008)."
        )
    if False in over:
        notes.append("Interval over rows: one draw only, Wilson's interval; it knows nothing of another training.")
    if any(len(set(line.draws)) < len(line.outcomes) for line in group.done):
        notes.append("Runs that share a teacher, a distillation or trained first weights are one draw together.")
    notes.append("Every number but the interval is the mean over the runs (on the page: hover for each).")
    if any(0 < len(line.quiet) < len(line.outcomes) for line in group.done):
        notes.append("Times are means over the seeds that had the machine to themselves, where there are any.")
    if best is None and len(group.done) > 1:
        notes.append("No accuracy is bold: the first is not shown to differ from all the others.")
    if any(line.timed_under_load for line in group.done):
        notes.append(f"{LOADED} The machine had other work while these ran: not times to quote.")
    kinds_of_memory = {str(r.record.get("memory_kind")) for r in group.runs if r.record.get("memory_kind")}
    meaning = {
        "rss_above_program": "resident memory above the loaded program",
        "cuda_allocated": "memory allocated on the GPU",
    }
    if kinds_of_memory:
        notes.append(f"Peak memory: {say.listing(meaning.get(k, k) for k in sorted(kinds_of_memory))}.")
    notes += projections(group) + teachings(group)
    if any(line.is_baseline for line in group.done):
        notes.append("Parameters of the linear models: features used.")
    return tuple(notes)


def projections(group: Group) -> list[str]:
    """What a whole split would take, where a model was run on a sample of it without any training."""
    found = []
    for line in group.done:
        seen = (line.outcomes[0].run.record.get("dataset") or {}).get("eval") or {}
        rows, whole = seen.get("rows"), seen.get("rows_of_split")
        if rows and whole and rows < whole:
            seconds = plain.mean(float(o.run.record["eval_seconds"]) for o in line.outcomes) * whole / rows
            mark = LOADED if line.timed_under_load else ""
            text = f"{line.name()} ran on {rows:,} of {whole:,} rows; projected, not measured, for all"
            found.append(f"{text}: {say.seconds(seconds)}{mark} of inference.")
    return found


def teachings(group: Group) -> list[str]:
    """What a repair had done to the weights that a line began with (longread convert --repair-task)."""
    found = []
    for line in group.done:
        done = (line.outcomes[0].run.record.get("conversion") or {}).get("repair")
        if not done:
            continue
        before, after = (say.significant(done[f"distance_{when}"], 2) for when in ("before", "after"))
        spent = f"{done['rows_seen']:,} texts of {done['task']} in {say.seconds(done['seconds'])}"
        undone = "" if done.get("kept", True) else "; undone, it did no good"
        found.append(f"{line.name()} was taught first, {spent}: distance from dense {before}, then {after}{undone}.")
    if found:
        found.append("Distance: squared difference of the hidden states over the teacher's variance, held-out texts.")
    return found


def name_cell(line: Line) -> Cell:
    return Cell(line.title(), line.attention)


def field_cell(line: Line, name: str) -> Cell:
    if name not in line.settings:
        return Cell(say.NOTHING, None)
    value = line.settings[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = setting_text(name, value) if name in ("init", "kind", "device") else value_text(value)
    return Cell(text, value if number else text)


def accuracy_cells(line: Line, bold: bool) -> list[Cell]:
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


def measure_decimals(group: Group, measure: Measure) -> int:
    if measure.decimals is not None:
        return measure.decimals
    means = [average(line.quiet if measure.timed else line.outcomes, measure)[0] for line in group.done]
    return decimals_capped([m for m in means if m is not None])


def decimals_capped(values: Sequence[float]) -> int:
    return say.decimals_for(values, digits=3, most=1 if max(values, default=0) >= 10 else 2)


def measure_cell(line: Line, measure: Measure, decimals: int) -> Cell:
    mean, each = average(line.quiet if measure.timed else line.outcomes, measure)
    if mean is None:
        return Cell(say.NOTHING, None)
    mark = LOADED if measure.timed and line.timed_under_load else ""
    text = say.number(mean, decimals)
    if mean > 0 and float(text.replace(",", "")) == 0:
        text = f"< {10.0**-decimals:.{decimals}f}"
    unit = f" {measure.column.unit}" if measure.column.unit else ""
    return Cell(text + mark, mean, ", ".join(say.significant(v, 4) for v in each) + unit)


def effective(line: Line) -> str:
    parts: dict[str, list[float]] = {}
    for o in line.outcomes:
        for name, share in (o.run.record.get("effective_attention") or {}).items():
            parts.setdefault(str(name), []).append(float(share))
    if not parts:
        return say.NOTHING
    return say.shares({name: sum(values) / len(line.outcomes) for name, values in parts.items()})


def shorten(text: str, length: int = 90) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
