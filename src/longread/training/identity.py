"""Which run this is: the same work has the same name, so that a finished run is skipped and a stopped one found again.

The name is a hash of the resolved configuration, of the data and the tokenizer, of every initial weight, and of what a
checkpoint's config.json says beyond them. A run that stopped goes on as it began: its machine's settings are then the
ones of its state, not what this machine would choose.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, replace
from typing import Any

from longread import records
from longread.attention import ATTENTIONS
from longread.attention.pattern import make_options
from longread.config import RunConfig
from longread.errors import UserError, option_name
from longread.models.config import ClassifierConfig
from longread.models.weights import weights_fingerprint
from longread.training import state as states
from longread.training.work import Work

log = logging.getLogger("longread")

# What the machine decides where the configuration leaves it open. They may change the last bits of a result.
OF_THE_MACHINE = ("device", "precision", "tokens_per_micro_batch", "threads")
# Paths of what is hashed by its content.
BY_CONTENT = ("init", "tokenizer")


@dataclass(frozen=True)
class Identity:
    """`work_id` is the run's name without the machine's settings: equal for one piece of work on any machine."""

    config: RunConfig  # wholly resolved
    run_id: str
    work_id: str


def identify(work: Work, resolved: RunConfig) -> Identity:
    named = {name: value for name, value in work.named(resolved).items() if name not in BY_CONTENT}
    fingerprints = (*work.fingerprints, weights_fingerprint(work.model))
    if kept := _of_the_checkpoint(work.model.config, resolved):
        fingerprints += (records.canonical(kept),)

    def name(config: dict[str, Any]) -> str:
        return records.run_id(work.kind, config, resolved.seed, fingerprints)

    anywhere = {name: value for name, value in named.items() if name not in OF_THE_MACHINE}
    return Identity(resolved, name(named), name(anywhere))


def _of_the_checkpoint(model: ClassifierConfig, config: RunConfig) -> dict[str, Any]:
    """Settings that decide the result and show neither in the weights nor in `config`, such as a window that is kept.

    Those that naming the mechanism alone would give are none of them.
    """
    if config.init == "scratch":
        return {}
    given = dict(config.options)
    for name in model.mechanisms:
        given = ATTENTIONS[name].conversion_options(given, model.width_of_head)
    named = {k: v for own in make_options(model.attention, given) for k, v in dataclasses.asdict(own).items()}
    kept = {name: value for name, value in model.own_settings().items() if value != named[name]}
    if model.attention != config.attention:
        kept["attention"] = model.attention
    if model.position_kind == "rotary":
        kept["rotary_base"] = model.rotary_base
    return kept


def resumable(work: Work, wanted: Identity) -> Identity | None:
    """The stopped run that does this work, as it began; None where there is none.

    What `work.config` leaves to the machine is taken from there. UserError, with the difference, where it asks for
    another device, precision, token budget or number of threads than the stopped run has.
    """
    runs = work.config.out / "runs"
    if states.state_files(runs / wanted.run_id):
        return wanted
    others: list[str] = []
    alike: list[str] = []  # stopped with the same settings, on other rows or weights
    for directory in sorted({file.parent for file in runs.glob(f"*/{states.PATTERN}")}):
        values = states.read_values(directory)
        if values is None:
            continue
        if values.get("work_id") != wanted.work_id:
            alike += [directory.name] if _settings(values["config"]) == _settings(wanted.config.to_json()) else []
            continue
        began = {name: values["config"][name] for name in OF_THE_MACHINE}
        asked = {name: getattr(work.config, name) for name in OF_THE_MACHINE}
        different = {n: v for n, v in asked.items() if v not in (None, "auto") and v != began[n]}
        if not different:
            return identify(work, replace(wanted.config, **began))
        others.append(
            ", ".join(f"{option_name(name)} {began[name]} (not {value})" for name, value in different.items())
        )
    if others:
        raise UserError(
            f"this run was begun with {' and once with '.join(others)}; --resume needs what it was begun with. "
            "Leave these options out, or begin anew without --resume"
        )
    if alike:
        log.warning(
            "--resume: run %s was stopped with these settings, but on other rows or first weights, which have changed "
            "since; a new run begins", alike[-1],
        )  # fmt: skip
    return None


def _settings(config: dict[str, Any]) -> str:
    """Without the machine's."""
    return records.canonical({name: value for name, value in config.items() if name not in OF_THE_MACHINE})
