"""`longread compare` and `longread train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from longread.cli import logs
from longread.cli.cluster import CLUSTER, OfCluster, On, cluster_of
from longread.cli.options import (
    ALL,
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
    check_data_dir,
    refuse_unused,
    run_config,
)
from longread.cli.status import status_of, status_of_one
from longread.errors import UserError
from longread.settings import TrackerName

LENGTHS = [128, 256, 512, 1024, 2048, 4096]


def tracking(name: TrackerName | None, out: Path) -> Callable[[dict[str, Any]], None]:
    """What hears a run's events for a tracker. UserError where that is not installed."""
    if name is None:
        return lambda event: None
    from longread.training.tracking import Tracking

    return Tracking(name, out).on_event


def compare(
    *,
    task: Annotated[list[str], Several] = ["reviews"],  # noqa: B006
    attention: Annotated[list[str], Several] = ALL,
    num_hidden_layers: Annotated[list[int], Several] = [1],  # noqa: B006
    seed: Annotated[list[int], Several] = [0],  # noqa: B006
    baselines: bool = True,
    track: TrackerName | None = None,
    budget: str | None = None,
    lengths: Annotated[list[int], Several] = LENGTHS,
    benchmark: bool = True,
    on: On = "here",
    cluster: OfCluster = CLUSTER,
    rows: OfRows = ROWS,
    model: OfModel = MODEL,
    training: OfTraining = TRAINING,
    machine: OfMachine = MACHINE,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """Train and evaluate a grid of models, then write the report. A stopped or repeated grid goes on where it was.

    Example: longread compare --task imdb --attention dense longformer --seed 0 1 2 --train-rows 10000

    Parameters
    ----------
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME. Several: a grid.
    attention:
        dense, longformer, bigbird, performer, linformer, local. Several: a grid. A pattern that repeats over the layers
        is one value, in quotes: dense "dense local local" are two.
    num_hidden_layers:
        Depth. Several: a grid.
    seed:
        Decides the first weights and the order of the rows. With three or more, differences can be tested.
    baselines:
        Also the majority class, TF-IDF + logistic regression and NB-SVM.
    track:
        Also log every run to a tracker, under OUT: see train.
    budget:
        A time, such as 90s, 20m or 2h, for all of it: of --attention, and of lengths, sizes and epochs that are not
        given, it is chosen what fits, after a short measurement on the training rows. The plan is said, kept in
        OUT/plans, and gone on with when the command is given again. At the end three models are recommended.
    lengths:
        Lengths at which time and memory of one layer of each mechanism are measured afterwards, with these runs' own
        settings. Times at published sizes: longread benchmark.
    benchmark:
        Measure by length at all.
    on:
        Where the runs are: one after the other in this place, or as tasks of a Ray cluster.
    """
    from longread.cli.lengths import LengthsView
    from longread.cli.live import GridView
    from longread.report import build_report, summary_tables
    from longread.study.benchmark import benchmarks_of
    from longread.study.compare import benchmark_all, check, grid, run_all

    if training.shard:
        raise UserError("--shard: of train alone, under torchrun; each run of a grid is one process")
    place = cluster_of(on, cluster)
    base = run_config(rows, model, training, machine, options=options)
    refuse_unused(base, attention, num_hidden_layers)
    check_data_dir(base.data_dir, task)
    if budget is not None:
        from longread.cli.budget import compare_in_time

        if lengths != LENGTHS:
            raise UserError("--lengths: not with --budget, which measures nothing by length; longread benchmark does")
        if place is not None:
            raise UserError("--budget: of this machine; its plan is measured here, leave --on out")
        if track is not None:
            raise UserError("--track: not with --budget; train and compare without it log their runs")
        return compare_in_time(base, budget, task, attention, num_hidden_layers, seed, baselines)
    configs = grid(
        base, tasks=task, attentions=attention, depths=num_hidden_layers, seeds=seed, with_baselines=baselines
    )
    measured = benchmarks_of(base, attention, lengths) if benchmark else []
    configs = check(configs)
    trackings = [tracking(track, config.out) for config in configs]
    with GridView(configs) as view:

        def listen(index: int, event: dict[str, Any]) -> None:
            view.on_event(index, event)
            trackings[index](event)

        finished = run_all(configs, listen, place)
    if measured:
        with LengthsView(measured) as lines:
            benchmark_all(measured, on_event=lines.on_event)
    page = build_report(base.out)
    logs.tables(summary_tables(finished))
    logs.result(f"report: {page}", report=page)
    return status_of(finished)


def train(
    task: str = "reviews",
    *,
    attention: str = "dense",
    num_hidden_layers: int = 1,
    seed: int = 0,
    resume: bool = False,
    restart: bool = False,
    track: TrackerName | None = None,
    rows: OfRows = ROWS,
    model: OfModel = MODEL,
    training: OfTraining = TRAINING,
    machine: OfMachine = MACHINE,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """Train and evaluate one model; its checkpoint can be given to evaluate, predict and convert.

    Example: longread train my.csv --attention longformer --epochs 5

    Parameters
    ----------
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME.
    attention:
        dense, longformer, bigbird, performer, linformer or local, or several in quotes, a pattern that repeats over the
        layers: "dense local local". tfidf and nbsvm are linear models, majority says the most frequent class.
    num_hidden_layers:
        Depth.
    seed:
        Decides the first weights and the order of the rows.
    resume:
        Go on where this run stopped (or start, when there is nothing yet).
    restart:
        Begin anew where this run stopped; what it has learned is deleted.
    track:
        Also log settings, losses, learning rate and metrics to a tracker, in the folder OUT/TRACKER. Nothing goes over
        the network unless MLFLOW_TRACKING_URI or WANDB_MODE ask for it. Each needs the extra of its name.
    """
    from longread.cli.live import RunView, metric_line
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.training.run import train as run_one

    config = run_config(
        rows, model, training, machine, options=options,
        task=task, attention=attention, num_hidden_layers=num_hidden_layers, seed=seed,
    )  # fmt: skip
    refuse_unused(config, [attention], [num_hidden_layers])
    if resume and restart:
        raise UserError("--resume and --restart: choose one")
    log_there = tracking(track, config.out)
    with RunView(config) as view:

        def listen(event: dict[str, Any]) -> None:
            view.on_event(event)
            log_there(event)

        run = run_one(config, resume=resume, restart=restart, on_event=listen)
    if status := status_of_one(run):
        return status
    record = run.record
    logs.result(metric_line(record), metrics=record["metrics"])
    logs.result(f"train {record['train_seconds']:.1f} s  inference {record['eval_seconds']:.2f} s")
    logs.result(f"run: {run.directory}", run=run.directory)
    return 0
