"""`longread predict` beside transformers' pipeline: python -m benchmarks.predict_throughput dense|longformer [options]

IMDB's test reviews, the same weights (benchmarks/export.py makes them: all-MiniLM-L6-v2, fine-tuned a little on SST-2;
Longformer is a conversion to 4,096 tokens, window 512), the same threads and allocator. Outputs are compared first.
Then the sides take turns, a process each: `longread predict --file`, the pipeline with batches of 32, and the same with
the reviews sorted by length by hand. Seconds are of the whole process less those of a process with one review, so that
starting and loading are not counted. Turns are added to the record in --out until there are --turns. The machine has to
be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "predict"
SIDES = ("longread", "pipeline", "sorted")
BATCH = 32
COMPARED = 32
# Reviews of one turn: as many as the slower side reads in a few minutes.
REVIEWS = {"dense": 1000, "longformer": 32}
POSITIONS = {"dense": 512, "longformer": 4096}


def pipeline_side(checkpoint: str, file: str, out: str, by_length: bool, tokens: int) -> None:
    """What transformers' documentation shows. In a process of its own."""
    from longread.system.allocator import tune_allocator

    tune_allocator()  # as the command does
    from transformers import AutoTokenizer, pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    texts = Path(file).read_text("utf-8").splitlines()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, model_max_length=tokens)
    classify = pipeline("text-classification", model=checkpoint, tokenizer=tokenizer, device="cpu", batch_size=BATCH)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i])) if by_length else range(len(texts))
    said: list[Any] = [None] * len(texts)
    found = classify([texts[i] for i in order], truncation=True, top_k=None)
    for place, answer in zip(order, found, strict=True):
        said[place] = {one["label"]: one["score"] for one in answer}
    Path(out).write_text("".join(json.dumps({"probabilities": one}) + "\n" for one in said), "utf-8")


def run(side: str, checkpoint: Path, file: Path, tokens: int) -> tuple[float, list[dict[str, float]]]:
    """Seconds of the process, and each review's probabilities."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.jsonl"
        if side == "longread":
            command = ["longread", "predict", str(checkpoint), "--file", str(file), "--out", str(out)]
        else:
            command = ["benchmarks.predict_throughput", "side", str(checkpoint), str(file), str(out), str(tokens), side]
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(f"{side}: {done.stderr[-500:]}")
        return seconds, [json.loads(line)["probabilities"] for line in out.read_text("utf-8").splitlines()]


def reviews(folder: Path, count: int, data_dir: str | None) -> dict[int, Path]:
    """Files of one, some and all reviews, a line each."""
    from longread.data.config import DataConfig
    from longread.data.load import load_split

    texts = load_split(DataConfig("imdb", data_dir=data_dir, eval_rows=count)).texts
    lines = [" ".join(text.split()) for text in texts]
    found = {}
    for number in (1, COMPARED, count):
        found[number] = folder / f"{number}.txt"
        found[number].write_text("\n".join(lines[:number]) + "\n", "utf-8")
    return found


def difference(one: list[dict[str, float]], other: list[dict[str, float]]) -> float:
    return float(max(abs(a[name] - b[name]) for a, b in zip(one, other, strict=True) for name in a))


def measure(kind: str, work: Path, count: int, turns: int, data_dir: str | None, path: Path) -> None:
    from longread.records import write_json
    from longread.system.measure import foreign_load

    checkpoint = work / ("short" if kind == "dense" else kind)
    tokens = POSITIONS[kind]
    with tempfile.TemporaryDirectory() as place:
        files = reviews(Path(place), count, data_dir)
        record = json.loads(path.read_text("utf-8")) if path.exists() else None
        if record is None or record["reviews"] != count:
            said = {side: run(side, checkpoint, files[COMPARED], tokens)[1] for side in SIDES[:2]}
            record = {"attention": kind, "reviews": count, "batch": BATCH, "positions": tokens, "turns": [],
                      "largest_difference": difference(*said.values()), "compared": COMPARED}  # fmt: skip
        assert record["largest_difference"] < 1e-3, record["largest_difference"]
        while len(record["turns"]) < turns:
            turn: dict[str, Any] = {"load_at_start": foreign_load()}
            for side in SIDES:
                start, _ = run(side, checkpoint, files[1], tokens)
                whole, said_all = run(side, checkpoint, files[count], tokens)
                turn[side] = {"start_seconds": start, "seconds": whole - start}
                print(side, f"{count / (whole - start):.1f} reviews/s", file=sys.stderr, flush=True)
                assert len(said_all) == count
            turn["load_at_end"] = foreign_load()
            record["turns"].append(turn | {"environment": described()})
            write_json(path, record)


def described() -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    from longread.system.allocator import tune_allocator
    from longread.system.measure import environment

    tune_allocator()
    return environment(torch.device("cpu"), "float32") | {"transformers": version("transformers")}


def main() -> int:
    if sys.argv[1:2] == ["side"]:
        checkpoint, file, out, tokens, side = sys.argv[2:]
        pipeline_side(checkpoint, file, out, side == "sorted", int(tokens))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(REVIEWS))
    parser.add_argument("--reviews", type=int, help="of one turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--data-dir", default=os.environ.get("LONGREAD_DATA_DIR"))
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "export")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    count = given.reviews or REVIEWS[given.kind]
    measure(given.kind, given.work, count, given.turns, given.data_dir, given.out / f"{given.kind}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
