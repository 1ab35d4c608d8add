"""What a run was left to choose, decided: by the task, by where its weights come from, and by the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from longread.attention import ATTENTIONS
from longread.attention.pattern import canonical, make_options, mechanisms_of, settings_of
from longread.checks import close_match
from longread.config import BASELINES, RunConfig
from longread.data.tasks import find_task
from longread.errors import UserError
from longread.models.config import ClassifierConfig
from longread.settings import Settings
from longread.system import runtime

SCRATCH = {"epochs": 10, "learning_rate": 1e-3, "max_length": 4096, "pooling": "mean", "dropout": 0.1,
           "attention_dropout": 0.0}  # fmt: skip
PRETRAINED = {"epochs": 3, "learning_rate": 5e-5}


def resolve(config: RunConfig) -> RunConfig:
    """What was left open filled in, by the task and by where the weights come from; never by the machine.

    UserError for a task or attention that is not known.
    """
    task = find_task(config.task)
    config = replace(config, attention=known_attention(config.attention))
    defaults: dict[str, Any] = dict(SCRATCH if config.init == "scratch" else PRETRAINED)
    suggested = dict(task.suggested) if config.init == "scratch" else {}
    own = {name: suggested.pop(name) for name in list(suggested) if name not in Settings.__dataclass_fields__}
    defaults |= suggested | {"train_rows": task.train_rows, "eval_rows": task.eval_rows}
    open_fields = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    config = replace(config, **open_fields)
    runtime.pick_device(config.device)  # one that is not there is said before anything is read
    if config.is_baseline:
        return config
    config.cut  # noqa: B018 (what cannot be is said before anything is read)
    config = replace(config, options=own_options(config.attention, own) | dict(config.options))
    check_options(config)
    check_precision(config)
    if config.pooling == "positions" and config.init != "scratch":
        raise UserError("--pooling positions: only from scratch; with --init choose mean or first")
    if config.init == "scratch":  # what cannot be built is said before any data is read
        check_depth(config.attention, config.num_hidden_layers)
        shape = {name: getattr(config, name) for name in ("hidden_size", "num_attention_heads", "head_dim")}
        try:
            ClassifierConfig.from_dict({"attention": config.attention} | shape | dict(config.options))
        except ValueError as error:
            raise UserError(str(error)) from None
    return config


def own_options(attention: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that a mechanism of the pattern has; a baseline has none. UserError for an unknown one."""
    attention = known_attention(attention)
    known = set() if attention in BASELINES else set(settings_of(attention))
    return {name: value for name, value in options.items() if name in known}


def known_attention(attention: str) -> str:
    """A baseline's name or a pattern of mechanisms, in its one form. UserError where a name is not known."""
    if attention in BASELINES:
        return attention
    for name in attention.split() or [attention]:
        if name not in ATTENTIONS:
            raise UserError(_unknown(name, attention))
    return canonical(attention)


def check_depth(attention: str, num_hidden_layers: int, *, is_fixed: bool = False) -> None:
    """UserError for a pattern that a model is too shallow for: a part of it would not be used.

    is_fixed: the depth is a checkpoint's.
    """
    count = len(attention.split())
    if 1 < count > num_hidden_layers:
        right = "give a shorter one" if is_fixed else f"add --num-hidden-layers {count}"
        raise UserError(
            f"--attention {attention!r} is a pattern of {count} layers; a model of num_hidden_layers "
            f"{num_hidden_layers} has no room for it; {right}"
        )


def can_drop(attention: str) -> bool:
    """Whether all its mechanisms have attention probabilities to drop."""
    return attention not in BASELINES and all(m.supports_attention_dropout for m in mechanisms_of(attention).values())


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


def _unknown(name: str, attention: str) -> str:
    if name in BASELINES:
        return f"--attention {attention!r}: {name} is a model of its own, no part of a pattern"
    names = ATTENTIONS if len(attention.split()) > 1 else (*ATTENTIONS, *BASELINES)
    return f"--attention {name!r}: there is no such mechanism; there are {', '.join(names)}{close_match(name, names)}"


def check_options(config: RunConfig) -> None:
    """UserError for an option that the mechanism does not have, or that a checkpoint's weights leave no use for."""
    fields = settings_of(config.attention)
    for name in config.options:
        if name not in fields:
            why = unused(name, [config.attention])
            kept = (
                [n for n in mechanisms_with(name) if not ATTENTIONS[n].stands_alone] if config.init != "scratch" else []
            )
            if kept:  # they lie between the layers that --attention is for
                pattern = " ".join([config.attention, kept[0], kept[0]])
                raise UserError(f"{why}; a checkpoint's {kept[0]} layers keep theirs unless named, as in {pattern!r}")
            raise why
        if fields[name].metadata.get("from_scratch") and config.init != "scratch":
            raise UserError(f"{name}: only from scratch; with --init the checkpoint's weights decide it")
    if config.attention_dropout and not can_drop(config.attention):
        mechanism = next(m for m in mechanisms_of(config.attention).values() if not m.supports_attention_dropout)
        raise UserError(
            f"attention_dropout is {config.attention_dropout}; {mechanism.title} has no attention probabilities "
            "to drop, give it 0"
        )
    try:
        make_options(config.attention, config.options)
    except ValueError as error:
        raise UserError(str(error)) from None


def check_precision(config: RunConfig) -> None:
    """UserError for int8, which has no gradients."""
    if config.precision == "int8":
        raise UserError("--precision int8: for evaluate, predict and serve; training takes float32 or bfloat16")


def resolve_machine(config: RunConfig, hidden_size: int, num_hidden_layers: int = 1) -> RunConfig:
    """Device, threads, precision and tokens per micro-batch filled in, for a model of this size."""
    machine = runtime.resolve_machine(
        hidden_size,
        num_hidden_layers=num_hidden_layers,
        device=config.device,
        precision=config.precision,
        tokens_per_micro_batch=config.tokens_per_micro_batch,
        threads=config.threads,
    )
    return replace(config, **vars(machine))
