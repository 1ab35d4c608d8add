"""The student study (395t/coding-assignment-week-7-eff-2), row by row, beside what the records here say.

Its numbers are quoted; ours are computed from the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longread.records import load_runs
from longread.report.cells import Cell, Column, Row, Table
from longread.report.grouping import group_runs
from longread.report.groups import Line
from longread.report.markdown import markdown_table
from longread.report.measures import LOADED
from longread.report.mechanisms import title_of
from longread.report.naming import dense_here
from longread.report.numbers import NOTHING, number
from longread.report.tables import accuracy_cells


@dataclass(frozen=True)
class Theirs:
    """One row of the student study: what it did, and where ours is."""

    work: str
    attention: str
    accuracy: str  # as it printed it, or "≈" where it is read off a plot
    seconds: float | None  # on its GPU: of training and validation together, or of inference
    records: str  # folder under results/
    layers: int | None = None
    task: str | None = None  # where that folder has several
    evaluation_seconds: float | None = None  # where it stated them apart
    training: bool = True  # its seconds are of training and validation; else of inference alone
    same_settings: bool = False  # same rows, sizes and epochs: the seconds may be divided
    remark: str = ""


SCRATCH = "IMDB from scratch"
INFERENCE = "IMDB, inference only"
NEVER_TRAINED = "there: never trained"
OTHER_WEIGHTS = "here: smaller weights (MiniLM), converted"
BASE = "here: base size (MPNet)"
SMALLER = f"{BASE}, window 32, from our dense", f"{BASE}, blocks of 8, from our dense"
DISTILLED = f"{BASE}, distilled from our dense"
NOT_TRAINED, PART = "there: inference only", f"{BASE}, a quarter of the reviews, from our dense"
DENSE_HERE = ", dense here"  # its attention covers every text, as theirs did
LINFORMER = (("≈ 79", 1481), ("≈ 72", 1909), ("≈ 71", 2428))
PERFORMER = (("≈ 64", 2010), ("≈ 60", 3004), ("≈ 60", 3990))
ROWS = (
    *(
        Theirs(SCRATCH, name, accuracy, seconds, "imdb-study-rows", layers, remark="here: fewer epochs, our settings")
        for name, rows in (("performer", PERFORMER), ("linformer", LINFORMER))
        for layers, (accuracy, seconds) in enumerate(rows, 1)
    ),
    *(
        Theirs(
            SCRATCH,
            "linformer",
            accuracy,
            seconds,
            "imdb-study-settings",
            layers,
            same_settings=True,
            remark="here: its own settings, ten epochs",
        )
        for layers, (accuracy, seconds) in enumerate(LINFORMER, 1)
    ),
    Theirs(INFERENCE, "longformer", "50", 2070, "imdb-inference", training=False, remark="here: int8, all 25,000"),
    Theirs(INFERENCE, "bigbird", "46", 422, "imdb-inference", training=False, remark="here: projected from 2,500"),
    *(
        Theirs("IMDB, 2,048 tokens", name, "–", None, "base-size", task="imdb", remark=f"{NOT_TRAINED}; {PART}")
        for name in ("longformer", "bigbird")
    ),
    *(
        Theirs(
            "IMDB, 2,048 tokens", name, "–", None, "base-size", task="imdb", remark=f"{NOT_TRAINED}; {PART}, distilled"
        )
        for name in ("linformer", "performer")
    ),
    Theirs("SST-2", "longformer", "96.18", 2556, "sst2", evaluation_seconds=4.25, remark=OTHER_WEIGHTS),
    Theirs("SST-2", "bigbird", "95.41", 2907, "sst2", evaluation_seconds=4.59, remark=OTHER_WEIGHTS),
    Theirs("SST-2", "performer", "52", None, "sst2", remark=f"{NEVER_TRAINED}; {OTHER_WEIGHTS}"),
    Theirs("SST-2", "linformer", "51", None, "sst2", remark=f"{NEVER_TRAINED}; {OTHER_WEIGHTS}"),
    *(
        Theirs("SST-2", name, accuracy, seconds, "base-size", task="sst2", evaluation_seconds=apart, remark=remark)
        for name, accuracy, seconds, apart, remark in (
            ("longformer", "96.18", 2556, 4.25, SMALLER[0]),
            ("bigbird", "95.41", 2907, 4.59, SMALLER[1]),
            ("performer", "52", None, None, f"{NEVER_TRAINED}; {DISTILLED}"),
            ("linformer", "51", None, None, f"{NEVER_TRAINED}; {DISTILLED}"),
        )
    ),
    Theirs("QNLI", "longformer", "91.62", None, "qnli", remark=OTHER_WEIGHTS),
    Theirs("QNLI", "bigbird", "91.03", None, "qnli", evaluation_seconds=18.10, remark=OTHER_WEIGHTS),
    Theirs(
        "QNLI",
        "linformer",
        "90.79",
        None,
        "qnli",
        evaluation_seconds=8.31,
        remark="there: a dense BERT under this name; here: a Linformer",
    ),
    *(
        Theirs("QNLI", name, accuracy, None, "base-size", task="qnli", evaluation_seconds=apart, remark=remark)
        for name, accuracy, apart, remark in (
            ("longformer", "91.62", None, SMALLER[0]),
            ("bigbird", "91.03", 18.10, SMALLER[1]),
            ("dense", "90.79", 8.31, f"there: called Linformer; {BASE}"),
            ("linformer", "90.79", 8.31, f"there: a dense BERT under this name; {DISTILLED}"),
        )
    ),
    *(
        Theirs("QQP", name, NOTHING, None, "qqp", remark="there: a heading without a result")
        for name in ("longformer", "bigbird", "performer", "linformer")
    ),
)
COLUMNS = (
    Column("Work", numeric=False),
    Column("Theirs", "%"),
    Column("Ours (95 % interval)", "%", numeric=False),
    Column("Theirs (GPU)", "s"),
    Column("Ours (CPU)", "s"),
    Column("Remark", numeric=False),
)


def table(results: Path) -> str:
    """As Markdown; a row without a record says so."""
    lines: dict[str, list[Line]] = {}
    for folder in {row.records for row in ROWS}:
        lines[folder] = [line for group in group_runs(load_runs(results / folder)) for line in group.done]
    return markdown_table(Table(COLUMNS, tuple(_row(row, lines[row.records]) for row in ROWS)))


def _row(theirs: Theirs, lines: list[Line]) -> Row:
    found = [line for line in lines if line.attention == theirs.attention and _asked_for(line, theirs)]
    work = f"{theirs.work}, {title_of(theirs.attention)}"
    work += f", {theirs.layers} layer{'' if theirs.layers == 1 else 's'}" if theirs.layers else ""
    seconds = [NOTHING if theirs.seconds is None else number(theirs.seconds)]
    if theirs.evaluation_seconds is not None:
        seconds.append(f"evaluation {number(theirs.evaluation_seconds, 1)}")
    front = [work, theirs.accuracy]
    if not found:
        return Row(tuple(map(Cell, (*front, "no record", "; ".join(seconds), NOTHING, theirs.remark))))
    # A study may have a mechanism twice; the row stands for the one that saw most rows, of training and then at all.
    line = max(found, key=lambda line: (line.settings.get("train_rows") or 0, line.evaluated))
    front[0] += DENSE_HERE if dense_here(line) else ""
    accuracy, interval, _ = (cell.text for cell in accuracy_cells(line, bold=False))
    mark = LOADED if line.timed_under_load else ""
    ours = _seconds(line, theirs.training)
    text = [number(ours) + (LOADED if theirs.training and line.trained_under_load else mark)]
    if theirs.seconds and theirs.same_settings:
        text[0] += f", {ours / theirs.seconds:.2f} of theirs"
    if theirs.evaluation_seconds is not None:
        text.append(f"evaluation {number(_inference(line), 1)}{mark}")
    cells = (*front, f"{accuracy} ({interval})", "; ".join(seconds), "; ".join(text), theirs.remark)
    return Row(tuple(map(Cell, cells)))


def _asked_for(line: Line, theirs: Theirs) -> bool:
    layers = theirs.layers is None or line.settings.get("num_hidden_layers", 1) == theirs.layers
    return layers and theirs.task in (None, line.outcomes[0].run.record["task"])


def _seconds(line: Line, training: bool) -> float:
    """Of inference on the whole split, or of training and validation together with the trainings that it began from.

    The mean over the quiet runs.
    """
    if not training:
        return _inference(line)
    before = sum(seconds or 0.0 for outcome in line.quiet for seconds in outcome.ancestry.values())
    last = [outcome.run.history()[-1] for outcome in line.quiet]
    return (before + sum(entry["train_seconds"] + entry["eval_seconds"] for entry in last)) / len(last)


def _inference(line: Line) -> float:
    each = []
    for outcome in line.quiet:
        record, rows = outcome.run.record, outcome.run.record["dataset"]["eval"]
        each.append(record["eval_seconds"] * (rows.get("rows_of_split") or rows["rows"]) / rows["rows"])
    return sum(each) / len(each)
