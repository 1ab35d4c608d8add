"""What a run was left to choose, decided: by the task, by where its weights come from, and by the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from longread.attention import ATTENTIONS
from longread.checks import close_match
from longread.config import BASELINES, RunConfig, Settings
from longread.data.tasks import find_task
from longread.errors import UserError
from longread.models.config import ClassifierConfig
from longread.system import runtime

SCRATCH = {"epochs": 10, "learning_rate": 1e-3, "max_length": 4096, "pooling": "mean", "dropout": 0.1,
           "attention_dropout": 0.0}  # fmt: skip
PRETRAINED = {"epochs": 3, "learning_rate": 5e-5}


def resolve(config: RunConfig) -> RunConfig:
    """What was left open filled in, by the task and by where the weights come from; never by the machine.

    UserError for a task or attention that is not known.
    """
    task = find_task(config.task)
    if config.attention not in ATTENTIONS and config.attention not in BASELINES:
        raise UserError(_unknown(config.attention))
    defaults: dict[str, Any] = dict(SCRATCH if config.init == "scratch" else PRETRAINED)
    suggested = dict(task.suggested) if config.init == "scratch" else {}
    own = {name: suggested.pop(name) for name in list(suggested) if name not in Settings.__dataclass_fields__}
    defaults |= suggested | {"train_rows": task.train_rows, "eval_rows": task.eval_rows}
    open_fields = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    config = replace(config, **open_fields)
    runtime.pick_device(config.device)  # one that is not there is said before anything is read
    if config.is_baseline:
        return config
    config = replace(config, options=own_options(config.attention, own) | dict(config.options))
    check_options(config)
    if config.pooling == "positions" and config.init != "scratch":
        raise UserError("--pooling positions: only from scratch; with --init choose mean or first")
    if config.init == "scratch":  # what cannot be built is said before any data is read
        shape = {name: getattr(config, name) for name in ("hidden_size", "num_attention_heads", "head_dim")}
        try:
            ClassifierConfig.from_dict({"attention": config.attention} | shape | dict(config.options))
        except ValueError as error:
            raise UserError(str(error)) from None
    return config


def own_options(attention: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that the mechanism has; a baseline has none. UserError for one that no mechanism has."""
    mechanism = ATTENTIONS.get(attention)
    if mechanism is None and attention not in BASELINES:
        raise UserError(_unknown(attention))
    known = {field.name for field in dataclasses.fields(mechanism.Options)} if mechanism else set()
    return {name: value for name, value in options.items() if name in known}


def mechanisms_with(option: str) -> list[str]:
    """Names of the mechanisms that have an option."""
    return [name for name, mechanism in ATTENTIONS.items() if option in mechanism.Options.__dataclass_fields__]


def unused(option: str, attentions: Sequence[str]) -> UserError:
    """What to say of an option that none of these mechanisms has."""
    names = mechanisms_with(option)
    known = {name for mechanism in ATTENTIONS.values() for name in mechanism.Options.__dataclass_fields__}
    close = close_match(option, [*known, *RunConfig.__dataclass_fields__])
    whose = f"it is for {', '.join(names)}" if names else f"no mechanism has it{close}"
    return UserError(f"{option}: {', '.join(attentions)} attention has no such setting; {whose}")


def _unknown(attention: str) -> str:
    names = (*ATTENTIONS, *BASELINES)
    close = close_match(attention, names)
    return f"--attention {attention!r}: there is no such mechanism; there are {', '.join(names)}{close}"


def check_options(config: RunConfig) -> None:
    """UserError for an option that the mechanism does not have, or that a checkpoint's weights leave no use for."""
    mechanism = ATTENTIONS[config.attention]
    fields = {field.name: field for field in dataclasses.fields(mechanism.Options)}
    for name in config.options:
        if name not in fields:
            raise unused(name, [config.attention])
        if fields[name].metadata.get("from_scratch") and config.init != "scratch":
            raise UserError(f"{name}: only from scratch; with --init the checkpoint's weights decide it")
    if config.attention_dropout and not mechanism.supports_attention_dropout:
        raise UserError(
            f"attention_dropout is {config.attention_dropout}; {mechanism.title} has no attention probabilities "
            "to drop, give it 0"
        )
    try:
        mechanism.Options(**config.options)
    except ValueError as error:
        raise UserError(str(error)) from None


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
