"""A linear model's checkpoint evaluated on a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longread import records
from longread.config import BASELINE_SETTINGS, RunConfig
from longread.data.examples import Examples
from longread.errors import UserError, option_name
from longread.inference.meter import Meter
from longread.inference.metrics import answers_of, mean_loss, metrics
from longread.inference.origin import folder_of
from longread.inference.quality import Evaluated, closer_look
from longread.inference.scored import LeaveOut, rows_to_score, split_record, write_answers
from longread.models.linear import LinearModel, load_linear
from longread.records import Dataset, RunRecord
from longread.system.measure import Stopwatch

OF_A_NETWORK = ("max_length", "tokens_per_micro_batch")


@dataclass(frozen=True)
class Scored:
    """A linear model's answers [R, C] to some rows, and what a record says of them."""

    answers: npt.NDArray[np.float32]
    cpu_seconds: float
    fields: dict[str, Any]


def score(model: LinearModel, examples: Examples) -> Scored:
    """Reads and answers all rows; the seconds are of both."""
    with (watch := Stopwatch()):
        encoded, words = model.encode(examples.texts, examples.pairs)
        logits = model.scores(encoded)
    problem, whole = examples.problem_type, np.zeros(len(words), dtype=bool)  # no text is cut
    answers, loss = answers_of(logits, problem), mean_loss(logits, examples.labels, problem)
    names, thresholds = model.label_names, model.decision.of(model.label_names)
    look = closer_look(
        examples.labels, answers, names, problem, thresholds=thresholds, tokens=words, truncated=whole
    )  # fmt: skip
    fields = look | {
        "metrics": metrics(examples.labels, answers, problem, thresholds) | {"loss": loss},
        "decision": model.decision.to_json() or None,
        "eval_seconds": watch.seconds,
        "samples_per_second": len(examples) / watch.seconds,
        "tokens_per_second": int(words.sum()) / watch.seconds,
        "num_parameters": model.num_features,
        "truncated_fraction": 0.0,
        "padded_fraction": 0.0,
    }
    return Scored(answers, watch.cpu_seconds, fields)


def evaluate_linear(
    config: RunConfig, checkpoint: str | Path, given: Mapping[str, Any], leave_out: LeaveOut
) -> Evaluated:
    """As `longread.inference.run.evaluated`. `given`: what was asked for that a linear model has no use for.

    UserError for a setting of networks.
    """
    unused = dict(given) | {name: getattr(config, name) for name in OF_A_NETWORK} | dict(config.options)
    for name, value in unused.items():
        if value:
            raise UserError(f"{option_name(name)}: {checkpoint} is a linear model, which has no such setting")
    device = torch.device("cpu")
    meter = Meter(device)
    model, _ = load_linear(folder_of(checkpoint))
    _, examples = rows_to_score(config, checkpoint, model.label_names, model.problem_type, model.decision, leave_out)
    if (examples.pairs is not None) != model.pairs:
        wanted = "pairs of texts" if model.pairs else "single texts"
        raise UserError(f"{checkpoint}: trained on {wanted}; check --text-columns")
    model.scores(model.encode(examples.texts[:1], examples.pairs and examples.pairs[:1])[0])  # loads scikit-learn
    done = score(model, examples)
    unnamed = ("attention", "train_rows")  # the checkpoint's own; it is not trained here
    named = {k: v for k, v in config.named().items() if k in BASELINE_SETTINGS and k not in unnamed}
    named |= {"attention": model.attention, "init": str(checkpoint)}
    record = RunRecord(
        run_id=records.run_id("evaluate", named, 0, (examples.fingerprint, model.fingerprint)),
        kind="evaluate",
        status="ok",
        task=config.task,
        attention=model.attention,
        init=str(checkpoint),
        config=named,
        seed=0,
        head_is_untrained=False,
        train_seconds=0.0,
        cpu_seconds=done.cpu_seconds,
        **done.fields,
        dataset=Dataset(
            label_names=model.label_names, problem_type=model.problem_type, eval=split_record(examples, config)
        ),
        **meter.fields(device, "float64"),
    )
    directory = config.out / "runs" / record.run_id
    thresholds = model.decision.of(model.label_names)
    write_answers(directory, examples, done.answers, thresholds)
    return Evaluated(records.write_record(config.out, record), examples, done.answers, thresholds)
