"""Which models fit into a time: lengths, sizes, epochs and seeds, by what a short measurement says that each takes.

Accuracies play no part in the choice: all that is looked at are the texts of the training rows and seconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.config import RunConfig
from longread.errors import UserError
from longread.problems import REGRESSION, ProblemType
from longread.settings import Settings

SIZES = ((1, 64, 4), (2, 128, 4), (4, 256, 8))  # layers, width, heads
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
WHOLE = 0.95  # of the texts are to be read whole
FEWEST_LENGTHS = 3  # that are tried: the one that reads most texts whole, and the next shorter ones
STEPS = 600  # updates that a model from scratch is given where rows are few
FEWEST_STEPS = 150  # with fewer, a model from scratch has learned next to nothing
MOST_EPOCHS = 40
FOR_THE_REPORT = 0.05  # of the time, and at least so many seconds
REPORT_SECONDS = 6.0
FOR_MEASURING = 0.2  # of the time
LARGER = 1.5  # a larger model, or twice the length, takes at least so many times as long: not worth measuring
FURTHER_SEEDS = (1, 2)  # with three, differences can be tested
UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds_of(text: str) -> float:
    """Of "90s", "20m", "1h30m". UserError for anything else."""
    if not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", text) or not text:
        raise UserError(f"--budget {text}: give a time with its unit, such as 90s, 20m or 1h30m")
    found = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
    if not found:
        raise UserError(f"--budget {text}: give a time above 0")
    return float(found)


def report_seconds(budget: float) -> float:
    """What is kept for the report."""
    return max(REPORT_SECONDS, FOR_THE_REPORT * budget)


@dataclass(frozen=True)
class Cost:
    """Seconds of a run: before its first step, of a pass over the training rows, of answering the evaluation rows.

    dense: on these texts the mechanism is full attention.
    """

    begin: float
    epoch: float = 0.0
    evaluation: float = 0.0
    dense: bool = False

    def of(self, epochs: int) -> float:
        return self.begin + epochs * (self.epoch + self.evaluation)


@dataclass(frozen=True)
class Texts:
    """The training rows: how many, and the tokens of a sample of them, uncut. longest: that the model can read."""

    rows: int
    lengths: npt.NDArray[np.int64]
    problem_type: ProblemType
    longest: int = LENGTHS[-1]


@dataclass(frozen=True)
class Entry:
    """A run of a plan, and the seconds that it is expected to take."""

    config: RunConfig
    seconds: float


@dataclass
class Plan:
    """Runs in their order, and what there was no time or no use for: (what, why). spare: runs for which there may be
    time in the end."""

    entries: list[Entry] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    spare: list[Entry] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)


Measure = Callable[[RunConfig], Cost]


def make_plan(
    configs: Sequence[RunConfig],
    texts: Texts,
    measure: Measure,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    began: float | None = None,
) -> Plan:
    """`configs`: each linear model, and each mechanism, depth and seed that was asked for, all else as it was given.

    The linear models come first. Then all mechanisms that fit, at one length, one size and one number of epochs, so
    that they can be compared; then larger ones, dense attention on short texts, and further seeds, as far as there is
    time. What was given stays as it is. measure: of one configuration, on this machine. began: when the time began.
    """
    return _Planner(configs, texts, measure, seconds, clock, clock() if began is None else began).plan()


class _Planner:
    def __init__(
        self,
        configs: Sequence[RunConfig],
        texts: Texts,
        measure: Measure,
        seconds: float,
        clock: Callable[[], float],
        began: float,
    ) -> None:
        self.linear = [config for config in configs if config.is_baseline]
        self.asked = [config for config in configs if not config.is_baseline]
        self.texts, self.measure, self.clock, self.began = texts, measure, clock, began
        self.limit = seconds - report_seconds(seconds)
        self.measuring_ends = began + FOR_MEASURING * seconds
        self.done = Plan()
        self.costs: dict[tuple[str, int | None, int, int], Cost] = {}

    @property
    def left(self) -> float:
        """Seconds that nothing is planned for."""
        return self.limit - (self.clock() - self.began) - self.done.seconds

    def plan(self) -> Plan:
        self._linear_models()
        if self.asked:
            first = self._first_round()
            if first:
                self._short_dense(first)
                self._larger(first)
                self._further_seeds(first)
        while self.done.entries and self.left < 0:  # what measuring has taken since
            last = self.done.entries.pop()
            self.done.left_out.append((described(last.config), f"would take about {duration(last.seconds)}"))
        return self.done

    def _linear_models(self) -> None:
        for config in self.linear:
            if config.attention == "nbsvm" and self.texts.problem_type == REGRESSION:
                self.done.left_out.append((config.attention, "predicts classes, not numbers"))
                continue
            self._add([config], self.measure(config).begin)

    def _add(self, configs: Sequence[RunConfig], each: float) -> None:
        """All of them, or none and why."""
        need = each * len(configs)
        if need > self.left:
            why = f"would take about {duration(need)}; {duration(max(0.0, self.left))} left"
            self.done.left_out.append((described(configs[0]), why))
            self.done.spare += [Entry(config, each) for config in configs]
        else:
            self.done.entries += [Entry(config, each) for config in configs]

    def _cost(self, config: RunConfig) -> Cost | None:
        """Measured once for each shape. Where measuring has had its part of the time, the most that another mechanism
        of this size and length takes; None where there is no other."""
        key = (config.attention, config.max_length, *shape_of(config))
        if key not in self.costs:
            measured = any(k[0] == key[0] and k[2:] == key[2:] for k in self.costs)  # of another length: that is enough
            if self.clock() <= self.measuring_ends or not self.costs or measured:
                self.costs[key] = self.measure(config)
            else:
                alike = [cost for k, cost in self.costs.items() if k[1:] == key[1:]]
                return replace(max(alike, key=lambda cost: cost.epoch), dense=False) if alike else None
        return self.costs[key]

    def _first_round(self) -> list[RunConfig]:
        """Every mechanism that fits at one length and number of epochs; their configurations, the fastest first."""
        mechanisms = list(dict.fromkeys(config.attention for config in self.asked))
        depth = min(config.num_hidden_layers for config in self.asked)
        seeds = [c for c in self.asked if c.num_hidden_layers == depth]
        best: tuple[list[list[RunConfig]], list[float]] | None = None
        refused: list[tuple[str, str]] = []
        spare: list[Entry] = []
        places = product(enumerate(self.lengths()), enumerate(self.epochs()))
        for (_, length), (_, epochs) in sorted(places, key=lambda p: (p[0][0] + p[1][0], p[0][0])):
            found, each, out, timed, late = [], [], [], [], []
            for name in mechanisms:
                members = [replace(c, max_length=length, epochs=epochs) for c in seeds if c.attention == name]
                cost = self._cost(members[0])
                what = described(members[0])
                if cost is None:
                    out.append((what, "not measured: measuring has had its part of the time"))
                elif cost.dense and name != "dense" and "dense" in mechanisms:
                    out.append((what, "full attention at this length: the same as dense"))
                else:
                    timed.append((cost.of(epochs) * len(members), members, what))
            room = self.left
            for need, members, what in sorted(timed, key=lambda t: t[0]):
                if need > room:
                    out.append((what, f"would take about {duration(need)}; {duration(max(0.0, room))} left"))
                    late += [Entry(config, need / len(members)) for config in members]
                    continue
                room -= need
                found.append(members)
                each.append(need / len(members))
            if best is None or len(found) > len(best[0]):
                best, refused, spare = (found, each), out, late
            if found and len(found) == len(timed):
                break
        assert best is not None
        for members, one in zip(*best, strict=True):
            self.done.entries += [Entry(config, one) for config in members]
        self.done.left_out += refused
        self.done.spare += spare
        return [members[0] for members in best[0]]

    def _short_dense(self, first: Sequence[RunConfig]) -> None:
        """Is the whole text needed? Dense attention on its beginning tells, and is fast."""
        length = first[0].max_length
        assert length
        if (
            self.asked[0].max_length is None
            and length // 4 >= LENGTHS[0]
            and any(c.attention == "dense" for c in first)
        ):
            config = replace(next(c for c in first if c.attention == "dense"), max_length=length // 4)
            self._try([config])

    def _larger(self, first: Sequence[RunConfig]) -> None:
        small = list(first)
        for size in self.sizes():
            larger = [replace(config, **size) for config in small]
            small = [config for config in larger if self._try([config])]

    def _further_seeds(self, first: Sequence[RunConfig]) -> None:
        if len({config.seed for config in self.asked}) > 1:
            return
        for seed in FURTHER_SEEDS:
            configs = [replace(config, seed=seed) for config in first]
            need = sum(cost.of(c.epochs or 1) for c in configs if (cost := self._cost(c)))
            if need > self.left:
                told = f"would take about {duration(need)}; {duration(max(0.0, self.left))} left"
                self.done.left_out.append((f"seed {seed} of the first {len(configs)}", told))
                return
            for config in configs:
                cost = self._cost(config)
                assert cost is not None
                self.done.entries.append(Entry(config, cost.of(config.epochs or 1)))

    def _try(self, configs: Sequence[RunConfig]) -> bool:
        """Whether they are in the plan; only what has a chance to fit is measured."""
        config = configs[0]
        known = [c.of(config.epochs or 1) for k, c in self.costs.items() if k[0] == config.attention]
        smaller = max((k for k in known), default=0.0)
        longer = any((k[1] or 0) > (config.max_length or 0) for k in self.costs if k[0] == config.attention)
        if not longer and LARGER * smaller > self.left:
            why = f"would take {duration(LARGER * smaller)} or more; {duration(max(0.0, self.left))} left"
            self.done.left_out.append((described(config), why))
            return False
        cost = self._cost(config)
        if cost is None:
            self.done.left_out.append((described(config), "not measured: measuring has had its part of the time"))
            return False
        before = len(self.done.entries)
        self._add(configs, cost.of(config.epochs or 1))
        return len(self.done.entries) > before

    def lengths(self) -> list[int]:
        """Those to try, the best first: as given, or the shortest that reads most texts whole, and shorter ones."""
        given = self.asked[0].max_length
        if given is not None:
            return [given]
        lengths = [n for n in LENGTHS if n <= self.texts.longest] or [self.texts.longest]
        enough = [n for n in lengths if (self.texts.lengths <= n).mean() >= WHOLE]
        first = enough[0] if enough else lengths[-1]
        return [n for n in reversed(lengths) if n <= first][:FEWEST_LENGTHS]

    def epochs(self) -> list[int]:
        """Those to try, the best first: as given, or the default, more where rows are few, and by halves."""
        config = self.asked[0]
        if config.epochs is not None:
            return [config.epochs]
        usual = 10 if config.init == "scratch" else 3
        steps = -(-self.texts.rows // config.batch_size)
        more = min(MOST_EPOCHS, -(-STEPS // steps)) if config.init == "scratch" else usual
        found = [max(more, usual)]
        while found[-1] > -(-usual // 4):
            found.append(-(-found[-1] // 2))
        enough = FEWEST_STEPS if config.init == "scratch" else 0
        return [epochs for epochs in found if epochs * steps >= enough] or found[:1]

    def sizes(self) -> list[dict[str, Any]]:
        """The larger ones; none where a size was given, or a checkpoint brings its own."""
        config = self.asked[0]
        depths = sorted({c.num_hidden_layers for c in self.asked})
        if config.init != "scratch":
            return []
        if len(depths) > 1:
            return [{"num_hidden_layers": depth} for depth in depths[1:]]
        usual = Settings()
        fixed = ("hidden_size", "num_attention_heads", "head_dim", "intermediate_size")
        if depths != [1] or any(getattr(config, name) != getattr(usual, name) for name in fixed):
            return []
        names = ("num_hidden_layers", "hidden_size", "num_attention_heads")
        return [dict(zip(names, size, strict=True)) for size in SIZES[1:]]


def shape_of(config: RunConfig) -> tuple[int, int]:
    return config.num_hidden_layers, config.hidden_size


def described(config: RunConfig, *, brief: bool = False) -> str:
    """longformer, 2 x 128, 1,024 tokens, 10 epochs; a linear model is its name. brief: without tokens and epochs.

    What is not set (a checkpoint's own length, the epochs of a distillation) is left out.
    """
    if config.is_baseline:
        return config.attention
    shape = "" if config.init != "scratch" else f", {config.num_hidden_layers} x {config.hidden_size}"
    seed = f", seed {config.seed}" if config.seed else ""
    length = f", {config.max_length:,} tokens" if config.max_length and not brief else ""
    length += f", {config.epochs} epochs" if config.epochs and not brief else ""
    return f"{config.attention}{shape}{length}{seed}"


def duration(seconds: float) -> str:
    """12 s, 3:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
