"""Tables of results/export and results/predict: exported graphs beside PyTorch, int8, and `longread predict`."""

from __future__ import annotations

import json
import math
import statistics as plain
from collections.abc import Mapping, Sequence
from typing import Any

from rows import RESULTS, NoSuchRowError
from values import BUSY_CORES

from longread.attention import ATTENTIONS
from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.markdown import markdown_table
from longread.report.measures import LOADED

TASKS = {"sst2": "SST-2, evaluation rows", "imdb": "IMDB, a sample of the test rows"}
THROUGHPUT = {"dense": 2, "longformer": 8}  # goals: times the pipeline's speed
MEMORY_GOAL = 200_000_000  # bytes above the model, at the most lines


def record(name: str) -> dict[str, Any]:
    path = RESULTS / name
    if not path.exists():
        raise NoSuchRowError(f"results/{name} is not there")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def busy(told: Mapping[str, Any]) -> str:
    return LOADED if max(told["load_at_start"], told["load_at_end"]) > BUSY_CORES else ""


def faster(one: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast the second is, turn by turn, the median."""
    return plain.median(a / b for a, b in zip(one, other, strict=True))


def exports(what: str) -> str:
    """A row a mechanism, a column a length: the largest `difference` of logits, or times PyTorch's `speed`."""
    found = record("export/lengths.json")
    lengths = sorted({row["tokens"] for row in found["rows"]})
    cells: dict[tuple[str, int], str] = {}
    for row in found["rows"]:
        speed = faster(row["seconds"]["pytorch"], row["seconds"]["onnx"])
        text = f"{row['largest_difference']:.0e}" if what == "difference" else f"{speed:.2f}"
        cells[row["attention"], row["tokens"]] = text
    names = list(dict.fromkeys(row["attention"] for row in found["rows"]))
    columns = (Column("Attention", numeric=False), *(Column(f"{length:,}") for length in lengths))
    mark = busy(found) if what == "speed" else ""
    body = tuple(
        Row(tuple(map(Cell, (_title(found, name) + mark, *(cells[name, length] for length in lengths)))))
        for name in names
    )
    return markdown_table(Table(columns, body)) + f"\n\n{_machine(found['environment'])}"


def _title(found: Mapping[str, Any], name: str) -> str:
    own = ", ".join(f"{option.replace('_', ' ')} {value}" for option, value in found["options"][name].items())
    return ATTENTIONS[name].title + (f" ({own})" if own else "")


def _machine(environment: Mapping[str, Any]) -> str:
    known = ("onnxruntime", "transformers")
    others = "".join(f", {name} {environment[name]}" for name in known if name in environment)
    return (
        f"{environment['processor']}, {say.plural(environment['threads'], 'thread')}, allocator "
        f"{environment['allocator']}, torch {environment['torch']}{others}, commit {environment['commit'][:9]}."
    )


def int8(_: str) -> str:
    """What eight bits cost and bring: accuracy on the same rows, and the speed beside both others."""
    found = record("export/int8.json")
    columns = (Column("Rows", numeric=False), Column("Accuracy", "%"), Column("int8", "%"),
               Column("Difference and its 95 % interval", "points", numeric=False), Column("Answers changed"),
               Column("ONNX, times PyTorch's speed"), Column("int8, times PyTorch's speed"))  # fmt: skip
    body = []
    for task, title in TASKS.items():
        own = found["rows"][task]
        count, right, speed = own["rows"], own["right"], own["seconds"]
        won, lost = own["won_by_int8"], own["lost_by_int8"]
        mean = (won - lost) / count
        half = 1.96 * math.sqrt(max(0.0, (won + lost) / count - mean**2) / count)
        interval = " – ".join(say.signed_percent(value, 1) for value in (mean - half, mean + half))
        cells = (
            f"{title} ({count:,}){busy(found)}",
            *(say.percent(right[side] / count, 1) for side in ("pytorch", "int8")),
            f"{say.signed_percent(mean, 1)} ({interval})",
            f"{own['answers_changed_by_int8']:,}",
            *(f"{faster(speed['pytorch'], speed[side]):.2f}" for side in ("onnx", "int8")),
        )
        body.append(Row(tuple(map(Cell, cells))))
    size = found["file_bytes"]["int8"] / found["file_bytes"]["onnx"]
    tail = f"The int8 file has {100 * size:.0f} % of the size. {_machine(found['environment'])}"
    return markdown_table(Table(columns, tuple(body))) + f"\n\n{tail}"


def throughput(_: str) -> str:
    """`longread predict` beside transformers' pipeline, reviews a second."""
    columns = (Column("Model", numeric=False), Column("Reviews"), Column("longread predict", "reviews/s"),
               Column("pipeline", "reviews/s"), Column("sorted by hand", "reviews/s"), Column("Times the pipeline"),
               Column("Times the sorted one"), Column("Probabilities differ by"))  # fmt: skip
    body, verdicts = [], []
    for name, goal in THROUGHPUT.items():
        found = record(f"predict/{name}.json")
        turns, count = found["turns"], found["reviews"]
        seconds = {side: [turn[side]["seconds"] for turn in turns] for side in ("longread", "pipeline", "sorted")}
        mark = LOADED if any(busy(turn) for turn in turns) else ""
        title = f"{ATTENTIONS[name].title}, up to {found['positions']:,} tokens{mark}"
        rates = (say.significant(count / plain.median(own)) for own in seconds.values())
        times = (f"{faster(seconds[side], seconds['longread']):.1f}" for side in ("pipeline", "sorted"))
        reached = faster(seconds["pipeline"], seconds["longread"]) >= goal
        verdicts.append(f"{ATTENTIONS[name].title} {goal} times the pipeline: {'met' if reached else 'missed'}")
        cells = (title, f"{count:,}", *rates, *times, f"{found['largest_difference']:.0e}")
        body.append(Row(tuple(map(Cell, cells))))
    said = f"Goals: {'; '.join(verdicts)}."
    return "\n\n".join([markdown_table(Table(columns, tuple(body))), said, _machine(turns[-1]["environment"])])


def memory(_: str) -> str:
    """Highest memory of `longread predict` above that of one line, by the number of lines."""
    found = record("predict/memory.json")["runs"]
    columns = (Column("Lines"), Column("Size of the file", "MiB"), Column("Memory above the model", "MiB"))
    body = (
        Row(tuple(map(Cell, (f"{run['lines']:,}", *(say.number(run[n] / say.MEBIBYTE, 1 if n == "file_bytes" else 0)
                                                  for n in ("file_bytes", "above_bytes"))))))
        for run in found
    )  # fmt: skip
    most = found[-1]
    verdict = "met" if most["above_bytes"] < MEMORY_GOAL else "missed"
    limit, needed = (f"{value / 1e6:.0f}" for value in (MEMORY_GOAL, most["above_bytes"]))
    said = f"Goal, at {most['lines']:,} lines: below {limit} MB ({needed}): {verdict}."
    return "\n\n".join([markdown_table(Table(columns, tuple(body))), said, _machine(most["environment"])])


def estimators(_: str) -> str:
    """Seconds and memory of `fit`, LongreadClassifier beside TF-IDF."""
    found = record("predict/estimators.json")
    columns = (Column("Model", numeric=False), Column("Fit", "s"), Column("Memory above the program", "MiB"),
               Column("Accuracy", "%"))  # fmt: skip
    body = []
    for name in dict.fromkeys(row["name"] for row in found["rows"]):
        own = [row for row in found["rows"] if row["name"] == name]
        seconds, peak = (plain.median(row[key] for row in own) for key in ("seconds", "peak_memory_bytes"))
        cells = (
            f"{name}{busy(found['environment'])}",
            say.significant(seconds, 2),
            say.number(peak / say.MEBIBYTE, 0),
            say.percent(own[0]["accuracy"], 1),
        )
        body.append(Row(tuple(map(Cell, cells))))
    return markdown_table(Table(columns, tuple(body))) + f"\n\n{_machine(found['environment'])}"
