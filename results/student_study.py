"""The student study (395t/coding-assignment-week-7-eff-2), row by row, beside what the records here say.

Its numbers are quoted; ours are computed from the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longread.records import load_runs
from longread.report.cells import Cell, Column, Row, Table
from longread.report.groups import Line, group_runs
from longread.report.markdown import markdown_table
from longread.report.mechanisms import title_of
from longread.report.numbers import NOTHING, number
from longread.report.tables import LOADED, accuracy_cells


@dataclass(frozen=True)
class Theirs:
    """One row of the student study: what it did, and where ours is."""

    work: str
    attention: str
    accuracy: str  # as it printed it, or "≈" where it is read off a plot
    seconds: float | None  # on its GPU
    records: str  # folder under results/
    layers: int | None = None
    training: bool = True  # its seconds are of training and validation; else of inference alone
    times_comparable: bool = False  # same rows, sizes and epochs or fewer
    remark: str = ""


SCRATCH = "IMDB from scratch, 10,000 + 5,000 reviews"
INFERENCE = "IMDB, inference, untrained head, 25,000 reviews"
NEVER_TRAINED = "there: never trained"
OTHER_WEIGHTS = "here: smaller weights (MiniLM), converted"
ROWS = (
    *(
        Theirs(SCRATCH, name, accuracy, seconds, "imdb-study-rows", layers, times_comparable=True)
        for name, rows in (
            ("performer", (("≈ 64", 2010), ("≈ 60", 3004), ("≈ 60", 3990))),
            ("linformer", (("≈ 79", 1481), ("≈ 72", 1909), ("≈ 71", 2428))),
        )
        for layers, (accuracy, seconds) in enumerate(rows, 1)
    ),
    Theirs(INFERENCE, "longformer", "50", 2070, "imdb-inference", training=False, remark="here: projected from 2,500"),
    Theirs(INFERENCE, "bigbird", "46", 422, "imdb-inference", training=False, remark="here: projected from 2,500"),
    Theirs("SST-2", "longformer", "96.18", 2556, "sst2", remark=OTHER_WEIGHTS),
    Theirs("SST-2", "bigbird", "95.41", 2907, "sst2", remark=OTHER_WEIGHTS),
    Theirs("SST-2", "performer", "52", None, "sst2", remark=f"{NEVER_TRAINED}; {OTHER_WEIGHTS}"),
    Theirs("SST-2", "linformer", "51", None, "sst2", remark=f"{NEVER_TRAINED}; {OTHER_WEIGHTS}"),
    Theirs("QNLI", "bigbird", "91.03", None, "qnli", remark=OTHER_WEIGHTS),
    Theirs("QNLI", "linformer", "90.79", None, "qnli", remark="there: a dense BERT under this name; here: a Linformer"),
    *(
        Theirs("QQP", name, NOTHING, None, "qqp", remark="there: a heading without a result")
        for name in ("longformer", "bigbird", "performer", "linformer")
    ),
)
COLUMNS = (
    Column("Work", numeric=False),
    Column("Attention", numeric=False),
    Column("Layers"),
    Column("Theirs", "%"),
    Column("Ours", "%"),
    Column("95 % interval", "%", numeric=False),
    Column("over", numeric=False),
    Column("Theirs (GPU)", "s"),
    Column("Ours (CPU)", "s"),
    Column("Ours / theirs"),
    Column("Remark", numeric=False),
)


def table(results: Path) -> str:
    """As Markdown; a row without a record says so."""
    lines: dict[str, list[Line]] = {}
    for folder in {row.records for row in ROWS}:
        lines[folder] = [line for group in group_runs(load_runs(results / folder)) for line in group.done]
    return markdown_table(Table(COLUMNS, tuple(_row(row, lines[row.records]) for row in ROWS)))


def _row(theirs: Theirs, lines: list[Line]) -> Row:
    found = [line for line in lines if line.attention == theirs.attention and _layers(line, theirs.layers)]
    front = [
        Cell(theirs.work),
        Cell(title_of(theirs.attention)),
        Cell(str(theirs.layers or NOTHING)),
        Cell(theirs.accuracy),
    ]
    seconds = Cell(NOTHING if theirs.seconds is None else number(theirs.seconds))
    if not found:
        rest = [Cell("no record"), Cell(NOTHING), Cell(NOTHING), seconds, Cell(NOTHING), Cell(NOTHING)]
        return Row((*front, *rest, Cell(theirs.remark)))
    # A study may have a mechanism twice; the row stands for the one that saw most of the training rows.
    line = max(found, key=lambda line: line.settings.get("train_rows") or 0)
    ours = _seconds(line, theirs.training)
    mark = LOADED if line.timed_under_load else ""
    ratio = NOTHING
    if theirs.seconds and (theirs.times_comparable or not theirs.training):
        ratio = f"{ours / theirs.seconds:.2f}{mark}"
    return Row(
        (
            *front,
            *accuracy_cells(line, bold=False),
            seconds,
            Cell(number(ours) + mark),
            Cell(ratio),
            Cell(theirs.remark),
        )
    )


def _layers(line: Line, layers: int | None) -> bool:
    return layers is None or line.settings.get("num_hidden_layers", 1) == layers


def _seconds(line: Line, training: bool) -> float:
    """Of training and validation together, or of inference on the whole split; the mean over the quiet runs."""
    each = []
    for outcome in line.quiet:
        record = outcome.run.record
        if training:
            last = outcome.run.history()[-1]
            each.append(last["train_seconds"] + last["eval_seconds"])
        else:
            rows = record["dataset"]["eval"]
            each.append(record["eval_seconds"] * (rows["rows_of_split"] or rows["rows"]) / rows["rows"])
    return sum(each) / len(each)
