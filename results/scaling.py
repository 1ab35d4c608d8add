"""Tables of results/scaling, which `make scale-check` writes: one run on many processes; and of threads that wait."""

from __future__ import annotations

import json
import statistics
from typing import Any

from rows import RESULTS, NoSuchRowError
from values import BUSY_CORES

from longread.attention import ATTENTIONS
from longread.report.cells import Cell, Column, Row, Table
from longread.report.markdown import markdown_table

STREAM_GOAL = 300_000_000  # bytes above the model, at the most rows


def table(name: str) -> str:
    """The table of one check. NoSuchRowError where it has no record."""
    path = RESULTS / "scaling" / f"{name}.json"
    if name not in TABLES or not path.exists():
        raise NoSuchRowError(
            f"results/scaling has no {name}; run `make scale-check`, or python -m benchmarks.stream_memory"
        )
    record = json.loads(path.read_text("utf-8"))
    where = record["environment"] if "environment" in record else record["runs"][-1]["environment"]
    machine = f"{where['processor']}, {where['cores']} cores, torch {where['torch']}"
    return f"{TABLES[name](record)}\n\n{machine}."


def _same_losses(record: dict[str, Any]) -> str:
    columns = (Column("Attention", numeric=False), Column("2 processes"), Column("4 processes"))
    body = [
        Row((Cell(ATTENTIONS[name].title), *(Cell(f"{own[count]:.1e}") for count in ("2", "4"))))
        for name, own in record["largest_difference"].items()
    ]
    return markdown_table(Table(columns, tuple(body)))


def _seconds(record: dict[str, Any]) -> str:
    columns = (Column("The same training", numeric=False), Column("Seconds"), Column("least – most"),
               Column("Times as fast as 1 process, 1 thread"))  # fmt: skip
    middle = {name: statistics.median(own) for name, own in record["seconds"].items()}
    slowest = middle["1 process, 1 thread"]
    body = []
    for name, own in record["seconds"].items():
        texts = (name, f"{middle[name]:.1f}", f"{min(own):.1f} – {max(own):.1f}", f"{slowest / middle[name]:.2f}")
        body.append(Row(tuple(map(Cell, texts))))
    return markdown_table(Table(columns, tuple(body)))


def _killed(record: dict[str, Any]) -> str:
    columns = (Column("Killed of two", numeric=False), Column("After epoch"), Column("Told in one line"),
               Column("Weights of the unstopped run"))  # fmt: skip
    names = {"second": "second process, --resume", "first": "first process, --resume",
             "torchrun begins again": "second process, torchrun --max-restarts 1"}  # fmt: skip
    body = []
    for case, own in record["cases"].items():
        told = "–" if case == "torchrun begins again" else "yes" if own["told"] else "no"
        texts = (names[case], str(own["killed_after_epoch"]), told, "to the bit" if own["equal_bits"] else "no")
        body.append(Row(tuple(map(Cell, texts))))
    return markdown_table(Table(columns, tuple(body)))


def _stream_memory(record: dict[str, Any]) -> str:
    """Of benchmarks/stream_memory.py; seconds of a busy machine are left out."""
    runs = record["runs"]
    whole = all("anonymous_above_bytes" in run for run in runs)  # earlier records are of a run's first steps
    columns = (Column("Rows"), Column("Files", "MiB"), Column("Kept in the cache", "MiB"),
               Column("Memory above the model", "MiB"),
               *([Column("without pages of files", "MiB")] if whole else []),
               Column("First step after", "s"), Column("when all is kept", "s"))  # fmt: skip
    body = []
    for run in runs:
        sizes = [run["file_bytes"], run["cache_bytes"], run["above_bytes"]]
        sizes += [run["anonymous_above_bytes"]] if whole else []
        seconds = [
            "–" if max(way["load_at_start"], way.get("load_at_end", 0)) > BUSY_CORES
            else f"{way['seconds_to_first_step']:.0f}"
            for way in (run["cold"], run["warm"])
        ]  # fmt: skip
        texts = [f"{run['rows']:,}", *(f"{size / 2**20:,.0f}" for size in sizes), *seconds]
        body.append(Row(tuple(map(Cell, texts))))
    most = runs[-1]
    verdict = "met" if most["above_bytes"] < STREAM_GOAL else "missed"
    limit, needed = (f"{value / 1e6:.0f}" for value in (STREAM_GOAL, most["above_bytes"]))
    said = f"Goal, at {most['rows']:,} rows: below {limit} MB ({needed}): {verdict}."
    part = "Training, evaluation, record and checkpoint." if whole else "Up to the 200th step."
    return f"{markdown_table(Table(columns, tuple(body)))}\n\n{part} {said}"


def _ray_compare(record: dict[str, Any]) -> str:
    columns = (Column("States and records in", numeric=False), Column("Records"), Column("Runs whose worker was lost"),
               Column("Went on from a state"), Column("Predictions as without Ray"))  # fmt: skip
    found = [("a folder of all machines", record)]
    stored = RESULTS / "scaling" / "ray-compare-store.json"  # the same with --store
    if stored.exists():
        found.append(("a store of S3's kind (`--store`, moto)", json.loads(stored.read_text("utf-8"))))
    body = []
    for where, own in found:
        texts = (where, f"{own['ok']} of 6", str(own["lost"]), str(own["resumed"]), f"{own['same_predictions']} of 6")
        body.append(Row(tuple(map(Cell, texts))))
    return markdown_table(Table(columns, tuple(body)))


TABLES = {"same-losses": _same_losses, "seconds": _seconds, "killed": _killed, "stream-memory": _stream_memory,
          "ray-compare": _ray_compare}  # fmt: skip


def threads(_: str) -> str:
    """What waiting threads cost, from the record of benchmarks/threads.py."""
    record = json.loads((RESULTS / "reliability" / "threads.json").read_text("utf-8"))
    columns = (
        Column("Threads"),
        Column("Waiting", numeric=False),
        Column("Alone", "s"),
        Column("Beside busy loops", "s"),
    )
    found: dict[tuple[int, str], dict[bool, str]] = {}
    for row in record["rows"]:
        seconds = row["median_seconds"]
        text = "–" if seconds is None else f"{seconds:.2f}"
        found.setdefault((row["threads"], row["setting"]), {})[bool(row["busy_loops_beside"])] = text
    body = [
        Row(tuple(map(Cell, (str(count), setting, own[False], own[True])))) for (count, setting), own in found.items()
    ]
    where = record["environment"]
    return markdown_table(Table(columns, tuple(body))) + f"\n\n{where['processor']}, {where['cores']} cores."
