"""The trials of a search: each is one or two runs on rows carved from train, watched after every epoch.

OUT/search/trials.json     what is searched, and every trial that began: settings, scores by epoch, how it ended
OUT/search/runs/…          their records
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from longread.config import RunConfig
from longread.errors import UserError
from longread.problems import HEADLINE
from longread.records import canonical, write_json
from longread.study.chain import begun_from
from longread.study.child import Event, run_one
from longread.study.sampling import Asha, Sampler, make_sampler
from longread.study.space import Point, Range, Space, resolved_of, step_of
from longread.training.signals import signals_interrupt
from longread.training.state import delete_states

log = logging.getLogger("longread")
FILE = "trials.json"
Told = Callable[[int, Event], None]


@dataclass
class Trial:
    """`status`: running, ok, stopped (by the rule), or how its run failed."""

    number: int
    settings: Point
    epochs: int  # that it would take
    scores: list[float] = field(default_factory=list)  # after each epoch, on the tuning rows
    status: str = "running"
    run_id: str = ""
    error: str | None = None

    @property
    def score(self) -> float | None:
        return self.scores[-1] if self.scores else None


class Stopped(Exception):
    """The rule ended a trial."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """`base`: the settings that are not searched, and the defaults of those that are. `total_epochs`: of all trials."""

    base: RunConfig
    space: Space
    trials: int = 20
    total_epochs: int | None = None
    tuning_fraction: float = 0.2

    @property
    def place(self) -> Path:
        return self.base.out / "search"

    def asked(self) -> dict[str, Any]:
        """What decides the search; with more trials or epochs it goes on."""
        space = {name: {"range": [v.low, v.high]} if isinstance(v, Range) else {"choice": list(v.values)}
                 for name, v in self.space.items()}  # fmt: skip
        base = {name: value for name, value in self.base.named().items() if name not in ("threads", "device")}
        return {"base": base, "seed": self.base.seed, "space": space, "tuning_fraction": self.tuning_fraction}


class Trials:
    """All trials of a search, as the file has them. UserError where it is another search's."""

    def __init__(self, config: SearchConfig) -> None:
        self.config, self.path = config, config.place / FILE
        self.found: list[Trial] = []
        self.final: dict[str, list[str]] = {}  # run ids of the default settings and of the best trial's
        if self.path.exists():
            try:
                kept = json.loads(self.path.read_text("utf-8"))
                self.found, self.final = [Trial(**trial) for trial in kept["trials"]], kept["final"]
                same = canonical(kept["asked"]) == canonical(config.asked())
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self.path}: is damaged ({error}); delete {config.place} to search anew") from None
            if not same:
                raise UserError(f"{self.path}: is a search over other settings; give another --out")

    def write(self) -> None:
        values = {"asked": self.config.asked(), "trials": [asdict(trial) for trial in self.found],
                  "final": self.final}  # fmt: skip
        write_json(self.path, values)

    def begin(self, number: int, settings: Point) -> Trial:
        epochs = resolved_of(step_of(self.config.base, settings)).epochs
        trial = Trial(number, settings, epochs or 1)
        self.found.append(trial)
        self.write()
        return trial

    @property
    def epochs(self) -> int:
        """That all trials have taken."""
        return sum(len(trial.scores) for trial in self.found)

    @property
    def is_enough(self) -> bool:
        total_epochs = self.config.total_epochs
        return len(self.found) >= self.config.trials or (total_epochs is not None and self.epochs >= total_epochs)

    def best(self) -> Trial | None:
        """The best of those that came to their end; the earlier of two that are equal."""
        whole = [trial for trial in self.found if trial.status == "ok" and trial.score is not None]
        return max(whole, key=lambda trial: (trial.score, -trial.number), default=None)


def search(config: SearchConfig, on_event: Told = lambda number, event: None) -> Trials:
    """Runs trials one after the other; those of an earlier start count. The first has the default settings.

    KeyboardInterrupt after the trial under way has saved its state; the same call goes on.
    """
    trials, rule = Trials(config), Asha()
    sampler = make_sampler(config.space, config.base.seed, len(trials.found))
    with signals_interrupt():
        for trial in trials.found:
            if trial.status == "running":
                run_trial(trials, trial, sampler, rule, on_event)
            else:
                relearn(trial, sampler, rule)
        while not trials.is_enough:
            number = len(trials.found)
            trial = trials.begin(number, sampler.ask(number) if number else {})
            run_trial(trials, trial, sampler, rule, on_event)
    return trials


def relearn(trial: Trial, sampler: Sampler, rule: Asha) -> None:
    """What an earlier start learned of a trial."""
    for epoch, score in enumerate(trial.scores, 1):
        rule.goes_on(epoch, score)
    if trial.score is not None:
        sampler.tell(trial.settings, trial.score)


def run_trial(trials: Trials, trial: Trial, sampler: Sampler, rule: Asha, on_event: Told) -> None:
    on_event(trial.number, {"event": "trial", "settings": trial.settings})
    for epoch, score in enumerate(trial.scores, 1):
        rule.goes_on(epoch, score)

    def listen(event: Event) -> None:
        on_event(trial.number, event)
        score = score_of(event)
        if score is not None:
            trial.scores = [*trial.scores[: event["epoch"] - 1], score]
            trials.write()
            if not rule.goes_on(event["epoch"], score) and event["epoch"] < trial.epochs:
                raise Stopped

    do_trial(trials.config, trial, listen)
    trials.write()
    if trial.score is not None:
        sampler.tell(trial.settings, trial.score)
    on_event(trial.number, {"event": "trial end", "status": trial.status, "score": trial.score, "error": trial.error})


def do_trial(config: SearchConfig, trial: Trial, listen: Callable[[Event], None]) -> None:
    """The runs of a trial; what became of it is written into `trial`. `listen` may raise Stopped."""
    base = replace(config.base, out=config.place, tuning_fraction=config.tuning_fraction)

    def on_event(index: int, event: Event) -> None:
        trial.run_id = event.get("run_id", trial.run_id)
        if event["event"] not in ("end", "skipped"):
            listen(event)

    try:
        step = step_of(base, trial.settings)
        settings = step.config
        if step.init is not None:
            before = run_one(0, step.init.config, lambda index, event: None, step.init.distill_steps)
            if before.record["status"] != "ok":
                trial.status, trial.error = before.record["status"], before.record["error"]
                return
            settings = begun_from(settings, before)
        run = run_one(0, settings, on_event)
    except Stopped:
        trial.status = "stopped"
        delete_states(config.place / "runs" / trial.run_id)  # it is not gone on with
        return
    except UserError as error:  # settings that do not go together
        trial.status, trial.error = "error", str(error)
        return
    trial.status, trial.run_id, trial.error = run.record["status"], run.record["run_id"], run.record["error"]
    history = [score_of({"event": "epoch", **line}) for line in run.history()]
    trial.scores = [score for score in history if score is not None] or trial.scores


def score_of(event: Event) -> float | None:
    """The problem's headline metric on the tuning rows, after an epoch of training."""
    if event["event"] != "epoch":
        return None
    return next((float(event[f"eval_{name}"]) for name in HEADLINE.values() if f"eval_{name}" in event), None)
