"""`longread tune`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from longread.cli import logs
from longread.cli.cluster import CLUSTER, OfCluster, On, cluster_of
from longread.cli.options import (
    MACHINE,
    MODEL,
    NONE_GIVEN,
    ROWS,
    TRAINING,
    OfMachine,
    OfMechanisms,
    OfModel,
    OfRows,
    OfTraining,
    Several,
    refuse_unused,
    run_config,
)
from longread.cli.status import status_of
from longread.errors import UserError

if TYPE_CHECKING:
    from longread.config import RunConfig
    from longread.records import Run
    from longread.study.cluster import Cluster
    from longread.study.search import Trials

log = logging.getLogger("longread")


def tune(
    task: str = "reviews",
    *,
    attention: Annotated[list[str], Several] = ["dense"],  # noqa: B006
    num_hidden_layers: int = 1,
    seed: Annotated[list[int], Several] = [0, 1, 2],  # noqa: B006
    search: Annotated[list[str], Several] = [],  # noqa: B006
    trials: int = 20,
    total_epochs: int | None = None,
    on: On = "here",
    cluster: OfCluster = CLUSTER,
    rows: OfRows = ROWS,
    model: OfModel = MODEL,
    training: OfTraining = TRAINING,
    machine: OfMachine = MACHINE,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """Search for better settings on rows held out of train, then compare them with the default ones on other rows.

    Example: longread tune mail.csv --attention longformer dense --search learning_rate=1e-4..1e-2 epochs=3,10

    A trial that is not among the best third after 1, 3, 9, … epochs is stopped. The settings found and the default ones
    are then trained on all training rows with each --seed, and evaluated on rows that the search never read. A stopped
    search goes on where it was; with more --trials it goes further.

    Parameters
    ----------
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME.
    attention:
        Mechanisms to choose from; the first is the default one.
    num_hidden_layers:
        Depth of the default settings.
    seed:
        Of the final runs; the trials have the first. With three or more, the difference can be tested.
    search:
        NAME=LOW..HIGH or NAME=VALUE,VALUE: what is tried of any setting of train and of the mechanisms, and
        distill_steps where --init is a dense checkpoint. Default: learning rate, epochs, length, depth.
    trials:
        How many settings are tried.
    total_epochs:
        Epochs of all trials together, after which no further one starts.
    on:
        Where the trials and runs are: one after the other in this place, or on a Ray cluster, with Ray Tune.
    """
    from longread.report import build_report, summary_tables
    from longread.report.search import verdict
    from longread.study.compare import check
    from longread.study.search import SearchConfig
    from longread.study.space import Choice, check_space, default_space, read_space, step_of

    place = cluster_of(on, cluster)
    base = run_config(
        rows, model, training, machine, options=options, task=task, attention=attention[0], seed=seed[0],
        num_hidden_layers=num_hidden_layers,
    )  # fmt: skip
    refuse_unused(base, attention, [num_hidden_layers])
    fraction = base.tuning_fraction or 0.2
    base = replace(base, tuning_fraction=None)
    space = read_space(search) or default_space(base)
    if len(attention) > 1:
        space["attention"] = Choice(tuple(attention))
    for name, value in (("--trials", trials), ("--total-epochs", total_epochs)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: must be 1 or more")
    check_space(base, space)
    check([step_of(base, {}).config])
    config = SearchConfig(base=base, space=space, trials=trials, total_epochs=total_epochs, tuning_fraction=fraction)
    view = _View(trials)
    if place is None:
        from longread.study.search import search as run_search

        found = run_search(config, view.on_event)
    else:
        from longread.study.search_ray import search_on_ray

        found = search_on_ray(config, place, view.on_event)
    best = found.best()
    if best is None:
        raise UserError(
            f"{found.path}: none of the trials came to its end; see the errors there, or allow more --trials"
        )
    log.info("best: trial %d, %s", best.number + 1, _words(best.settings))
    compared, finished = _compared(found, best.settings, base, seed, place)
    page = build_report(base.out)
    logs.tables(summary_tables(compared))
    logs.result(verdict(base.out))
    logs.result(f"report: {page}", report=page)
    return status_of(finished)


def _compared(
    found: Trials, best: dict[str, Any], base: RunConfig, seeds: Sequence[int], place: Cluster | None
) -> tuple[list[Run], list[Run]]:
    """The default settings and the best ones with every seed, on rows that the search left alone.

    Their runs, and these with all that they begin from.
    """
    from longread.cli.live import GridView
    from longread.study.chain import in_order, run_steps
    from longread.study.space import step_of

    steps = {
        name: [step_of(replace(base, seed=one), settings) for one in dict.fromkeys(seeds)]
        for name, settings in (("default", {}), ("best", best))
        if name == "default" or best
    }
    every = in_order([step for members in steps.values() for step in members])
    with GridView([step.config for step in every]) as grid:
        if place is None:
            finished = run_steps(every, on_event=grid.on_event)
        else:
            from longread.study.ray import run_steps as run_on_ray

            finished = run_on_ray(every, place, on_event=grid.on_event)
    run_of = dict(zip(every, finished, strict=True))
    found.final = {name: [run_of[step].record["run_id"] for step in members] for name, members in steps.items()}
    found.write()
    return [run_of[step] for members in steps.values() for step in members], finished


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "the default settings"


class _View:
    """A line for each trial's beginning and end, and where it is between."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.best: float | None = None

    def on_event(self, number: int, event: dict[str, Any]) -> None:
        from longread.cli.live import evaluating_line, progress_line

        place = f"trial {number + 1} of {self.trials}"
        if event["event"] == "trial":
            log.info("%s: %s", place, _words(event["settings"]))
        elif event["event"] == "progress":
            logs.status(f"{place}: {progress_line(event)}")
        elif event["event"] == "evaluating":
            logs.status(f"{place}: {evaluating_line(event)}")
        elif event["event"] == "trial end":
            score, status = event["score"], event["status"]
            if status == "ok" and (self.best is None or score > self.best):
                self.best = score
            told = "" if score is None else f", scores {score:.4f} on the tuning rows"
            best = "" if self.best is None else f", best {self.best:.4f}"
            log.info("%s: %s%s%s", place, "done" if status == "ok" else event["error"] or status, told, best)
