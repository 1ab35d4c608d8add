"""Which settings a search may try: ranges and choices, read from words such as learning_rate=1e-4..1e-2."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from longread.checks import close_match
from longread.config import RunConfig
from longread.errors import UserError
from longread.study.chain import Step
from longread.training.resolve import mechanisms_with, own_options, resolve
from longread.training.unlabelled import OF_THE_PLACE, READ

DISTILL_STEPS = "distill_steps"
NOT_SEARCHED = ("task", "init", "seed", "out", "data_dir", "tuning_fraction", "eval_rows", "sample_seed")
OF_THE_TRAINING = ("learning_rate", "batch_size")  # a distillation has its own
Point = dict[str, Any]  # of a space: a value for each of its settings


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: fractions evenly on a logarithmic scale, whole numbers evenly."""

    low: float
    high: float
    whole: bool

    def at(self, share: float) -> float | int:
        """The value at a share in [0, 1) of the range."""
        if self.whole:
            return int(self.low + math.floor(share * (self.high - self.low + 1)))
        return float(f"{math.exp(math.log(self.low) + share * math.log(self.high / self.low)):.3g}")


@dataclass(frozen=True)
class Choice:
    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        return self.values[int(share * len(self.values))]


Space = dict[str, Range | Choice]


def read_space(words: Sequence[str]) -> Space:
    """UserError for a name that is no setting, or values that are none of its kind."""
    space: Space = {}
    known = [
        *(f.name for f in dataclasses.fields(RunConfig) if f.name not in (*NOT_SEARCHED, "options")),
        DISTILL_STEPS,
    ]
    for word in words:
        name, equals, text = word.partition("=")
        name = name.replace("-", "_")
        if name not in known and not mechanisms_with(name):
            raise UserError(f"--search {word}: {name} is no setting to search over{close_match(name, known)}")
        values = [_value(part) for part in text.replace("..", ",").split(",") if part]
        if not equals or not values:
            raise UserError(f"--search {word}: give NAME=LOW..HIGH or NAME=VALUE,VALUE")
        space[name] = _range(word, values) if ".." in text else Choice(tuple(values))
    return space


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _range(word: str, values: list[Any]) -> Range:
    numbers = len(values) == 2 and all(isinstance(value, int | float) for value in values)
    whole = all(isinstance(value, int) for value in values)
    if numbers and values[0] > values[1]:
        raise UserError(f"--search {word}: a range is LOW..HIGH, and {values[0]} is larger than {values[1]}")
    if not numbers or not values[0] < values[1] or (not whole and values[0] <= 0):
        raise UserError(f"--search {word}: a range is LOW..HIGH, two numbers, for fractions above 0")
    return Range(values[0], values[1], whole)


def default_space(base: RunConfig) -> Space:
    """Around what `base` would take: learning rate, epochs, length; from scratch the depth."""
    resolved = resolved_of(step_of(base, {}))
    assert resolved.learning_rate and resolved.epochs
    rate, epochs = resolved.learning_rate, resolved.epochs
    space: Space = {
        "learning_rate": Range(rate / 10, rate * 10, whole=False),
        "epochs": Choice(tuple(sorted({max(1, epochs // 2), epochs, 2 * epochs}))),
    }
    if resolved.max_length:
        space["max_length"] = Choice(tuple(sorted({max(16, resolved.max_length // part) for part in (4, 2, 1)})))
    if base.init == "scratch":
        space["num_hidden_layers"] = Choice((1, 2, 3))
    return space


def step_of(base: RunConfig, settings: Mapping[str, Any]) -> Step:
    """The run that these settings ask for; with distill_steps behind the distillation that it begins from.

    UserError for settings that do not go together.
    """
    values = dict(settings)
    steps = values.pop(DISTILL_STEPS, 0)
    attention = values.pop("attention", base.attention)
    fields = {f.name for f in dataclasses.fields(RunConfig)}
    own = {name: value for name, value in values.items() if name not in fields}
    options = own_options(attention, dict(base.options) | own)
    plain = {name: value for name, value in values.items() if name in fields}
    config = replace(base, attention=attention, options=options, **plain)
    if not steps or attention == "dense":
        return Step(config)
    kept = {name: getattr(config, name) for name in (*READ, *OF_THE_PLACE) if name not in OF_THE_TRAINING}
    return Step(replace(config, init="scratch"), init=Step(RunConfig(**kept), distill_steps=steps))


def resolved_of(step: Step) -> RunConfig:
    """With what the task and the origin of its weights decide filled in."""
    return resolve(step.config if step.init is None else replace(step.config, init="an earlier step"))


def check_space(base: RunConfig, space: Space) -> None:
    """UserError for a value that its setting cannot have."""
    for name, values in space.items():
        for value in (values.low, values.high) if isinstance(values, Range) else values.values:
            if name == DISTILL_STEPS and base.init == "scratch":
                raise UserError("--search distill_steps: needs a dense checkpoint to distil from; give --init")
            try:
                step_of(base, {name: int(value) if isinstance(values, Range) and values.whole else value})
            except UserError as error:
                if isinstance(values, Range) or len(values.values) > 1 or not isinstance(value, str):
                    raise
                raise UserError(f"--search {name}={value}: {error}; give LOW..HIGH or VALUE,VALUE") from None
