"""A trained checkpoint in use: labels for texts, and its worth on a task."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longread import records
from longread.config import MECHANISM_SETTINGS, RunConfig
from longread.data.dataset import Split, tokenize
from longread.data.tasks import find_task, load_split
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.errors import UserError
from longread.inference.evaluate import metrics, predict_split
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier
from longread.records import Run
from longread.system import runtime
from longread.system.measure import PeakMemory, environment, foreign_load

log = logging.getLogger("longread")


@dataclass(frozen=True)
class Prediction:
    """`label` and the probability of each label, by name."""

    label: str
    probabilities: dict[str, float]
    truncated: bool = False  # the text was longer than the model reads; its end was not seen


@dataclass
class Predictor:
    """What `longread.load` returns."""

    model: Classifier
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    source: str
    tokens_per_micro_batch: int = 8192

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """A prediction for each text (with its partner from `pairs`, for tasks that compare two).

        UserError where `texts` is one string, or its length differs from that of `pairs`.
        """
        if isinstance(texts, str):
            raise UserError("predict wants a list of texts; write predict([text])")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts and {len(pairs)} partners; give each text one")
        if not texts:
            return []
        encoded = self.tokenizer.encode(texts, pairs, self.model.config.max_length)
        none = np.zeros(len(texts), dtype=np.int64)
        split = Split(encoded, none, none, "given", "given", self.label_names, "")
        found = predict_split(self.model, split, tokens=self.tokens_per_micro_batch, device=self.device)
        return [
            Prediction(
                self.label_names[int(row.argmax())],
                {name: float(share) for name, share in zip(self.label_names, row, strict=True)},
                bool(cut),
            )
            for row, cut in zip(found.probabilities, encoded.truncated, strict=True)
        ]


def load(place: str | Path, device: str = "auto", **overrides: Any) -> Predictor:
    """From a run's folder, its checkpoint folder, or any checkpoint that brings a tokenizer.

    overrides: as in `from_pretrained`. UserError for a place without a model or a tokenizer.
    """
    path = Path(place)
    if (path / "checkpoint").is_dir():
        path = path / "checkpoint"
    elif (path / "run.json").is_file():
        raise UserError(f"{path}: this run has no checkpoint (a baseline, or a run that failed); choose another one")
    model = from_pretrained(path if path.exists() else str(place), **overrides)
    file = model.tokenizer_file
    if file is None:
        raise UserError(f"{place}: the checkpoint brings no tokenizer; put its tokenizer.json beside config.json")
    names = model.config.label_names or tuple(f"LABEL_{i}" for i in range(model.config.num_labels))
    return Predictor(model.to(runtime.pick_device(device)).eval(), load_tokenizer(file), names, str(place))


def evaluate(config: RunConfig, checkpoint: str | Path, *, tokenizer: str | None = None) -> Run:
    """A checkpoint on a task without any training; the record is written like a training run's.

    `config` names the task, its rows and how to compute; the checkpoint's own shape counts, not the configuration's.
    """
    load_now = foreign_load()
    device = runtime.pick_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    memory = PeakMemory(device)
    own = config.mechanism()
    if tokenizer is None:
        classifier = load(checkpoint, device.type, **own)
        model, chosen, names = classifier.model, classifier.tokenizer, classifier.label_names
    else:
        model = from_pretrained(checkpoint, **own).to(device).eval()
        chosen = load_tokenizer(tokenizer)
        names = model.config.label_names or ()
    examples = load_split(
        config.task,
        data_dir=config.data_dir,
        rows=config.eval_rows,
        sample_seed=config.sample_seed,
        text_columns=config.text_columns,
        label_column=config.label_column,
    )
    if len(examples.label_names) != model.config.num_labels:
        raise UserError(
            f"{config.task} has {len(examples.label_names)} classes and {checkpoint} {model.config.num_labels} "
            f"({', '.join(names)}); evaluate it on a task with the same classes"
        )
    limit = min(config.max_length or model.config.max_length, model.config.max_length)
    split = tokenize(examples, chosen, limit, config.out / "cache")
    machine = runtime.resolve_machine(
        model.config.hidden_size,
        device=config.device,
        precision="float32" if config.precision == "auto" else config.precision,
        tokens_per_micro_batch=config.tokens_per_micro_batch,
        threads=config.threads,
    )
    settings = replace(
        config, attention=model.config.attention, init=str(checkpoint), max_length=limit, **vars(machine)
    )
    assert settings.tokens_per_micro_batch
    done = predict_split(
        model, split, tokens=settings.tokens_per_micro_batch, device=device, precision=settings.precision
    )
    weights = records.fingerprint(*(p.detach().float().cpu().numpy().tobytes() for p in model.parameters()))
    named = {k: v for k, v in settings.named().items() if k in EVALUATION_SETTINGS}
    name = records.run_id("evaluate", named, 0, (split.fingerprint, chosen.fingerprint, weights))
    record = {
        "schema": records.SCHEMA,
        "run_id": name,
        "kind": "evaluate",
        "status": "ok",
        "error": None,
        "task": config.task,
        "attention": model.config.attention,
        "init": str(checkpoint),
        "config": named,
        "encoder": model.config.to_dict(),
        "seed": 0,
        "metrics": metrics(split.labels, done.probabilities) | {"loss": done.loss},
        "head_is_untrained": bool(model.loading and model.loading.head_is_untrained),
        "train_seconds": 0.0,
        "eval_seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "samples_per_second": len(split) / done.seconds,
        "tokens_per_second": done.usage.tokens / done.seconds,
        "peak_memory_bytes": memory.bytes(),
        "memory_kind": memory.kind,
        "num_parameters": model.num_parameters,
        "truncated_fraction": float(split.encoded.truncated.mean()),
        "padded_fraction": done.usage.padded_fraction,
        "effective_attention": done.usage.effective_attention,
        "dataset": {
            "eval": split.describe() | {"rows_of_split": find_task(config.task).split_rows.get(split.name)},
            "label_names": list(split.label_names),
        },
        "environment": environment(device, settings.precision)
        | {"load_at_start": load_now, "load_at_end": foreign_load()},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    directory = config.out / "runs" / name
    directory.mkdir(parents=True, exist_ok=True)
    records.write_predictions(directory / "predictions.parquet", split.rows, split.labels, done.probabilities)
    records.write_json(directory / "run.json", record)
    return Run(record, directory)


EVALUATION_SETTINGS = (*MECHANISM_SETTINGS, "task", "attention", "init", "eval_rows", "sample_seed", "max_length",
                       "precision", "tokens_per_micro_batch", "device", "text_columns", "label_column")  # fmt: skip
