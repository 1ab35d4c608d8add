"""Memory of `longread train --stream` by the number of rows: python -m benchmarks.stream_memory [--rows N ...]

The command itself on generated Parquet shards of so many rows, no two alike, with the smallest model, in a process of
its own: an epoch over nine tenths of the rows, evaluation of the others, record and checkpoint; then again, when
everything is kept, up to the first step. Highest memory of that process (and of each that tokenizes for it) above that
of the same command on a hundred rows, which is the program with the model: resident, and without the pages of files
that the system takes back whenever it wants; and the seconds from the start of the command to the first step. Memory
may be measured on a busy machine; whether the seconds were is in the record. results/scaling/stream-memory.json has one
entry for each number of rows. Ten million rows take ten minutes on two idle cores, and four gigabytes of disk.
"""

from __future__ import annotations

import argparse
import json
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
OPTIONS = ("--hidden-size", "16", "--num-attention-heads", "1", "--vocab-size", "512", "--max-length", "64",
           "--batch-size", "1024", "--epochs", "1", "--threads", "1")  # fmt: skip


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


def run(folder: Path, out: Path, steps: int | None = None) -> dict[str, Any]:
    """Runs the command (up to so many steps): peak bytes, and seconds to the first step."""
    code = (
        "import sys, time, os, signal\n"
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
    peak = anonymous = workers = 0
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stderr=errors, cwd=ROOT)
        while process.poll() is None:
            # Not from wait4: there a child's memory begins at its parent's.
            peak, anonymous = max(peak, _bytes(process.pid, "VmHWM")), max(anonymous, _bytes(process.pid, "RssAnon"))
            workers = max([workers, *(_bytes(child, "VmHWM") for child in _children(process.pid))])
            time.sleep(0.05)
        seconds = time.time() - began
        errors.seek(0)
        said = errors.read()
    if process.returncode != (0 if steps is None else 130):
        raise RuntimeError(said[-500:])
    first = next(float(line.split()[-1]) for line in said.splitlines() if line.startswith("first step"))
    return {
        "peak_bytes": peak,
        "anonymous_bytes": anonymous,
        "worker_peak_bytes": workers,
        "seconds_to_first_step": round(first - began, 2),
        "seconds": round(seconds, 1),
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


def _bytes(process: int, name: str) -> int:
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(name)), 0)


def measure(rows: list[int], folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    program: dict[str, Any] = {}
    for count in [FEWEST, *rows]:
        own = folder / f"rows-{count}"
        size = write_rows(own / "shards", count)
        cold = run(own / "shards", own / "out")
        if not program:
            program = cold
            continue
        warm = run(own / "shards", own / "out", steps=1)
        cache = sum(path.stat().st_size for path in (own / "out" / "cache").rglob("*") if path.is_file())
        found.append(
            {
                "rows": count,
                "file_bytes": size,
                "cache_bytes": cache,
                "program_bytes": program["peak_bytes"],
                "peak_bytes": cold["peak_bytes"],
                "above_bytes": cold["peak_bytes"] - program["peak_bytes"],
                "anonymous_above_bytes": cold["anonymous_bytes"] - program["anonymous_bytes"],
                "cold": cold,
                "warm": warm,
            }
        )
        shutil.rmtree(own)
        above, anonymous = (found[-1][name] / 2**20 for name in ("above_bytes", "anonymous_above_bytes"))
        print(
            f"{count:,} rows: {above:.0f} MiB above the model ({anonymous:.0f} without pages of files), "
            f"first step after {cold['seconds_to_first_step']:.0f} s, warm {warm['seconds_to_first_step']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return found


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
