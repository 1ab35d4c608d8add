"""One run from configuration to record: data, model, loop, evaluation, files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longread import records
from longread.attention import ATTENTIONS
from longread.config import RunConfig
from longread.data.dataset import Prepared, Split, prepare
from longread.data.examples import Examples
from longread.data.load import check_classes, load_task
from longread.data.tasks import find_task
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.errors import UserError
from longread.inference.attention_maps import attention_map
from longread.inference.evaluate import Predictions, metrics
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.classifier import Classifier, build
from longread.models.loading import check_tokenizer
from longread.records import Dataset, Environment, Run, RunRecord, SplitRecord, conversion_under_current_names
from longread.records.record import Kind
from longread.system import runtime
from longread.system.measure import PeakMemory, Stopwatch, environment, foreign_load
from longread.training import baselines
from longread.training.resolve import resolve, resolve_machine
from longread.training.state import FILE as STATE_FILE
from longread.training.state import read_position
from longread.training.trainer import Diverged, Event, Interrupted, Trainer

log = logging.getLogger("longread")


def ignore(event: Event) -> None:
    """The listener of those who do not want to hear."""


@dataclass(frozen=True)
class _Start:
    model: Classifier
    data: Prepared
    init: str
    fingerprints: tuple[str, ...]


def train(config: RunConfig, *, resume: bool = False, on_event: Callable[[Event], None] = ignore) -> Run:
    """Train and evaluate one configuration; its record is in `OUT/runs/<run_id>/`.

    A finished run is not repeated. With `resume`, a stopped one goes on where it stopped. A run that diverges, runs
    out of memory or is interrupted leaves a record that says so. UserError for wrong input, before anything is written.
    """
    config = resolve(config)
    load = foreign_load()
    if config.is_baseline:
        return _train_baseline(config, on_event, load)
    device = runtime.pick_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    memory = PeakMemory(device)
    start = _start(config)
    name = records.run_id("train", config.named(), config.seed, start.fingerprints)
    directory = config.out / "runs" / name
    finished = records.find_run(config.out, name)
    if finished is not None and finished.record["status"] == "ok":
        on_event({"event": "skipped", "run_id": name})
        return finished
    position = read_position(directory) if resume else None
    if position is not None:  # what the machine decided when the run began stays decided
        resolved = RunConfig.from_json(position["config"] | {"out": str(config.out)})
    else:
        resolved = resolve_machine(config, start.model.config.hidden_size)
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = start.model.to(device)
    on_event({"event": "start", "run_id": name, "num_parameters": model.num_parameters, "rows": len(start.data.train)})
    record = _record("train", resolved, name, start)
    loop = Trainer(model, start.data, resolved, directory, on_event)
    try:
        loop.run(resume=position is not None)
        done = loop.predictions()
        record = replace(record, status="ok", error=None, **_results(start.data, done, loop))
    except Diverged as error:
        record = replace(record, status="diverged", error=str(error))
    except Interrupted:
        record = replace(record, status="interrupted", error="stopped by a signal; --resume goes on")
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        record = replace(record, status="out_of_memory", error=str(error).splitlines()[0])
    record = replace(
        record,
        train_seconds=loop.watch.seconds,
        cpu_seconds=loop.watch.cpu_seconds + (record.cpu_seconds or 0.0),
        padded_fraction=loop.usage.padded_fraction,
        peak_memory_bytes=memory.bytes(),
        memory_kind=memory.kind,
        environment=Environment(
            **environment(device, resolved.precision), load_at_start=load, load_at_end=foreign_load()
        ),
    )
    if record.status == "ok":
        records.write_predictions(
            directory / "predictions.parquet", start.data.evaluation.rows, start.data.evaluation.labels,
            done.probabilities,
        )  # fmt: skip
        # No line for each number: that would be four times the bytes.
        records.write_json(directory / "attention_map.json", attention_map(model, start.data), indent=None)
        save_checkpoint(model, start.data.tokenizer, directory / "checkpoint")
    run = records.write_record(config.out, record)
    if record.status != "interrupted":
        (directory / STATE_FILE).unlink(missing_ok=True)
    on_event({"event": "end", "run_id": name, "status": record.status, "error": record.error})
    return run


def _start(config: RunConfig) -> _Start:
    """Model and data. UserError before anything is written."""
    own = dict(config.options)
    if config.init == "scratch":
        assert config.max_length
        data = prepare(config.data_config(), config.max_length)
        shape = {
            name: getattr(config, name)
            for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "intermediate_size",
                         "dropout", "embedding_dropout", "attention_dropout", "norm_position", "pooling",
                         "max_length", "seed")
        }  # fmt: skip
        names = data.train.label_names
        model = build(
            config.attention,
            **shape,
            **own,
            vocab_size=data.tokenizer.vocab_size,
            type_vocab_size=0 if data.train.encoded.types is None else 2,
            num_labels=len(names),
            label_names=names,
        )
        return _Start(model, data, "scratch", (*data.fingerprints, "scratch"))
    train_rows, _ = load_task(config.data_config())
    names = train_rows.label_names
    rates = ("dropout", "embedding_dropout", "attention_dropout")
    overrides: dict[str, Any] = {name: getattr(config, name) for name in rates}
    if config.pooling:
        overrides["pooling"] = config.pooling
    model = from_pretrained(config.init, num_labels=len(names), seed=config.seed, label_names=names, **overrides)
    longest = max(config.max_length or 0, model.config.max_length)
    already = (config.attention, longest, vars(model.config.options) | own)
    if already != (model.config.attention, model.config.max_length, vars(model.config.options)):
        from longread.models.convert import convert

        model = convert(model, config.attention, longest, **own)
    given = load_tokenizer(config.tokenizer) if config.tokenizer else _own_tokenizer(model, config)
    check_tokenizer(model, given)
    limit = min(config.max_length or given.limit(model.config.max_length), model.config.max_length)
    data = prepare(config.data_config(), limit, given.reading(limit))
    weights = records.fingerprint(*(p.detach().cpu().numpy().tobytes() for p in model.embeddings.parameters()))
    return _Start(model, data, config.init, (*data.fingerprints, weights))


def _own_tokenizer(model: Classifier, config: RunConfig) -> Tokenizer:
    if model.tokenizer_file is None:
        raise UserError(f"--init {config.init}: the checkpoint brings no tokenizer; give one with --tokenizer DIR")
    return load_tokenizer(model.tokenizer_file)


def save_checkpoint(model: Classifier, tokenizer: Tokenizer, directory: Path) -> None:
    save_pretrained(model, directory, tokenizer=tokenizer)


def _record(kind: Kind, config: RunConfig, name: str, start: _Start) -> RunRecord:
    data = start.data
    truncated = np.concatenate([data.train.encoded.truncated, data.evaluation.encoded.truncated])
    lengths = data.train.lengths
    return RunRecord(
        run_id=name,
        kind=kind,
        status="error",
        error="it did not end",
        task=config.task,
        attention=config.attention,
        mechanism=ATTENTIONS[config.attention].look(),
        init=start.init,
        conversion=_conversion(start.model),
        config=config.named(),
        encoder=start.model.config.to_dict(),
        seed=config.seed,
        num_parameters=start.model.num_parameters,
        truncated_fraction=float(truncated.mean()),
        dataset=Dataset(
            label_names=data.train.label_names,
            train=split_record(data.train, config),
            eval=split_record(data.evaluation, config),
            selection=None if data.selection is None else split_record(data.selection, config),
            tokens_per_row={
                "mean": float(lengths.mean()),
                "median": float(np.median(lengths)),
                "longest": int(lengths.max()),
            },
        ),
    )


def _conversion(model: Classifier) -> dict[str, Any] | None:
    done = model.loading.converted if model.loading else None
    return None if done is None else conversion_under_current_names(done)


def split_record(rows: Split | Examples, config: RunConfig) -> SplitRecord:
    name = rows.name if isinstance(rows, Split) else rows.split
    return SplitRecord(
        name=rows.task,
        split=name,
        rows=len(rows),
        fingerprint=rows.fingerprint,
        rows_of_split=find_task(config.task).split_rows.get(name),
        pairs=bool(rows.pairs),
    )


def _results(data: Prepared, done: Predictions, loop: Trainer) -> dict[str, Any]:
    found = metrics(data.evaluation.labels, done.probabilities) | {"loss": done.loss}
    chosen = loop.chosen_epoch
    return {
        "metrics": found | {"train_accuracy": loop.history[chosen - 1]["train_accuracy"]},
        "chosen_epoch": chosen,
        "eval_seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "samples_per_second": len(data.evaluation) / done.seconds,
        "tokens_per_second": done.usage.tokens / done.seconds,
        "effective_attention": done.usage.effective_attention,
    }


def _train_baseline(config: RunConfig, on_event: Callable[[Event], None], load: float) -> Run:
    """A linear model on word counts, recorded like any other run."""
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
