"""A linear model on word counts, recorded like any other run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from longread import records
from longread.config import RunConfig
from longread.data.load import check_classes, load_task
from longread.inference.evaluate import metrics
from longread.records import Dataset, Environment, Run, RunRecord
from longread.system.measure import PeakMemory, Stopwatch, environment, foreign_load
from longread.training import baselines
from longread.training.trainer import Event
from longread.training.work import split_record


def train_linear(config: RunConfig, on_event: Callable[[Event], None]) -> Run:
    load = foreign_load()
    device = torch.device("cpu")
    memory = PeakMemory(device)
    train_rows, evaluation = load_task(config.data_config())
    check_classes(train_rows)
    config = replace(config, seed=0)  # nothing in it is drawn by chance
    name = records.run_id("train", config.named(), 0, (train_rows.fingerprint, evaluation.fingerprint))
    directory = config.out / "runs" / name
    finished = records.find_run(config.out, name)
    if finished is not None and finished.record["status"] == "ok":
        on_event({"event": "skipped", "run_id": name})
        return finished
    on_event({"event": "start", "run_id": name, "rows": len(train_rows)})
    with (watch := Stopwatch()):
        done = baselines.fit_predict(config.attention, train_rows, evaluation, seed=0)
    record = RunRecord(
        run_id=name,
        kind="train",
        status="ok",
        task=config.task,
        attention=config.attention,
        init="scratch",
        config=config.named(),
        seed=0,
        metrics=metrics(evaluation.labels, done.probabilities)
        | {"loss": _log_loss(evaluation.labels, done.probabilities)},
        train_seconds=done.train_seconds,
        eval_seconds=done.eval_seconds,
        cpu_seconds=watch.cpu_seconds,
        samples_per_second=len(evaluation) / done.eval_seconds,
        peak_memory_bytes=memory.bytes(),
        memory_kind=memory.kind,
        num_parameters=done.num_features,
        truncated_fraction=0.0,
        padded_fraction=0.0,
        dataset=Dataset(
            label_names=train_rows.label_names,
            train=split_record(train_rows, config),
            eval=split_record(evaluation, config),
        ),
        environment=Environment(**environment(device, "float64"), load_at_start=load, load_at_end=foreign_load()),
    )
    records.write_predictions(directory / "predictions.parquet", evaluation.rows, evaluation.labels, done.probabilities)
    run = records.write_record(config.out, record)
    on_event({"event": "end", "run_id": name, "status": "ok", "error": None})
    return run


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())
