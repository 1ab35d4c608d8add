"""The columns of numbers: what is read from a record, how it is averaged over runs, and how it is printed."""

from __future__ import annotations

import statistics as plain
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from longread.problems import MULTI_LABEL
from longread.report import numbers as say
from longread.report.cells import Cell, Column
from longread.report.groups import Group, Line, Outcome

LOADED = "†"
AT_LEAST = "≥ "


@dataclass(frozen=True)
class Measure:
    """A column that is a mean over runs: where its value stands in a record and how it is printed."""

    column: Column
    read: Callable[[Outcome], object]
    scale: float = 1.0
    decimals: int | None = None  # None: chosen by the column's smallest value
    timed: bool = False  # from idle runs where there are any, else marked
    whole: bool = False  # with the runs that came before
    at_least: Callable[[Outcome], bool] = lambda outcome: False  # a part of the value is not recorded


def field_of(name: str) -> Callable[[Outcome], object]:
    return lambda outcome: outcome.run.record.get(name)


def held_out_accuracy(outcome: Outcome) -> float | None:
    """On the rows held out of train, at the epoch that they chose."""
    chosen = outcome.run.record.get("chosen_epoch")
    found = [line.get("selection_accuracy") for line in outcome.run.history() if line.get("epoch") == chosen]
    return say.finite(found[0]) if found else None


def whole_training(outcome: Outcome) -> float | None:
    """Seconds of the run's own training and of all that came before it: teacher, distillation, earlier stages."""
    own = say.finite(outcome.run.record.get("train_seconds"))
    if own is None or (own == 0 and not outcome.ancestry):
        return None
    return own + sum(seconds for seconds in outcome.ancestry.values() if seconds is not None)


def partly_unknown(outcome: Outcome) -> bool:
    return any(seconds is None for seconds in outcome.ancestry.values())


HELD_OUT = Measure(Column("Held-out accuracy", "%", terminal=False), held_out_accuracy, 100, 1)
F1 = Measure(Column("F1", "%"), lambda o: (o.run.record.get("metrics") or {}).get("f1"), 100, 1)
SEVERAL = [
    Measure(Column("F1, micro", "%"), lambda o: (o.run.record.get("metrics") or {}).get("f1_micro"), 100, 1),
    Measure(Column("F1, macro", "%"), lambda o: (o.run.record.get("metrics") or {}).get("f1_macro"), 100, 1),
    Measure(
        Column("Average precision", "%"), lambda o: (o.run.record.get("metrics") or {}).get("average_precision"), 100, 1
    ),
]
CALIBRATION = Measure(
    Column("ECE", "%", terminal=False), lambda o: (o.run.record.get("calibration") or {}).get("ece"), 100, 1
)
PARAMETERS = Measure(Column("Parameters"), field_of("num_parameters"), 1, 0)
TRAINING = Measure(Column("Training", "s"), lambda o: o.run.record.get("train_seconds") or None, timed=True)
WHOLE_TRAINING = Measure(
    Column("Training incl. teacher", "s"), whole_training, timed=True, whole=True, at_least=partly_unknown
)
INFERENCE = Measure(Column("Inference", "s"), field_of("eval_seconds"), timed=True)
SPEED = Measure(Column("Inference", "samples/s"), field_of("samples_per_second"), timed=True)
MEMORY = Measure(Column("Peak memory", "MiB"), field_of("peak_memory_bytes"), 1 / say.MEBIBYTE, 0)
PADDING = Measure(Column("Padding", "%", terminal=False), field_of("padded_fraction"), 100, 1)
TRUNCATED = Measure(Column("Truncated", "%", terminal=False), field_of("truncated_fraction"), 100, 1)


def all_measures(group: Group) -> list[Measure]:
    """Every column of numbers, but for those in which no run of the group has anything."""
    outcomes = [o for line in group.done for o in line.outcomes]
    held_out = [HELD_OUT] if any(held_out_accuracy(o) is not None for o in outcomes) else []
    whole = [WHOLE_TRAINING] if has_ancestors(group) else []
    f1 = [replace(F1, column=replace(F1.column, name=f1_name(group)))]
    if group.problem_type == MULTI_LABEL:
        f1 = SEVERAL
    ece = [CALIBRATION] if any(CALIBRATION.read(o) is not None for o in outcomes) else []
    return [*held_out, *f1, *ece, PARAMETERS, TRAINING, *whole, INFERENCE, SPEED, MEMORY, PADDING, TRUNCATED]


def main_measures(group: Group) -> list[Measure]:
    """What a choice is made by: the whole cost of training, inference and memory; of several labels their F1 too."""
    f1 = SEVERAL[:1] if group.problem_type == MULTI_LABEL else []
    return [*f1, WHOLE_TRAINING if has_ancestors(group) else TRAINING, INFERENCE, MEMORY]


def has_ancestors(group: Group) -> bool:
    return any(o.ancestry for line in group.done for o in line.outcomes)


def f1_name(group: Group) -> str:
    """Which F1 it is: of the second class where there are two, else the mean over the classes."""
    datasets = (run.record.get("dataset") or {} for run in group.runs)
    names = next((found for found in (data.get("label_names") for data in datasets) if found), None)
    if not isinstance(names, list | tuple):
        return "F1"
    return f"F1 of “{names[1]}”" if len(names) == 2 else "F1, macro"


def average(outcomes: Sequence[Outcome], measure: Measure) -> tuple[float | None, list[float]]:
    values = [say.finite(measure.read(o)) for o in outcomes]
    known = [value * measure.scale for value in values if value is not None]
    return (plain.fmean(known) if known else None), known


def timed_outcomes(line: Line, measure: Measure) -> Sequence[Outcome]:
    return line.quiet if measure.timed else line.outcomes


def measure_decimals(group: Group, measure: Measure) -> int:
    if measure.decimals is not None:
        return measure.decimals
    means = [average(timed_outcomes(line, measure), measure)[0] for line in group.done]
    return decimals_capped([m for m in means if m is not None])


def decimals_capped(values: Sequence[float]) -> int:
    return say.decimals_for(values, digits=3, most=1 if max(values, default=0) >= 10 else 2)


def measure_cell(line: Line, measure: Measure, decimals: int) -> Cell:
    outcomes = timed_outcomes(line, measure)
    mean, each = average(outcomes, measure)
    if mean is None:
        return Cell(say.NOTHING, None)
    text = say.number(mean, decimals)
    if mean > 0 and float(text.replace(",", "")) == 0:
        text = f"< {10.0**-decimals:.{decimals}f}"
    before = AT_LEAST if any(measure.at_least(o) for o in outcomes) else ""
    loaded = line.trained_under_load if measure.whole else line.timed_under_load
    mark = LOADED if measure.timed and loaded else ""
    unit = f" {measure.column.unit}" if measure.column.unit else ""
    return Cell(before + text + mark, mean, ", ".join(say.significant(v, 4) for v in each) + unit)
