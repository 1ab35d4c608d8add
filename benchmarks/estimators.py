"""LongreadClassifier beside scikit-learn's TF-IDF and logistic regression: seconds and memory of `fit`.

    python -m benchmarks.estimators --data-dir DIR [--out results/predict/estimators.json]    two idle minutes

Each on the same 2,000 short texts (phrases of SST-2; generated ones without DIR), in a process of its own, TURNS times.
Memory: the highest of the process while it fits, above what it had with its libraries loaded. Accuracy: over 872 other
sentences.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROWS, TURNS = 2_000, 3
COMMAND = "python -m benchmarks.estimators --out results/predict/estimators.json"


def kinds() -> dict[str, Any]:
    """The models that are fitted, by what a table calls them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from longread.sklearn import LongreadClassifier

    plain = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    return {
        "scikit-learn's TF-IDF": plain,
        **{f"LongreadClassifier, {name}": LongreadClassifier(name, epochs=5) for name in ("dense", "longformer")},
    }


NAMES = ("scikit-learn's TF-IDF", "LongreadClassifier, dense", "LongreadClassifier, longformer")


def work(name: str, data_dir: str | None) -> dict[str, Any]:
    import torch

    from longread.data.config import DataConfig
    from longread.data.load import load_task
    from longread.system.measure import PeakMemory

    task = "sst2" if data_dir else "reviews:32"
    train, evaluation = load_task(
        DataConfig(task, data_dir=Path(data_dir) if data_dir else None, train_rows=ROWS, eval_rows=872)
    )
    model = kinds()[name]
    memory = PeakMemory(torch.device("cpu"))
    began = time.perf_counter()
    model.fit(train.texts, train.labels)
    seconds = time.perf_counter() - began
    taken = memory.bytes()
    accuracy = float((model.predict(evaluation.texts) == evaluation.labels).mean())
    return {
        "seconds": seconds,
        "peak_memory_bytes": taken,
        "accuracy": accuracy,
        "task": task,
        "rows": len(train.texts),
    }


def measure(name: str, data_dir: str | None) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    order = [sys.executable, "-m", "benchmarks.estimators", "--work", name]
    order += ["--data-dir", data_dir] if data_dir else []
    done = subprocess.run(order, env=environment, capture_output=True, text=True, check=True)
    return {"name": name} | json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("LONGREAD_DATA_DIR"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(given.work, given.data_dir)))
        return 0
    import torch

    from longread.records import write_json
    from longread.system.measure import environment, foreign_load

    load = foreign_load()
    rows = []
    for turn in range(TURNS):
        for name in NAMES:
            rows.append(measure(name, given.data_dir) | {"turn": turn})
            print(f"{name}: {rows[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    for name in NAMES:
        own = [row for row in rows if row["name"] == name]
        seconds, peak = (statistics.median(row[key] for row in own) for key in ("seconds", "peak_memory_bytes"))
        print(f"{name}: {seconds:.2f} s, {peak / 2**20:.0f} MiB, accuracy {own[0]['accuracy']:.3f}", file=sys.stderr)
    if given.out:
        made_on = environment(torch.device("cpu"), "float32") | {"load_at_start": load, "load_at_end": foreign_load()}
        write_json(given.out, {"command": COMMAND, "rows": rows, "environment": made_on})
    return 0


if __name__ == "__main__":
    sys.exit(main())
