"""A grid of runs, each in a process of its own, and the report on them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from longread.config import BASELINES, RunConfig
from longread.data.load import check_classes, load_task
from longread.errors import UserError
from longread.models.locate import locate
from longread.problems import REGRESSION
from longread.records import Run
from longread.study.benchmark import BenchmarkConfig
from longread.study.chain import Step
from longread.study.child import Event, measure_one, run_one
from longread.study.cluster import Cluster
from longread.study.ray import run_steps
from longread.training.resolve import can_drop, known_attention, own_options, resolve, unused
from longread.training.signals import signals_interrupt

log = logging.getLogger("longread")


def grid(
    base: RunConfig,
    *,
    tasks: Sequence[str],
    attentions: Sequence[str],
    depths: Sequence[int],
    seeds: Sequence[int],
    with_baselines: bool = True,
) -> list[RunConfig]:
    """Every combination; a baseline stands once for each task. Seeds are the outer loop: an early stop is fair.

    Settings of a mechanism go to those that have them. UserError for one that none of `attentions` has.
    """
    attentions = list(dict.fromkeys(map(known_attention, attentions)))
    for name in base.options:
        if not any(own_options(attention, {name: None}) for attention in attentions):
            raise unused(name, attentions)
    if base.attention_dropout and not any(map(can_drop, attentions)):
        raise UserError(f"attention_dropout: {', '.join(attentions)} has no attention probabilities to drop")
    configs = []
    for task in dict.fromkeys(tasks):
        if with_baselines:
            for name in BASELINES:
                weights = "none" if name == "majority" else base.class_weights  # it has none
                configs.append(replace(base, task=task, attention=name, options={}, class_weights=weights))
        combinations = itertools.product(dict.fromkeys(seeds), dict.fromkeys(depths), attentions)
        for seed, depth, attention in combinations:
            dropout = base.attention_dropout if can_drop(attention) else 0.0
            configs.append(
                replace(
                    base,
                    task=task,
                    attention=attention,
                    num_hidden_layers=depth,
                    seed=seed,
                    options=own_options(attention, base.options),
                    attention_dropout=dropout,
                )
            )
    return configs


def check(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """What is wrong with any run's input is said before the first one starts. UserError.

    Returned are those that can run: NB-SVM predicts no numbers.
    """
    first_of_task = {config.task: resolve(config) for config in reversed(configs)}
    for config in configs:
        resolve(config)
    for init in {config.init for config in configs} - {"scratch"}:
        locate(init)
    numbers = set()
    for task, config in first_of_task.items():
        train = load_task(config.data_config())[0]
        check_classes(train)
        if train.problem_type == REGRESSION:
            numbers.add(task)
    kept = [config for config in configs if not (config.attention == "nbsvm" and config.task in numbers)]
    if len(kept) < len(configs):
        log.info("no nbsvm on %s: it predicts classes, not numbers", ", ".join(numbers))
    return kept


def compare(
    configs: Sequence[RunConfig],
    *,
    on_event: Callable[[int, Event], None] = lambda index, event: None,
    cluster: Cluster | None = None,
) -> list[Run]:
    """Runs them one after the other; finished ones are skipped, stopped ones go on. One record for each.

    With a cluster, as many at once as it has room for. A run that fails leaves a record with its status, and the others
    are done. KeyboardInterrupt stops the grid after the runs under way have saved their states.
    """
    return run_all(check(configs), on_event, cluster)


def run_all(
    configs: Sequence[RunConfig], on_event: Callable[[int, Event], None], cluster: Cluster | None = None
) -> list[Run]:
    """`compare` for configurations that were checked."""
    if cluster is not None:
        return run_steps([Step(config) for config in configs], cluster, on_event=on_event)
    with signals_interrupt():
        return [run_one(index, config, on_event) for index, config in enumerate(configs)]


def benchmark_all(
    configs: Sequence[BenchmarkConfig], *, on_event: Callable[[int, Event], None] = lambda index, event: None
) -> list[Run]:
    """Each mechanism's times and memory by length, one process each."""
    with signals_interrupt():
        return [measure_one(index, config, on_event) for index, config in enumerate(configs)]
