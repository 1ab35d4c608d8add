"""A linear model on word counts, recorded and kept like any other run."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from longread import records
from longread.config import RunConfig
from longread.data.examples import Examples, carve
from longread.data.load import check_classes, load_task
from longread.data.stored import StoredTexts
from longread.inference.meter import Meter
from longread.inference.run_linear import score
from longread.inference.scored import split_record, write_answers
from longread.models.linear import LinearModel, check_kind, save_linear
from longread.records import Dataset, Run, RunRecord
from longread.system.measure import Stopwatch
from longread.training.balance import check_targets, weights_of
from longread.training.card import write_card
from longread.training.choice import check_choices, decide
from longread.training.events import Listener
from longread.training.lineage import Provenance, trained_on_rows

log = logging.getLogger("longread")

CPU = torch.device("cpu")


def train_linear(config: RunConfig, on_event: Listener) -> Run:
    """As `longread.training.run.train`, of a linear model; nothing is gone on with, it takes seconds."""
    meter = Meter(CPU)
    train_rows, evaluation = load_task(config.data_config())
    check_classes(train_rows)
    if isinstance(train_rows.texts, StoredTexts):
        log.warning(
            "%s counts the words of all %s training texts in memory, though the texts stay in files: gigabytes for "
            "millions of them; --train-rows takes fewer", config.attention, f"{len(train_rows):,}",
        )  # fmt: skip
    problem = train_rows.problem_type
    check_kind(config.attention, problem, weighted=config.class_weights != "none")
    check_choices(replace(config, choose_by=None), train_rows.label_names, problem)
    selection = None
    if config.decides:
        train_rows, selection = carve(train_rows, config.selection_fraction, config.sample_seed, config.task)
    check_targets(train_rows, replace(config, label_smoothing=0.0))
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
        run = _fit(config, name, train_rows, evaluation, selection, meter)
    on_event({"event": "end", "run_id": name, "status": "ok", "error": None, "metrics": run.record["metrics"]})
    return run


def _fit(
    config: RunConfig,
    name: str,
    train_rows: Examples,
    evaluation: Examples,
    selection: Examples | None,
    meter: Meter,
) -> Run:
    from longread.training import baselines  # scikit-learn with it: its loading is no part of the training's time

    directory = config.out / "runs" / name
    weights = weights_of(train_rows, config.class_weights)
    with (training := Stopwatch()):
        model = baselines.fit(config.attention, train_rows, weights=weights)
        if selection is not None:
            model = _decided(model, config, selection)
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
        dataset=Dataset(
            label_names=train_rows.label_names,
            problem_type=train_rows.problem_type,
            train=split_record(train_rows, config),
            eval=split_record(evaluation, config),
            selection=None if selection is None else split_record(selection, config),
        ),
        **meter.fields(CPU, "float64"),
    )
    write_answers(directory, evaluation, done.answers, model.decision.of(model.label_names))
    pairs = evaluation.pairs is not None
    trained_on = replace(trained_on_rows(record, config, train_rows.sources), pairs=pairs)
    save_linear(model, directory / "checkpoint", trained_on.to_json())
    Provenance(name, "train", training.seconds, trained_on=trained_on).write(directory / "checkpoint")
    write_card(Run(record.to_json(), directory), directory / "checkpoint")
    run = records.write_record(config.out, record)
    records.check_held(directory)
    return run


def _decided(model: LinearModel, config: RunConfig, rows: Examples) -> LinearModel:
    """With the temperature, in its weights, and the thresholds that the held-out rows tell."""
    logits = model.scores(model.encode(rows.texts, rows.pairs)[0])
    decision = decide(config, logits, rows.labels, rows.label_names, rows.problem_type)
    return replace(model.divided_by(decision.temperature or 1.0), decision=decision)
