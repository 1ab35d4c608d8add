"""Memory of `longread predict` by the number of lines: python -m benchmarks.predict_memory [--lines N ...] [--out DIR]

The command itself on a generated file of so many lines, with the smallest model: highest resident memory of its
process, above that of the same command on one line (the program with the model loaded). Memory may be measured on a
busy machine; seconds are not kept. DIR/memory.json (default results/predict) has one entry for each number of lines.
10 million lines take half an hour or more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LINES = (10_000, 100_000, 1_000_000, 10_000_000)
WORDS = ("parcel", "bill", "late", "broken", "thanks", "again", "never", "refund", "invoice", "order", "box", "cable")


def write_lines(path: Path, count: int) -> None:
    """No two lines are alike: what a program kept of each would show."""
    drawn = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(f"{number} {' '.join(drawn.choices(WORDS, k=drawn.randint(1, 8)))}\n")


def make_checkpoint(directory: Path) -> Path:
    """In a process of its own: this one stays small, because a child's highest memory begins at its parent's."""
    code = (
        "import sys, longread; from longread.data.tokenizer import train_tokenizer\n"
        f"words = train_tokenizer([' '.join({WORDS!r})] * 3, 512, True)\n"
        "model = longread.build('dense', num_hidden_layers=1, hidden_size=16, num_attention_heads=1, num_labels=2,"
        " vocab_size=words.vocab_size, max_length=128)\n"
        "from longread.models.checkpoint import save_pretrained\n"
        "save_pretrained(model, sys.argv[1], tokenizer=words)"
    )
    subprocess.run([sys.executable, "-c", code, str(directory / "model")], check=True)
    return directory / "model"


def predict(model: Path, file: Path, out: Path) -> tuple[int, float]:
    """Highest resident bytes of the command's process, and its seconds. Its output is counted and deleted."""
    command = [sys.executable, "-m", "longread", "predict", str(model), "--file", str(file), "--out", str(out)]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        seconds = time.perf_counter() - began
        if status:
            errors.seek(0)
            raise RuntimeError(errors.read()[-500:])
    with file.open("rb") as given, out.open("rb") as written:
        assert sum(1 for _ in given) == sum(1 for _ in written)
    out.unlink()
    return usage.ru_maxrss * 1024, seconds


def measure(lines: list[int]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="longread-memory-") as place:
        folder = Path(place)
        model = make_checkpoint(folder)
        found = []
        for count in [1, *lines]:
            file = folder / "lines.txt"
            write_lines(file, count)
            peak, seconds = predict(model, file, folder / "answers.jsonl")
            found.append({"lines": count, "peak_bytes": peak, "file_bytes": file.stat().st_size})
            print(f"{count:,} lines: {peak / 2**20:.0f} MiB, {seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=LINES)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "predict")
    given = parser.parse_args()
    one, *found = measure(list(given.lines))
    import torch

    from longread.records import write_json
    from longread.system.allocator import tune_allocator
    from longread.system.measure import environment

    tune_allocator()  # as the command does: the environment says so

    path = given.out / "memory.json"
    kept = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else []
    machine = environment(torch.device("cpu"), "float32")
    new = [
        run | {"program_bytes": one["peak_bytes"], "above_bytes": run["peak_bytes"] - one["peak_bytes"],
               "environment": machine}
        for run in found
    ]  # fmt: skip
    runs = [run for run in kept if run["lines"] not in given.lines] + new
    write_json(path, {"runs": sorted(runs, key=lambda run: int(run["lines"]))})
    print(path, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
