"""What a run was left to choose, decided: by the task, by where its weights come from, and by the machine."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

from longread.attention import ATTENTIONS
from longread.config import BASELINES, MECHANISM_SETTINGS, RunConfig
from longread.data.tasks import find_task
from longread.errors import UserError
from longread.models.classifier import ClassifierConfig
from longread.system import runtime

SCRATCH = {"epochs": 10, "learning_rate": 1e-3, "max_length": 4096, "pooling": "mean", "dropout": 0.1}
PRETRAINED = {"epochs": 3, "learning_rate": 5e-5, "dropout": 0.1}


def resolve(config: RunConfig) -> RunConfig:
    """What was left open filled in, by the task and by where the weights come from; never by the machine.

    UserError for a task or attention that is not known.
    """
    task = find_task(config.task)
    if config.attention not in ATTENTIONS and config.attention not in BASELINES:
        names = ", ".join((*ATTENTIONS, *BASELINES))
        raise UserError(f"--attention {config.attention!r}: there is no such mechanism; there are {names}")
    defaults: dict[str, Any] = dict(SCRATCH if config.init == "scratch" else PRETRAINED)
    if config.init == "scratch":
        defaults |= task.suggested
    defaults |= {"train_rows": task.train_rows, "eval_rows": task.eval_rows}
    open_fields = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    config = replace(config, **open_fields)
    if config.is_baseline:
        return config
    known = {field.name for field in dataclasses.fields(ATTENTIONS[config.attention].Options)}
    # A grid's settings are for the mechanisms that have them; the record of the others does not name them.
    foreign: dict[str, Any] = dict.fromkeys(set(MECHANISM_SETTINGS) - known)
    if config.attention != "linformer":
        foreign["projection_rate"] = 1.0
    if config.attention == "performer":
        foreign["attention_dropout"] = 0.0
    config = replace(config, **foreign)
    if config.pooling == "positions" and config.init != "scratch":
        raise UserError("--pooling positions: only from scratch; with --init choose mean or first")
    if config.projection_init is not None and config.init != "scratch":
        raise UserError("--projection-init: only from scratch; a checkpoint's conversion decides it")
    if config.init == "scratch":  # what cannot be built is said before any data is read
        shape = {name: getattr(config, name) for name in ("hidden_size", "num_attention_heads", "head_dim")}
        try:
            ClassifierConfig.from_dict({"attention": config.attention} | shape | config.mechanism())
        except ValueError as error:
            raise UserError(str(error)) from None
    return config


def resolve_machine(config: RunConfig, hidden_size: int) -> RunConfig:
    """Device, threads, precision and tokens per micro-batch filled in, for a model of this width."""
    machine = runtime.resolve_machine(
        hidden_size,
        device=config.device,
        precision=config.precision,
        tokens_per_micro_batch=config.tokens_per_micro_batch,
        threads=config.threads,
    )
    return replace(config, **vars(machine))
