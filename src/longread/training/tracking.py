"""A run in a tracker: TensorBoard, MLflow or Weights & Biases, fed by the events that every run tells.

Everything stays under OUT unless the tracker's own settings (MLFLOW_TRACKING_URI, WANDB_MODE) say otherwise. What fails
here is said once and never ends a run.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from longread.errors import UserError
from longread.settings import TrackerName
from longread.training.events import Event

log = logging.getLogger("longread")

NOT_MEASURED = ("event", "epoch", "step")


class Tracker(Protocol):
    """A run id is begun once; where it goes on (`resumed`), later steps than `step` were never taken."""

    def begin(self, run_id: str, config: Mapping[str, Any], step: int, *, resumed: bool) -> None: ...
    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def end(self, status: str) -> None: ...


class Tracking:
    """A listener for one run's events."""

    def __init__(self, name: TrackerName, out: Path) -> None:
        """UserError where its package is not installed."""
        module, made = TRACKERS[name]
        if importlib.util.find_spec(module) is None:
            raise UserError(f"--track {name}: not installed; pip install 'longread[{name}]'")
        self.name = name
        self.tracker: Tracker | None = made(out / name)
        self.started: Event | None = None  # not yet known whether it goes on from some step
        self.step = 0

    def on_event(self, event: Event) -> None:
        if self.tracker is None:
            return
        try:
            self._take(self.tracker, event)
        except Exception as error:  # whatever a tracker does: the run is worth more
            log.warning("--track %s: nothing more is logged there (%s: %s)", self.name, type(error).__name__, error)
            self.tracker = None

    def _take(self, tracker: Tracker, event: Event) -> None:
        kind = event["event"]
        if kind == "start":
            self.started, self.step = event, 0
            if not event["resumed"]:
                self._begin(tracker)
        elif kind == "resumed":
            self.step = event["step"]
            self._begin(tracker)
        elif self.started is not None:
            self._begin(tracker)
        if kind == "progress":
            self._log(tracker, event["step"], {"train/loss": event["loss"], "learning_rate": event["learning_rate"]})
        elif kind == "epoch":
            measured = {name.replace("_", "/", 1): v for name, v in event.items() if name not in NOT_MEASURED}
            measured["train/epoch_loss"] = measured.pop("train/loss")
            self._log(tracker, event["step"], measured)
        elif kind == "end":
            self._log(tracker, self.step, {f"final/{name}": v for name, v in event.get("metrics", {}).items()})
            tracker.end(event["status"])

    def _begin(self, tracker: Tracker) -> None:
        if self.started is not None:
            began, self.started = self.started, None
            tracker.begin(began["run_id"], began["config"], self.step, resumed=bool(began["resumed"]))

    def _log(self, tracker: Tracker, step: int, values: Mapping[str, Any]) -> None:
        self.step = step
        numbers = {name: float(v) for name, v in values.items() if isinstance(v, int | float)}
        if numbers:
            tracker.log(step, numbers)


class _TensorBoard:
    def __init__(self, place: Path) -> None:
        self.place = place

    def begin(self, run_id: str, config: Mapping[str, Any], step: int, *, resumed: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What was written of later steps, or of a run that begins anew, is no longer shown.
        self.writer = SummaryWriter(str(self.place / run_id), purge_step=step + 1 if resumed else 0)
        self.writer.add_text("config", "\n".join(f"    {line}" for line in json.dumps(config, indent=1).splitlines()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self, status: str) -> None:
        self.writer.close()


class _MLflow:
    TAG = "longread.run_id"

    def __init__(self, place: Path) -> None:
        self.place = place

    def begin(self, run_id: str, config: Mapping[str, Any], step: int, *, resumed: bool) -> None:
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or self.place.resolve().as_uri()
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.client = MlflowClient(uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "longread")
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        query = f"tags.`{self.TAG}` = '{run_id}'"
        known = self.client.search_runs([number], query, order_by=["attributes.start_time DESC"]) if resumed else []
        if known:
            self.run = known[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        self.run = self.client.create_run(number, run_name=run_id, tags={self.TAG: run_id}).info.run_id
        for key, value in config.items():
            self.client.log_param(self.run, key, str(value)[:500])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, name, value, step=step)

    def end(self, status: str) -> None:
        self.client.set_terminated(self.run, {"ok": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))


class _WandB:
    def __init__(self, place: Path) -> None:
        self.place = place

    def begin(self, run_id: str, config: Mapping[str, Any], step: int, *, resumed: bool) -> None:
        import wandb

        self.place.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "longread"),
            id=run_id,
            resume="allow" if resumed else None,
            config=dict(config),
            dir=str(self.place),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings={"silent": True, "console": "off"},  # stderr is this program's own, and goes nowhere else
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def end(self, status: str) -> None:
        self.run.finish(exit_code=0 if status == "ok" else 1)


TRACKERS: dict[TrackerName, tuple[str, type[_TensorBoard | _MLflow | _WandB]]] = {
    "tensorboard": ("tensorboard", _TensorBoard),
    "mlflow": ("mlflow", _MLflow),
    "wandb": ("wandb", _WandB),
}
