"""How good answers are, looked at more closely: class by class, and on shorter and longer texts.

Everything is read from the records (`per_class`, `confusion_matrix`, `by_length`), which have it since
their version computes it; of several seeds the first one's is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longread.problems import is_absent
from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table

if TYPE_CHECKING:
    from longread.report.groups import Group, Line

Named = Sequence[tuple[str, str, Mapping[str, Any]]]  # a title, a mechanism (its colour), a record
MOST_CLASSES = 20  # of a confusion matrix that a person reads
MEASURES = {"accuracy": "Accuracy", "exact_match": "Exact match", "mae": "Mean absolute error"}


def first_record(line: Line) -> Mapping[str, Any]:
    """Of the first run, by seed; nothing is told of a classifier that was never trained."""
    record = min((o.run.record for o in line.outcomes), key=lambda record: int(record.get("seed") or 0))
    return {} if record.get("head_is_untrained") else record


def records_of(group: Group) -> Named:
    return [(line.name(), line.attention, first_record(line)) for line in group.done]


def class_table(named: Named) -> Table | None:
    """Precision, recall, F1 and support; None where no record has them."""
    named = [entry for entry in named if entry[2].get("per_class")]
    if not named:
        return None
    columns = (*_front(named), Column("Class", numeric=False), Column("Precision", "%"), Column("Recall", "%"),
               Column("F1", "%"), Column("Support", "rows"))  # fmt: skip
    rows = []
    for title, attention, record in named:
        for number, (name, of) in enumerate(record["per_class"].items()):
            shares = [Cell(say.percent(of[key]), of[key]) for key in ("precision", "recall", "f1")]
            if is_absent(record, number):
                shares = [Cell("–")] * 3
            support = int(of["support"])
            cells = (
                *_name(named, title, attention),
                Cell(str(name), str(name)),
                *shares,
                Cell(f"{support:,}", support),
            )
            rows.append(Row(cells, color=attention if len(named) > 1 else ""))
    notes = ("Support: how many rows have the class. A class that was never predicted has precision 0.", *_seeds(named))
    return Table(columns, tuple(rows), notes)


def confusion_table(named: Named) -> Table | None:
    """Rows of the true class, columns of the predicted one; None for more classes than a person reads."""
    kept = []
    for title, attention, record in named:
        classes = (record.get("dataset") or {}).get("label_names") or ()
        if record.get("confusion_matrix") and len(record["confusion_matrix"]) == len(classes) <= MOST_CLASSES:
            kept.append((title, attention, record))
    if not kept:
        return None
    classes = kept[0][2]["dataset"]["label_names"]
    kept = [entry for entry in kept if entry[2]["dataset"]["label_names"] == classes]
    columns = (
        *_front(kept),
        Column("True class", numeric=False),
        *(Column(str(name), "predicted") for name in classes),
    )
    rows = []
    for title, attention, record in kept:
        for number, (name, counts) in enumerate(zip(classes, record["confusion_matrix"], strict=True)):
            cells = [Cell(f"{count:,}", count, bold=column == number) for column, count in enumerate(counts)]
            front = (*_name(kept, title, attention), Cell(str(name), str(name)))
            rows.append(Row((*front, *cells), color=attention if len(kept) > 1 else ""))
    return Table(columns, tuple(rows), ("Bold: rows that are right.", *_seeds(kept)))


def length_table(named: Named) -> Table | None:
    """Accuracy (or what stands in its place) of shorter and longer texts, whole ones and cut ones apart."""
    named = [entry for entry in named if (entry[2].get("by_length") or {}).get("slices")]
    if not named:
        return None
    measure = named[0][2]["by_length"]["measure"]
    named = [entry for entry in named if entry[2]["by_length"]["measure"] == measure]
    share = measure != "mae"
    columns = (*_front(named), Column("Tokens of the text", numeric=False), Column("Read", numeric=False),
               Column("Texts"), Column(MEASURES.get(measure, measure), "%" if share else ""),
               Column("95 % interval", "%" if share else "", numeric=False))  # fmt: skip

    def shown(value: float) -> str:
        return say.percent(value) if share else say.significant(value)

    rows = []
    for title, attention, record in named:
        for one in record["by_length"]["slices"]:
            cells = (
                *_name(named, title, attention),
                Cell(_range(one["from"], one.get("to")), one["from"]),
                Cell("cut" if one["truncated"] else "whole"),
                Cell(f"{one['rows']:,}", one["rows"]),
                Cell(shown(one["value"]), one["value"]),
                Cell(f"{shown(one['low'])} – {shown(one['high'])}", one["low"]),
            )
            rows.append(Row(cells, color=attention if len(named) > 1 else ""))
    counted = "Tokens as each model's own tokenizer counts them, of a linear model words."
    over = f"Intervals over the texts of a row alone ({'Wilson' if share else 'Student'})."
    return Table(columns, tuple(rows), (counted, over, *_seeds(named)))


def _range(begin: int, end: int | None) -> str:
    return f"{begin:,} or more" if end is None else f"{begin:,} – {end:,}"


def _front(named: Named) -> tuple[Column, ...]:
    return (Column("Attention", numeric=False),) if len(named) > 1 else ()


def _name(named: Named, title: str, attention: str) -> tuple[Cell, ...]:
    return (Cell(title, attention),) if len(named) > 1 else ()


def _seeds(named: Named) -> tuple[str, ...]:
    seeds = sorted({int(record.get("seed") or 0) for _, _, record in named})
    return (f"Of one run each, seed {say.listing(seeds)}.",)
