"""Measures this project beside its peers: python benchmarks/run.py [PART ...] [--quick] [--data-dir DIR] [--out DIR]

Parts: sentences, reviews, long, study, fine-tuning, encoders, encoders-training; all of them take about half an hour
on two idle cores, --quick about seven minutes. Each side is a process of its own with the same environment, allocator
and threads; outputs are compared first where the weights can be the same; then the two take turns. A record with every
raw value goes to OUT/runs/, the table to OUT/report.md. The figures that lead are with the allocator as Python programs
have it; rows for which it matters are measured again with `longread.tune_allocator()` called on both sides.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.checkpoints import make_checkpoint  # noqa: E402
from benchmarks.parts import PARTS, ROWS, Row, record_name  # noqa: E402
from benchmarks.table import summary, write_report  # noqa: E402

# A first pass this long is timed like the others: what is loaded and compiled once is under a hundredth of it.
NEEDS_NO_WARM_UP_SECONDS = 10.0


class Process:
    """A side at work."""

    def __init__(self, row: Row, side: str, allocator: str, rows: Path, checkpoint: Path | None) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        order = {
            "row": row.to_json(), "side": side, "allocator": allocator, "rows": str(rows),
            "checkpoint": checkpoint and str(checkpoint),
        }  # fmt: skip
        self.ready = self.ask(json.dumps(order))

    def ask(self, what: str) -> dict[str, Any]:
        """Empty where the process has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(what + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline() or "{}")
        except (BrokenPipeError, json.JSONDecodeError):
            return {}

    def last_words(self) -> str:
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else "ended without a word"

    def close(self) -> None:
        self.ask("stop")
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.errors.close()


def measure(row: Row, data_dir: Path | None, allocator: str = "default") -> dict[str, Any]:
    """The record of one row; `allocator` "default" or "tuned", on both sides."""
    import numpy as np

    from benchmarks.rows import token_rows
    from longread.system.measure import foreign_load

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ids, source = token_rows(row.rows, row.count, row.vocab_size, data_dir)
        np.savez(folder / "rows.npz", **{f"row{i}": tokens for i, tokens in enumerate(ids)})
        checkpoint = make_checkpoint(row, folder)
        load = foreign_load()
        sides = {name: Process(row, name, allocator, folder / "rows.npz", checkpoint) for name in ("ours", "peer")}
        difference = _difference(sides) if row.peer == "transformers" else None
        rates = [sides["ours"].ask("rate").get("rate")]
        seconds, failure = _take_turns(sides, row.repeats)
        rates.append(sides["ours"].ask("rate").get("rate"))
        record: dict[str, Any] = {
            "row": row.to_json(), "rows_from": source, "tokens": int(sum(map(len, ids))), "status": failure or "ok",
            "difference": difference, "seconds": seconds,
            "bytes": {name: side.ask("memory").get("bytes") for name, side in sides.items()}, "freed_before": True,
            "allocators": {name: side.ready.get("allocator") for name, side in sides.items()},
            "flops": sides["ours"].ready.get("flops"), "matmul_flops_per_second": rates,
        }  # fmt: skip
        for side in sides.values():
            side.close()
    about = {"load_at_start": load, "load_at_end": foreign_load(), "allocator": allocator}
    record["environment"] = _environment(row) | about
    record["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return record


def _take_turns(sides: dict[str, Process], repeats: int) -> tuple[dict[str, list[float]], str | None]:
    """Seconds of each side's passes, and which side failed, with its last words."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    failure = None
    for name, side in sides.items():
        side.ask("start")
        first = side.ask("work").get("seconds")
        if first is None:
            failure = f"{name} failed: {side.last_words()}"
        elif first > NEEDS_NO_WARM_UP_SECONDS:
            seconds[name].append(first)
    for turn in range(0 if failure else repeats):
        for name, side in sides.items():
            if len(seconds[name]) == turn:
                seconds[name].append(side.ask("work")["seconds"])
    return seconds, failure


def _environment(row: Row) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from longread import __version__
    from longread.system.measure import environment

    number: str | None = __version__ if row.peer == "dense" else None
    with contextlib.suppress(PackageNotFoundError):
        number = number or version(row.peer)
    return environment(torch.device("cpu"), row.precision) | {"peer_version": number}


def _difference(sides: dict[str, Process]) -> float | None:
    """Largest difference of log-probabilities, or None where a side gives none."""
    found = [side.ask("logits").get("logits") for side in sides.values()]
    if not all(found):
        return None
    import numpy as np

    return float(np.abs(np.array(found[0]) - np.array(found[1])).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}, or a row's name; default all")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("LONGREAD_DATA_DIR"))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "benchmarks")
    parser.add_argument("--quick", action="store_true", help="a quarter of the texts, one turn, one allocator")
    given = parser.parse_args()
    known = {*PARTS, *(row.name for row in ROWS)}
    if unknown := [part for part in given.parts if part not in known]:
        print(
            f"benchmarks: there is no {unknown[0]!r}; there are {', '.join(PARTS)} and the rows' names", file=sys.stderr
        )
        return 2
    from longread.records import write_json

    chosen = [row for row in ROWS if not given.parts or row.part in given.parts or row.name in given.parts]
    if given.quick:
        chosen = [row.quick() for row in chosen]
    work = [(row, allocator) for row in chosen for allocator in row.allocators]
    failed = 0
    for number, (row, allocator) in enumerate(work, 1):
        record = measure(row, given.data_dir, allocator)
        write_json(given.out / "runs" / record_name(row.name, allocator) / "run.json", record)
        failed += record["status"] != "ok"
        print(
            f"[{number}/{len(work)}] {row.what}, {allocator} allocator: {summary(record)}", file=sys.stderr, flush=True
        )
    print(f"table: {write_report(given.out)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
