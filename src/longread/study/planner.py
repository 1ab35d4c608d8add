"""Which models fit into a time: lengths, sizes, epochs and seeds, by what a short measurement says that each takes.

Accuracies play no part in the choice: all that is looked at are the texts of the training rows and seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from longread.config import RunConfig
from longread.problems import REGRESSION
from longread.settings import Settings
from longread.study.plan import LENGTHS, Cost, Entry, Plan, Texts, described, duration, no_time, report_seconds

SIZES = ((1, 64, 4), (2, 128, 4), (4, 256, 8))  # layers, width, heads
WHOLE = 0.95  # of the texts are to be read whole
FEWEST_LENGTHS = 3  # that are tried: the one that reads most texts whole, and the next shorter ones
STEPS = 600  # updates that a model from scratch is given where rows are few
FEWEST_STEPS = 150  # with fewer, a model from scratch has learned next to nothing
MOST_EPOCHS = 40
FOR_MEASURING = 0.2  # of the time
LARGER = 1.5  # a larger model, or twice the length, takes at least so many times as long: not worth measuring
FURTHER_SEEDS = (1, 2)  # with three, differences can be tested
NOT_MEASURED = "not measured: measuring has had its part of the time"

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


@dataclass
class _Round:
    """Mechanisms at one length and number of epochs, each with the runs of its seeds: what fits, and what does not."""

    fit: list[list[Entry]] = field(default_factory=list)
    late: list[list[Entry]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


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
            self._add(Entry(config, self.measure(config).begin))

    def _add(self, entry: Entry) -> bool:
        """Whether there is time for it; else why not is said, and it waits for time to spare."""
        if entry.seconds <= self.left:
            self.done.entries.append(entry)
            return True
        self.done.left_out.append((described(entry.config), no_time(entry.seconds, self.left)))
        self.done.spare.append(entry)
        return False

    def _cost(self, config: RunConfig) -> Cost | None:
        """Measured once for each shape. Where measuring has had its part of the time, the most that another mechanism
        of this size and length takes; None where there is no other."""
        key = (config.attention, config.max_length, config.num_hidden_layers, config.hidden_size)
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
        depth = min(config.num_hidden_layers for config in self.asked)
        seeds = [config for config in self.asked if config.num_hidden_layers == depth]
        best: _Round | None = None
        for length, epochs in self._choices():
            tried = self._round([replace(config, max_length=length, epochs=epochs) for config in seeds])
            if best is None or len(tried.fit) > len(best.fit):
                best = tried
            if tried.fit and not tried.late:
                break
        assert best is not None
        self.done.entries += [entry for entries in best.fit for entry in entries]
        self.done.spare += [entry for entries in best.late for entry in entries]
        self.done.left_out += best.left_out
        return [entries[0].config for entries in best.fit]

    def _choices(self) -> list[tuple[int, int]]:
        """Length and epochs, the best first: by how many steps down both are together, the longer text before."""
        lengths, epochs = self.lengths(), self.epochs()
        places = sorted(product(range(len(lengths)), range(len(epochs))), key=lambda place: (sum(place), place[0]))
        return [(lengths[i], epochs[j]) for i, j in places]

    def _round(self, configs: Sequence[RunConfig]) -> _Round:
        """`configs`: every mechanism and seed, all else alike. The fastest mechanisms fit first."""
        tried, timed = _Round(), []
        mechanisms = list(dict.fromkeys(config.attention for config in configs))
        for name in mechanisms:
            own = [config for config in configs if config.attention == name]
            cost = self._cost(own[0])
            if cost is None:
                tried.left_out.append((described(own[0]), NOT_MEASURED))
            elif cost.dense and name != "dense" and "dense" in mechanisms:
                tried.left_out.append((described(own[0]), "full attention at this length: the same as dense"))
            else:
                timed.append([Entry(config, cost.of(config.epochs or 1)) for config in own])
        room = self.left
        for entries in sorted(timed, key=_seconds):
            need = _seconds(entries)
            if need > room:
                tried.left_out.append((described(entries[0].config), no_time(need, room)))
                tried.late.append(entries)
            else:
                room -= need
                tried.fit.append(entries)
        return tried

    def _short_dense(self, first: Sequence[RunConfig]) -> None:
        """Is the whole text needed? Dense attention on its beginning tells, and is fast."""
        length = first[0].max_length
        assert length
        dense = next((config for config in first if config.attention == "dense"), None)
        if dense is not None and self.asked[0].max_length is None and length // 4 >= LENGTHS[0]:
            self._try(replace(dense, max_length=length // 4))

    def _larger(self, first: Sequence[RunConfig]) -> None:
        small = list(first)
        for size in self.sizes():
            larger = [replace(config, **size) for config in small]
            small = [config for config in larger if self._try(config)]

    def _further_seeds(self, first: Sequence[RunConfig]) -> None:
        if len({config.seed for config in self.asked}) > 1:
            return
        for seed in FURTHER_SEEDS:
            entries = []
            for config in first:
                cost = self._cost(config)  # no other than that of the first seed
                assert cost is not None
                entries.append(Entry(replace(config, seed=seed), cost.of(config.epochs or 1)))
            if (need := _seconds(entries)) > self.left:
                self.done.left_out.append((f"seed {seed} of the first {len(entries)}", no_time(need, self.left)))
                return
            self.done.entries += entries

    def _try(self, config: RunConfig) -> bool:
        """Whether it is in the plan; only what has a chance to fit is measured."""
        known = [(k, cost) for k, cost in self.costs.items() if k[0] == config.attention]
        longest = max((k[1] or 0 for k, _ in known), default=0)
        least = LARGER * max((cost.of(config.epochs or 1) for _, cost in known), default=0.0)
        if longest <= (config.max_length or 0) and least > self.left:
            why = f"would take {duration(least)} or more; {duration(max(0.0, self.left))} left"
            self.done.left_out.append((described(config), why))
            return False
        cost = self._cost(config)
        if cost is None:
            self.done.left_out.append((described(config), NOT_MEASURED))
            return False
        return self._add(Entry(config, cost.of(config.epochs or 1)))

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


def _seconds(entries: Sequence[Entry]) -> float:
    return sum(entry.seconds for entry in entries)
