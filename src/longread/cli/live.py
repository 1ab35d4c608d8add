"""What a person sees while runs go on: a live table on a terminal, plain lines elsewhere. On stderr."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from longread.cli import logs
from longread.config import RunConfig
from longread.problems import HEADLINE, METRIC_WORDS, MULTI_LABEL, REGRESSION, SINGLE_LABEL, f1_name, problem_of
from longread.study.plan import described, duration

log = logging.getLogger("longread")
Event = dict[str, Any]
UNDER_WAY = ("training", "evaluating")  # states of a run that knows how long it will take
SHOWN = {
    SINGLE_LABEL: ("accuracy", "f1", "loss"),
    MULTI_LABEL: ("f1_micro", "f1_macro", "exact_match", "average_precision", "loss"),
    REGRESSION: ("mse", "mae", "spearman", "r2"),
}


def epoch_line(event: Event, choose_by: str | None = None) -> str:
    """What training and evaluation of an epoch came to, or a distillation's distance from its teacher."""
    line = f"epoch {event['epoch']}: train loss {event['train_loss']:.4f}"
    if "distance" in event:
        return f"{line}, distance from the teacher {event['distance']:.4f}"
    if "masked_loss" in event:
        return f"{line}, held-out loss {event['masked_loss']:.4f}, {event['masked_accuracy']:.1%} guessed right"
    words, value = told_by(event, choose_by)
    return f"{line}, evaluation loss {event['eval_loss']:.4f}, {words} {value:.4f}"


def told_by(event: Event, choose_by: str | None) -> tuple[str, float]:
    """What an epoch is told by, in words, and its value: what --choose-by names, on the held-out rows; else accuracy
    (or the like of another problem type) on the evaluation rows."""
    if choose_by is not None and f"selection_{choose_by}" in event:
        _, _, label = choose_by.partition(":")
        words = f"F1 of {label!r}" if label else METRIC_WORDS[choose_by]
        return f"held-out {words}", event[f"selection_{choose_by}"]
    name = next(name for name in HEADLINE.values() if f"eval_{name}" in event)
    return METRIC_WORDS[name], event[f"eval_{name}"]


def metric_line(record: Mapping[str, Any]) -> str:
    """The metrics of a run, in words."""
    problem, found = problem_of(record), record["metrics"]
    words = METRIC_WORDS | {"f1": f1_name(record["dataset"]["label_names"])}
    return "  ".join(f"{words[name]} {found[name]:.4f}" for name in SHOWN[problem])


def masked_line(metrics: Mapping[str, float]) -> str:
    """What pretraining came to on the masked tokens of held-out rows, and where it began."""
    told = {"loss": "loss {:.4f}, then {:.4f}", "perplexity": "perplexity {:,.1f}, then {:,.1f}",
            "accuracy": "guessed right {:.1%}, then {:.1%}"}  # fmt: skip
    parts = [form.format(metrics[f"masked_{n}_before"], metrics[f"masked_{n}"]) for n, form in told.items()]
    return f"masked tokens of held-out texts: {'; '.join(parts)}"


def progress_line(event: Event) -> str:
    """Where training is."""
    place = f"epoch {event['epoch']} of {event['epochs']}, step {event['step']:,} of {event['steps']:,}"
    return f"{place}, loss {event['loss']:.4f}, {duration(event['seconds_left'])} left"


def evaluating_line(event: Event) -> str:
    """Where an evaluation is."""
    place = f"evaluating the {event['name']} rows: {event['rows']:,} of {event['of']:,}"
    return f"{place}, {duration(event['seconds_left'])} left"


class GridView:
    """One line a run: state, epoch, loss, accuracy, time left; below, the time left for the whole grid."""

    def __init__(self, configs: Sequence[RunConfig]) -> None:
        self.configs = list(configs)
        self.console = logs.console
        self.state: list[Event] = [{"state": "waiting"} for _ in configs]
        self.began: dict[int, float] = {}
        self.took: dict[int, float] = {}
        self.several_tasks = len({c.task for c in configs}) > 1
        self.live: Live | None = None

    @property
    def sizes_differ(self) -> bool:
        transformers = [c for c in self.configs if not c.is_baseline]
        return len({(c.hidden_size, c.max_length, c.epochs) for c in transformers}) > 1

    def add(self, config: RunConfig) -> None:
        """A run that was not expected."""
        self.configs.append(config)
        self.state.append({"state": "waiting"})

    def __enter__(self) -> GridView:
        if logs.shows_live():
            self.live = Live(self._table(), console=self.console, refresh_per_second=4)
            self.live.__enter__()
        else:
            log.info("%d runs", len(self.configs))
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.live.update(self._table())
            self.live.__exit__(*error)

    def on_event(self, index: int, event: Event) -> None:
        now = time.monotonic()
        self.began.setdefault(index, now)
        state = self.state[index]
        kind = event["event"]
        if kind == "progress":
            state |= {k: event[k] for k in ("epoch", "epochs", "step", "steps", "loss", "seconds_left")}
            state["state"] = "training"
            logs.status(f"{self._place(index)}: {progress_line(event)}")
        elif kind == "evaluating":
            state |= {"state": "evaluating", "seconds_left": event["seconds_left"]}
            logs.status(f"{self._place(index)}: {evaluating_line(event)}")
        elif kind == "epoch":
            state |= {"loss": event["train_loss"], "done_epochs": event["epoch"]}
            if "distance" not in event and "masked_loss" not in event:  # neither knows labels
                state["metric"], state["value"] = told_by(event, self.configs[index].choose_by)
            self._say(index, epoch_line(event, self.configs[index].choose_by))
        elif kind == "end":
            self.took[index] = now - self.began[index]
            state["state"] = "done" if event["status"] == "ok" else event["status"]
            took = duration(self.took[index])
            self._say(index, f"{state['state']} in {took}" + (f" ({event['error']})" if event["error"] else ""))
            logs.status(f"{self._place(index)}: {state['state']}")
        elif kind == "left_out":
            state["state"] = "no time left"
            self._say(index, f"not begun or not finished: {event['error']}")
        elif kind == "skipped":
            state["state"] = "was done before"
            self._say(index, f"was done before ({event['run_id']})")
        elif kind == "lost":
            state["state"] = "worker lost"
            self._say(index, f"its worker was lost ({event['error']}); attempt {event['attempt']} starts elsewhere")
        elif kind in ("start", "resumed"):
            state["state"] = "started" if kind == "start" else "resumed"
            left = self._left()
            self._say(index, state["state"] + ("" if left is None else f", {duration(left)} left in all"))
            logs.status(f"{self._place(index)}: {state['state']}")
        if self.live is not None:
            self.live.update(self._table())

    def _name(self, config: RunConfig) -> str:
        task = f"{config.task} " if self.several_tasks else ""
        if config.is_baseline:
            return task + config.attention
        if self.sizes_differ:
            return task + described(config)
        depth = f" depth {config.num_hidden_layers}" if config.init == "scratch" else ""  # else the checkpoint's
        return f"{task}{config.attention}{depth}, seed {config.seed}"

    def _say(self, index: int, text: str) -> None:
        if self.live is None:
            log.info("%s: %s", self._place(index), text)

    def _place(self, index: int) -> str:
        return f"[{index + 1}/{len(self.configs)}] {self._name(self.configs[index])}"

    def _left(self) -> float | None:
        """Seconds, by what other runs took and those under way expect; None while no transformer has begun.

        The time of a linear model tells nothing of a transformer's.
        """
        real = [t for i, t in self.took.items() if not self.configs[i].is_baseline]
        under_way = sum(s.get("seconds_left", 0.0) for s in self.state if s["state"] in UNDER_WAY)
        if not real and not under_way:
            return None
        mean = sum(real) / len(real) if real else under_way
        unknown = sum(s["state"] in ("waiting", "started", "resumed") for s in self.state)
        at_once = sum(s["state"] in (*UNDER_WAY, "started", "resumed") for s in self.state)
        return (mean * unknown + under_way) / max(1, at_once)

    def _table(self) -> Table:
        left = self._left()
        caption = "time left: known after some steps" if left is None else f"about {duration(left)} left"
        table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
        metrics = {state["metric"] for state in self.state if "metric" in state}
        shown = "accuracy" if not metrics else metrics.pop() if len(metrics) == 1 else "metric"
        for name in ("run", "state", "epoch", "loss", shown, "time left"):
            table.add_column(name, justify="left" if name in ("run", "state") else "right")
        for config, state in zip(self.configs, self.state, strict=True):
            table.add_row(
                self._name(config),
                state["state"],
                f"{state['epoch']}/{state['epochs']}" if "epochs" in state else "",
                f"{state['loss']:.3f}" if "loss" in state else "",
                f"{state['value']:.3f}" if "value" in state else "",
                duration(state["seconds_left"]) if state["state"] in UNDER_WAY else "",
            )
        return table


class AnswersView:
    """Texts answered, their rate and the time left: a bar on a terminal, elsewhere a line every 10 seconds."""

    def __init__(self, command: str = "predict", *, shown: bool = True, before: int = 0) -> None:
        """shown: False where the answers themselves are on the terminal. before: texts of an output that goes on."""
        self.console = logs.console
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), console=self.console,
            transient=True, disable=not (shown and logs.shows_live()),
        )  # fmt: skip
        self.bar = self.progress.add_task(command, total=None, text="")
        self.before, self.texts = before, before
        self.fraction: float | None = None  # of the input

    def __enter__(self) -> AnswersView:
        self.began = time.monotonic()
        logs.status(lambda: self.state(time.monotonic()))
        self.progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.stop()

    def on_progress(self, texts: int, fraction: float | None) -> None:
        """After each block: all texts that are answered, and how much of the input they are, if that is known."""
        self.texts, self.fraction = texts, fraction
        total = None if fraction is None else 1.0
        self.progress.update(self.bar, completed=fraction or 0.0, total=total, text=self.state(time.monotonic()))

    def state(self, now: float) -> str:
        """ "12,288 texts, 950 a second, 3:05 left": the last part where the size of the input is known."""
        seconds = max(1e-9, now - self.began)
        if self.texts == self.before:
            return f"no text answered yet after {duration(seconds)}"
        rate = (self.texts - self.before) / seconds
        text = (
            f"{self.texts:,} texts, {rate:,.1f} a second"
            if rate < 10
            else f"{self.texts:,} texts, {rate:,.0f} a second"
        )
        return text if not self.fraction else f"{text}, {duration(self.texts * (1 / self.fraction - 1) / rate)} left"


class RunView:
    """A bar for one run, a line for each epoch."""

    def __init__(self, config: RunConfig) -> None:
        self.console = logs.console
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[unit]}"), TextColumn("{task.fields[left]} left"),
            console=self.console, transient=True, disable=not logs.shows_live(),
        )  # fmt: skip
        self.bar = self.progress.add_task(f"{config.task}, {config.attention}", total=None, unit="steps", left="?")
        self.choose_by = config.choose_by
        self.out = config.out

    def __enter__(self) -> RunView:
        self.progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.stop()

    def on_event(self, event: Event) -> None:
        kind = event["event"]
        if kind == "progress":
            left = duration(event["seconds_left"])
            logs.status(progress_line(event))
            self.progress.update(self.bar, completed=event["step"], total=event["steps"], unit="steps", left=left)
        elif kind == "evaluating":
            left = duration(event["seconds_left"])
            logs.status(evaluating_line(event))
            self.progress.update(self.bar, completed=event["rows"], total=event["of"], unit="rows evaluated", left=left)
        elif kind == "epoch":
            logs.status(f"epoch {event['epoch']} is done")
            self._say(f"{epoch_line(event, self.choose_by)}, {event['train_seconds']:.1f} s of training")
        elif kind == "start" and "num_parameters" in event:
            self._say(f"run {event['run_id']}: {event['rows']:,} rows, {event['num_parameters']:,} parameters")
        elif kind == "skipped":
            folder = self.out / "runs" / event["run_id"]
            what = folder if folder.is_dir() else f"its line in {self.out / 'runs.jsonl'}"
            self._say(f"run {event['run_id']} was done before; delete {what} to repeat it")
        elif kind == "resumed":
            self._say(f"goes on at step {event['step']} of {event['steps']}")

    def _say(self, text: str) -> None:
        log.info("%s", text)
