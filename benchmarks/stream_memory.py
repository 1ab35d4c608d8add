"""Memory of `longread train --stream` by the number of rows: python -m benchmarks.stream_memory [--rows N ...]

The command itself on generated Parquet shards of so many rows, no two alike, with the smallest model, in a process of
its own, twice: cold, and again when everything is kept. It is stopped after its first 200 steps. Highest resident
memory of that process (and of each that tokenizes for it), above that of the same command on a hundred rows (the
program with the model), and the seconds from the start of the command to the first step. Memory may be measured on a
busy machine; whether the seconds were is in the record. results/scaling/stream-memory.json has one entry for each
number of rows. Ten million rows take ten minutes and four gigabytes of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.predict_memory import ROOT, WORDS

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
FEWEST = 100
SHARDS = 5
STEPS = 200  # of one run, with a batch of 32
OPTIONS = ("--hidden-size", "16", "--num-attention-heads", "1", "--vocab-size", "512", "--max-length", "64",
           "--save-seconds", "0.0", "--epochs", "1", "--threads", "1")  # fmt: skip


def write_rows(folder: Path, count: int) -> int:
    """Shards in a process of its own: this one stays small. Their bytes."""
    code = (
        "import sys, random, pyarrow as pa, pyarrow.parquet as pq\n"
        "folder, count, shards = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
        f"words, drawn = {WORDS!r}, random.Random(0)\n"
        "for shard in range(shards):\n"
        "    schema = pa.schema({'text': pa.string(), 'label': pa.string(), 'unused': pa.int64()})\n"
        "    with pq.ParquetWriter(f'{folder}/part-{shard}.parquet', schema) as file:\n"
        "        end = (shard + 1) * count // shards\n"
        "        for first in range(shard * count // shards, end, 50_000):\n"
        "            rows = range(first, min(end, first + 50_000))\n"
        "            texts = [f'{row} ' + ' '.join(drawn.choices(words, k=drawn.randint(1, 8))) for row in rows]\n"
        "            labels = [('late', 'fine')['fine' not in text and row % 2] for row, text in zip(rows, texts)]\n"
        "            file.write_table(pa.table({'text': texts, 'label': labels, 'unused': list(rows)}, schema))\n"
    )
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", code, str(folder), str(count), str(SHARDS)], check=True)
    return sum(path.stat().st_size for path in folder.iterdir())


def first_steps(folder: Path, out: Path, steps: int = STEPS) -> dict[str, Any]:
    """Runs the command until so many steps are done (or its end): peak bytes, and seconds to the first step."""
    code = (
        "import sys, time, os, signal\n"
        "from longread.training import trainer\n"
        "trainer.SECONDS_BETWEEN_EVENTS = 0.0\n"
        "from longread.training.trainer import Trainer\n"
        "report, told = Trainer._report, []\n"
        "def noted(self, loss):\n"
        "    report(self, loss)\n"
        "    if not told: told.append(1); print('first step', time.time(), file=sys.stderr, flush=True)\n"
        f"    if self.step == {steps}: os.kill(os.getpid(), signal.SIGTERM)\n"
        "Trainer._report = noted\n"
        "from longread.cli.main import main\n"
        "sys.exit(main())\n"
    )
    command = [sys.executable, "-c", code, "train", str(folder), "--stream", "--out", str(out), "--restart", *OPTIONS]
    shutil.rmtree(out / "runs", ignore_errors=True)  # a finished run would be skipped
    load, began = foreign_load(), time.time()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stderr=errors, cwd=ROOT)
        workers = 0
        while True:
            found, status, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                break
            workers = max([workers, *(_peak(child) for child in _children(process.pid))])
            time.sleep(0.2)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read()
    if process.returncode not in (0, 130):
        raise RuntimeError(said[-500:])
    first = next(float(line.split()[-1]) for line in said.splitlines() if line.startswith("first step"))
    return {
        "peak_bytes": usage.ru_maxrss * 1024,
        "worker_peak_bytes": workers,
        "seconds_to_first_step": round(first - began, 2),
        "load_at_start": load,
        "load_at_end": foreign_load(),
    }


def foreign_load() -> float:
    """Cores that other programs keep busy; longread.system.measure would bring torch, and this process stays small."""
    return round(psutil.cpu_percent(interval=0.4) / 100 * (psutil.cpu_count() or 1), 2)


def _children(process: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _peak(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)


def measure(rows: list[int], folder: Path) -> list[dict[str, Any]]:
    found, program = [], 0
    for count in [FEWEST, *rows]:
        own = folder / f"rows-{count}"
        size = write_rows(own / "shards", count)
        cold, warm = (first_steps(own / "shards", own / "out", 2 if count == FEWEST else STEPS) for _ in range(2))
        peak = max(cold["peak_bytes"], warm["peak_bytes"])
        program = program or peak
        cache = sum(path.stat().st_size for path in (own / "out" / "cache").rglob("*") if path.is_file())
        kept = {"rows": count, "file_bytes": size, "cache_bytes": cache, "program_bytes": program}
        found.append(kept | {"peak_bytes": peak, "above_bytes": peak - program, "cold": cold, "warm": warm})
        shutil.rmtree(own)
        print(
            f"{count:,} rows: {(peak - program) / 2**20:.0f} MiB above the model, first step after "
            f"{cold['seconds_to_first_step']:.0f} s, warm {warm['seconds_to_first_step']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return found[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "scaling")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longread-stream-") as place:
        found = measure(list(given.rows), Path(place))
    import torch

    from longread.records import write_json
    from longread.system.allocator import tune_allocator
    from longread.system.measure import environment

    tune_allocator()  # as the command does: the environment says so
    machine = environment(torch.device("cpu"), "float32")
    path = given.out / "stream-memory.json"
    kept = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else []
    runs = [run for run in kept if run["rows"] not in given.rows] + [run | {"environment": machine} for run in found]
    write_json(path, {"runs": sorted(runs, key=lambda run: int(run["rows"]))})
    print(path, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
