"""Small but realistic run records, made up with a fixed seed: what the report's tests read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from longread.records import fingerprint, write_json, write_predictions

ENVIRONMENT = {
    "device": "cpu",
    "processor": "Synthetic 9000",
    "threads": 2,
    "load_at_start": 0.1,
    "precision": "bfloat16",
    "torch": "2.13.0",
    "longread": "0.1.0",
    "commit": "0123abc",
    "dirty": False,
    "python": "3.11.7",
}
# accuracy, training seconds, inference seconds, parameters, peak bytes, what ran
MECHANISMS: dict[str, tuple[float, float, float, int, int, dict[str, float]]] = {
    "dense": (0.905, 71.0, 2.9, 120_450, 210 << 20, {"full": 1.0}),
    "longformer": (0.9, 64.0, 2.2, 132_930, 180 << 20, {"window+global": 0.812, "full": 0.188}),
    "bigbird": (0.87, 83.0, 3.1, 120_450, 190 << 20, {"block sparse": 0.6, "full": 0.4}),
    "performer": (0.83, 58.0, 2.0, 120_450, 150 << 20, {"features": 1.0}),
    "linformer": (0.80, 49.0, 1.7, 153_218, 140 << 20, {"projected": 1.0}),
    "tfidf": (0.74, 1.9, 0.21, 8_212, 60 << 20, {}),
    "nbsvm": (0.76, 0.8, 0.05, 8_212, 55 << 20, {}),
}


def record(task: str, attention: str, seed: int, rows: int, **changes: Any) -> dict[str, Any]:
    """A training record; `changes` replace top-level fields, and `config` is merged."""
    accuracy, train, inference, parameters, peak, effective = MECHANISMS[attention]
    linear = attention in ("tfidf", "nbsvm")
    config = {} if linear else {"num_hidden_layers": 1, "hidden_size": 64, "epochs": 6, "learning_rate": 1e-3}
    config |= {"max_length": 512, "batch_size": 32, "train_rows": 4000, "eval_rows": rows}
    config |= changes.pop("config", {})
    jitter = 1 + 0.03 * seed
    part = {"name": task, "fingerprint": fingerprint(task), "split": "train", "rows": 4000}
    return {
        "schema": 1,
        "run_id": fingerprint(task, attention, str(seed), json.dumps(config, sort_keys=True)),
        "kind": "train",
        "status": "ok",
        "error": None,
        "task": task,
        "attention": attention,
        "init": "scratch",
        "config": config,
        "seed": seed,
        "metrics": {"accuracy": accuracy, "f1": accuracy - 0.01, "loss": 0.3, "train_accuracy": 0.97},
        "chosen_epoch": None if linear else 6,
        "train_seconds": train * jitter,
        "eval_seconds": inference * jitter,
        "cpu_seconds": train * 2,
        "samples_per_second": rows / inference,
        "tokens_per_second": 300 * rows / inference,
        "peak_memory_bytes": peak,
        "memory_kind": "rss_above_program",
        "num_parameters": parameters,
        "truncated_fraction": 0.0,
        "padded_fraction": 0.0 if linear else 0.043,
        "effective_attention": effective,
        "dataset": {
            "train": part,
            "eval": part | {"split": "validation", "rows": rows, "fingerprint": fingerprint(task, "eval")},
            "label_names": ["negative", "positive"],
        },
        "environment": dict(ENVIRONMENT),
        "created": f"2026-11-22T10:0{seed}:00Z",
    } | changes


def looked_at_closely(run: dict[str, Any], rows: int = 400) -> dict[str, Any]:
    """The record with what is measured beside accuracy, made up and in agreement with its accuracy."""
    accuracy = run["metrics"]["accuracy"]
    right = round(accuracy * rows / 2)
    wrong = rows // 2 - right
    share = {"precision": right / (right + wrong), "recall": right / (right + wrong), "f1": right / (right + wrong)}
    bins = [{"low": k / 15, "high": (k + 1) / 15, "answers": 10 * k, "confidence": (k + 0.5) / 15,
             "right": min(1.0, accuracy * (k + 0.5) / 13)} for k in range(7, 15)]  # fmt: skip
    slices = [{"from": n + 1, "to": 2 * n, "truncated": n == 512, "rows": rows // 4, "value": accuracy,
               "low": accuracy - 0.07, "high": min(1.0, accuracy + 0.06)} for n in (64, 128, 256, 512)]  # fmt: skip
    return run | {
        "per_class": {name: share | {"support": rows // 2} for name in run["dataset"]["label_names"]},
        "confusion_matrix": [[right, wrong], [wrong, right]],
        "calibration": {"ece": 0.05 * (2 - accuracy), "bins": bins},
        "by_length": {"measure": "accuracy", "slices": slices},
    }


def write_run(out: Path, run: dict[str, Any], accuracy: float | None = None, curve: int = 0) -> Path:
    """Writes a run's folder: predictions of about `accuracy` (and the record says so exactly), a history."""
    folder = out / "runs" / run["run_id"]
    rng = np.random.default_rng(int(run["run_id"], 16) % 2**32)
    if accuracy is not None:
        rows = run["dataset"]["eval"]["rows"]
        same = np.random.default_rng(7)  # the task's rows: the same labels and the same hard texts for every run
        labels, hard = same.integers(0, 2, rows), same.random(rows)
        correct = np.where(rng.random(rows) < 0.8, hard, rng.random(rows)) < accuracy
        confident = np.where(correct, 0.55, 0.05) + 0.4 * rng.random(rows)
        probabilities = np.stack([np.where(labels == 0, confident, 1 - confident)] * 2, axis=1)
        probabilities[:, 1] = 1 - probabilities[:, 0]
        order = rng.permutation(rows)  # the file's order means nothing: rows are joined by number
        write_predictions(folder / "predictions.parquet", 10 * order, labels[order], probabilities[order])
        run["metrics"]["accuracy"] = float((probabilities.argmax(1) == labels).mean())
    if curve:
        entries = []
        for epoch in range(1, curve + 1):
            near = 1 - np.exp(-0.6 * epoch)
            entries.append({
                "epoch": epoch,
                "step": 125 * epoch,
                "train_loss": float(0.69 - 0.45 * near + 0.01 * rng.standard_normal()),
                "train_accuracy": float(0.5 + 0.45 * near),
                "eval_loss": float(0.69 - 0.35 * near),
                "eval_accuracy": float(0.5 + (run["metrics"].get("accuracy", 0.6) - 0.5) * near),
                "selection_accuracy": None,
                "train_seconds": (run["train_seconds"] or 60.0) * epoch / curve,
                "eval_seconds": 2.0 * epoch,
            })  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    write_json(folder / "run.json", run)
    return folder


def attention_map(attention: str, size: int = 40, heads: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(size)
    scores = rng.standard_normal((heads, size, size)) * 1.5
    distance = np.abs(np.arange(size)[:, None] - np.arange(size))
    if attention == "longformer":
        scores = np.where((distance > 5) & (distance != np.arange(size)[:, None]), -np.inf, scores)
    weights = np.exp(scores)
    weights /= weights.sum(-1, keepdims=True)
    if attention == "linformer":
        weights -= 0.02
    words = ["<s>", "the", "plot", "$5", "</script>", "caf\u00e9", "not", "good", "but", "never"]
    tokens = [words[i % len(words)] for i in range(size)]
    return {"tokens": tokens, "layer": 0, "heads": np.round(weights, 4).tolist(), "note": "a generated review"}


def write_benchmarks(out: Path) -> None:
    """Dense grows with the square of the length, the others linearly: they cross at known lengths."""
    rng = np.random.default_rng(3)
    sizes = {"longformer": {"attention_window": 512}, "performer": {"num_features": 266},
             "linformer": {"projection_size": 256}}  # fmt: skip
    costs = {"dense": (4e-6, 2e-8), "longformer": (9e-6, 0), "performer": (3e-5, 0), "linformer": (3e-6, 0)}
    for attention, (linear, square) in costs.items():
        samples = []
        for length in (128, 256, 512, 1024, 2048, 4096):
            for phase, factor in (("forward", 1), ("training", 3.1)):
                median = factor * (linear * length + square * length * length)
                samples.append({
                    "length": length,
                    "phase": phase,
                    "seconds": [float(median * s) for s in np.exp(0.05 * rng.standard_normal(7))],
                    "peak_memory_bytes": int(factor * (2e6 + 9e3 * length + (10 * length**2 if square else 0))),
                    "floor_seconds": median / 1.7,
                })  # fmt: skip
        run = record("lengths", attention, 0, 0, kind="benchmark", metrics={}, train_seconds=None, samples=samples)
        shape = {"num_hidden_layers": 1, "hidden_size": 768, "num_attention_heads": 12, "sizes": "published"}
        run["config"] = {"attention": attention} | shape | sizes.get(attention, {})
        write_run(out, run)


def write_everything(out: Path, rows: int = 400) -> None:
    """Five mechanisms by three seeds, both baselines, a diverged and an out-of-memory run, maps, a benchmark, and a
    second task with one seed, two depths, a loaded machine and cut texts."""
    for attention, (accuracy, *_) in MECHANISMS.items():
        linear = attention in ("tfidf", "nbsvm")
        for seed in range(1 if linear else 3):
            run = record("reviews", attention, seed, rows)
            folder = write_run(out, run, accuracy + 0.004 * (seed - 1), 0 if linear else 6)
            if seed == 0 and not linear:
                size = 12 if attention == "dense" else 40
                write_json(folder / "attention_map.json", attention_map(attention, size))
    bad = {"metrics": {}, "train_seconds": None, "eval_seconds": None}
    write_run(out, record("reviews", "performer", 3, rows, status="diverged", error="loss is NaN at step 300", **bad),
              curve=3)  # fmt: skip
    write_run(out, record("reviews", "bigbird", 3, rows, status="out_of_memory", error="tried 12 GiB", **bad))
    for attention, accuracy in (("dense", 0.7), ("linformer", 0.66)):
        for depth in (1, 2):
            run = record("imdb", attention, 0, rows, config={"num_hidden_layers": depth}, truncated_fraction=0.125)
            run["environment"]["load_at_start"] = 1.7
            write_run(out, looked_at_closely(run), accuracy - 0.03 * depth, 6)
    write_run(out, record("imdb", "tfidf", 0, rows), 0.84)
    write_benchmarks(out)
