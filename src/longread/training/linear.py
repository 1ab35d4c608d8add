"""A linear model on word counts, recorded and kept like any other run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from longread import records
from longread.config import RunConfig
from longread.data.examples import Examples
from longread.data.load import check_classes, load_task
from longread.errors import UserError
from longread.inference.origin import Origin
from longread.inference.run_linear import score
from longread.models.linear import save_linear
from longread.problems import SINGLE_LABEL
from longread.records import Dataset, Environment, Run, RunRecord
from longread.system.measure import PeakMemory, Stopwatch, environment, foreign_load
from longread.training.card import write_card
from longread.training.lineage import Provenance
from longread.training.trainer import Event
from longread.training.work import split_record

CPU = torch.device("cpu")


def train_linear(config: RunConfig, on_event: Callable[[Event], None]) -> Run:
    """As `longread.training.run.train`, of a linear model; nothing is gone on with, it takes seconds."""
    load = foreign_load()
    memory = PeakMemory(CPU)
    train_rows, evaluation = load_task(config.data_config())
    check_classes(train_rows)
    if train_rows.problem_type != SINGLE_LABEL:
        raise UserError(f"--attention {config.attention}: takes one class for each text, not {train_rows.problem_type}")
    config = replace(config, seed=0)  # nothing in it is drawn by chance
    name = records.run_id("train", config.named(), 0, (train_rows.fingerprint, evaluation.fingerprint))
    with records.locked(config.out / "runs" / name):
        finished = records.find_run(config.out, name)
        if finished is not None and finished.record["status"] == "ok":
            on_event({"event": "skipped", "run_id": name})
            return finished
        on_event(
            {"event": "start", "run_id": name, "rows": len(train_rows), "resumed": False, "config": config.named()}
        )
        run = _fit(config, name, train_rows, evaluation, load, memory)
    on_event({"event": "end", "run_id": name, "status": "ok", "error": None, "metrics": run.record["metrics"]})
    return run


def _fit(
    config: RunConfig, name: str, train_rows: Examples, evaluation: Examples, load: float | None, memory: PeakMemory
) -> Run:
    from longread.training import baselines  # scikit-learn with it: its loading is no part of the training's time

    directory = config.out / "runs" / name
    with (training := Stopwatch()):
        model = baselines.fit(config.attention, train_rows)
    done = score(model, evaluation)
    record = RunRecord(
        run_id=name,
        kind="train",
        status="ok",
        task=config.task,
        attention=config.attention,
        init="scratch",
        config=config.named(),
        seed=0,
        **done.fields,
        train_seconds=training.seconds,
        cpu_seconds=training.cpu_seconds + done.cpu_seconds,
        peak_memory_bytes=memory.bytes(),
        memory_kind=memory.kind,
        dataset=Dataset(
            label_names=train_rows.label_names,
            problem_type=train_rows.problem_type,
            train=split_record(train_rows, config),
            eval=split_record(evaluation, config),
        ),
        environment=Environment(**environment(CPU, "float64"), load_at_start=load, load_at_end=foreign_load()),
    )
    records.write_predictions(directory / "predictions.parquet", evaluation.rows, evaluation.labels, done.answers)
    trained_on = Origin(config.task, config.named(), evaluation.pairs is not None).to_json()
    save_linear(model, directory / "checkpoint", trained_on)
    Provenance(name, "train", training.seconds).write(directory / "checkpoint")
    write_card(Run(record.to_json(), directory), directory / "checkpoint")
    return records.write_record(config.out, record)
