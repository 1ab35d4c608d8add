"""The same search on a cluster, by Ray Tune: its ASHA scheduler, our sampler, as many trials at once as have room."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, replace
from typing import Any

from longread import __version__
from longread.config import RunConfig
from longread.errors import UserError
from longread.study.child import Event
from longread.study.cluster import Cluster
from longread.study.ray import GIGABYTE, connected
from longread.study.sampling import FACTOR, make_sampler
from longread.study.search import SearchConfig, Told, Trial, Trials, do_trial, score_of
from longread.study.space import Point
from longread.training.state import delete_states


def search_on_ray(config: SearchConfig, cluster: Cluster, on_event: Told = lambda number, event: None) -> Trials:
    """As `longread.study.search.search`; `--out` is a folder that all machines of the cluster share.

    Trials that were under way when an earlier start ended begin again from their states.
    """
    if cluster.store is not None:
        raise UserError("--store: a search keeps its trials in --out; share that folder among the machines")
    config = replace(config, base=replace(cluster.settled(config.base), out=config.base.out.resolve()))
    trials = Trials(config)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its own tables; read when Ray Tune is loaded
    with connected(cluster), tempfile.TemporaryDirectory(prefix="longread-tune-") as scratch:
        from ray import tune
        from ray.tune.schedulers import AsyncHyperBandScheduler

        unfinished = [trial for trial in trials.found if trial.status == "running"]
        new = config.trials - len(trials.found)
        if new + len(unfinished) <= 0 or (config.total_epochs is not None and trials.epochs >= config.total_epochs):
            return trials
        book = _Book(trials, unfinished, on_event)
        needs = {"CPU": cluster.cores(config.base), "GPU": cluster.run_gpus}
        needs |= {"memory": cluster.run_memory * GIGABYTE} if cluster.run_memory else {}
        task = tune.with_resources(tune.with_parameters(_trial, order=_order(config)), needs)
        longest = max([trial.epochs for trial in unfinished] + [_longest(config)])
        tune.Tuner(
            task,
            tune_config=tune.TuneConfig(
                metric="score", mode="max", num_samples=new + len(unfinished), search_alg=book.searcher(tune),
                scheduler=AsyncHyperBandScheduler(
                    time_attr="epoch", max_t=longest + 1, grace_period=1, reduction_factor=FACTOR
                ),
            ),
            run_config=tune.RunConfig(
                storage_path=scratch, verbose=0, callbacks=[book.callback(tune)],
                failure_config=tune.FailureConfig(max_failures=cluster.run_retries),
            ),
        ).fit()  # fmt: skip
    return trials


def _longest(config: SearchConfig) -> int:
    from longread.study.space import Choice

    found = config.space.get("epochs")
    if isinstance(found, Choice):
        return max(int(value) for value in found.values)
    return int(found.high) if found else 1_000_000


def _order(config: SearchConfig) -> dict[str, Any]:
    return {
        "version": __version__,
        "place": os.getcwd(),
        "base": config.base.to_json(),
        "tuning_fraction": config.tuning_fraction,
    }


def _trial(given: dict[str, Any], order: dict[str, Any]) -> None:
    """On a machine of the cluster: reports the score after each epoch; Ray ends the process of a stopped trial."""
    from ray import tune

    if order["version"] != __version__:
        raise RuntimeError(f"this machine has longread {__version__}, not {order['version']}")
    os.chdir(order["place"])
    base = RunConfig.from_json(order["base"])
    config = SearchConfig(base=base, space={}, tuning_fraction=order["tuning_fraction"])
    trial = Trial(**given["trial"])

    def listen(event: Event) -> None:
        score = score_of(event)
        if score is not None:
            tune.report({"score": score, "epoch": event["epoch"], "run_id": trial.run_id, "ended": ""})

    do_trial(config, trial, listen)
    last = trial.score if trial.score is not None else float("nan")
    tune.report({"score": last, "epoch": len(trial.scores), "run_id": trial.run_id, "ended": trial.status,
                 "error": trial.error, "scores": trial.scores})  # fmt: skip


class _Book:
    """What is tried next, and what is written down: the sampler and the trials' file behind Ray Tune's interfaces."""

    def __init__(self, trials: Trials, unfinished: list[Trial], on_event: Told) -> None:
        self.trials, self.unfinished, self.on_event = trials, list(unfinished), on_event
        self.sampler = make_sampler(trials.config.space, trials.config.base.seed, len(trials.found))
        for trial in trials.found:
            if trial.status != "running" and trial.score is not None:
                self.sampler.tell(trial.settings, trial.score)
        self.by_name: dict[str, Trial] = {}

    def next(self, name: str) -> Point | None:
        """None: all epochs are spent."""
        if self.unfinished:
            trial = self.unfinished.pop(0)
        elif (most := self.trials.config.total_epochs) is not None and self.trials.epochs >= most:
            return None
        else:
            number = len(self.trials.found)
            trial = self.trials.begin(number, self.sampler.ask(number) if number else {})
        self.by_name[name] = trial
        self.on_event(trial.number, {"event": "trial", "settings": trial.settings})
        return {"trial": asdict(trial)}

    def heard(self, name: str, result: dict[str, Any]) -> None:
        trial = self.by_name[name]
        trial.run_id = result.get("run_id") or trial.run_id
        if result.get("ended"):
            trial.status, trial.error = result["ended"], result.get("error")
            trial.scores = list(result.get("scores") or trial.scores)
        else:
            trial.scores = [*trial.scores[: result["epoch"] - 1], result["score"]]
            event = {"event": "epoch", "epoch": result["epoch"], "score": result["score"]}
            self.on_event(trial.number, event)
        self.trials.write()

    def over(self, name: str, error: bool) -> None:
        trial = self.by_name[name]
        if trial.status == "running":  # it did not say so itself
            trial.status, trial.error = ("error", "its process was lost") if error else ("stopped", None)
            if not error and trial.run_id:
                delete_states(self.trials.config.place / "runs" / trial.run_id)
        self.trials.write()
        if trial.score is not None:
            self.sampler.tell(trial.settings, trial.score)
        event = {"event": "trial end", "status": trial.status, "score": trial.score, "error": trial.error}
        self.on_event(trial.number, event)

    def searcher(self, tune: Any) -> Any:
        book = self

        class Ours(tune.search.Searcher):  # type: ignore[misc]
            def suggest(self, trial_id: str) -> Point | str | None:
                return book.next(trial_id) or tune.search.Searcher.FINISHED

            def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
                """The callback has it."""

        return Ours(metric="score", mode="max")

    def callback(self, tune: Any) -> Any:
        book = self

        class Hears(tune.Callback):  # type: ignore[misc]
            def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
                book.heard(trial.trial_id, result)

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                book.over(trial.trial_id, error=False)

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                book.over(trial.trial_id, error=True)

        return Hears()
