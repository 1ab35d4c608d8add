"""Which settings are tried next, and which trials are stopped early."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from longread.study.space import Choice, Point, Space

FACTOR = 3  # of the trials at a rung one in so many goes on


class Sampler(Protocol):
    name: str

    def ask(self, number: int) -> Point:
        """The settings of trial `number`."""

    def tell(self, settings: Mapping[str, Any], score: float) -> None:
        """What a trial came to; higher is better."""


class RandomSampler:
    """Each trial's settings are a function of the seed and its number."""

    name = "random"

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def ask(self, number: int) -> Point:
        draw = random.Random(f"{self.seed} {number}")
        return {name: values.at(draw.random()) for name, values in self.space.items()}

    def tell(self, settings: Mapping[str, Any], score: float) -> None:
        """It learns nothing."""


class OptunaSampler:
    """Optuna's tree-structured Parzen estimator, which learns from the trials before."""

    name = "TPE (Optuna)"

    def __init__(self, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
        )
        self.kinds: dict[str, Any] = {}
        for name, values in space.items():
            if isinstance(values, Choice):
                self.kinds[name] = optuna.distributions.CategoricalDistribution(values.values)
            elif values.whole:
                self.kinds[name] = optuna.distributions.IntDistribution(int(values.low), int(values.high))
            else:
                self.kinds[name] = optuna.distributions.FloatDistribution(values.low, values.high, log=True)

    def ask(self, number: int) -> Point:
        asked = self.study.ask(self.kinds).params
        return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in asked.items()}

    def tell(self, settings: Mapping[str, Any], score: float) -> None:
        """Settings outside the space (the defaults may be) teach nothing."""
        import optuna

        if settings.keys() != self.kinds.keys():
            return
        try:
            trial = optuna.trial.create_trial(params=dict(settings), distributions=self.kinds, value=score)
        except ValueError:
            return
        self.study.add_trial(trial)


def make_sampler(space: Space, seed: int, done: int) -> Sampler:
    """Optuna's where it is installed. `done`: trials that an earlier start has made; what comes is drawn anew."""
    try:
        return OptunaSampler(space, 1000 * seed + done)
    except ImportError:
        return RandomSampler(space, seed)


class Asha:
    """Asynchronous successive halving (Li et al. 2020), the rule that stops a trial, as Ray Tune has it.

    After 1, factor, factor², … epochs a trial goes on only if it is among the best 1/factor of those that came so far.
    """

    def __init__(self, factor: int = FACTOR) -> None:
        self.factor = factor
        self.seen: dict[int, list[float]] = {}

    def goes_on(self, epoch: int, score: float) -> bool:
        rung = 1
        while rung < epoch:
            rung *= self.factor
        if rung != epoch:
            return True
        before = self.seen.setdefault(epoch, [])
        cut = np.percentile(before, 100 * (1 - 1 / self.factor)) if before else -np.inf
        before.append(score)
        return bool(score >= cut)
