"""Runs as tasks of a Ray cluster, as many at once as it has room for.

Each task watches one run in a process of its own, as a grid on one machine does. What a run writes is in `--out`, a
folder that all machines share, or in a store (study/store.py), where each saved state goes as well: a run whose worker
is lost goes on elsewhere from its last state.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from longread import __version__
from longread.attention import ATTENTIONS, place_of, register
from longread.config import RunConfig
from longread.errors import UserError
from longread.records import Run, find_run
from longread.study.chain import Step, begun_from, in_order, not_run
from longread.study.child import SECONDS_TO_SAVE, Event, Listener, failed, run_one
from longread.study.cluster import Cluster
from longread.study.store import Store, key_of
from longread.training.signals import signals_interrupt

log = logging.getLogger("longread")

GIGABYTE = 10**9
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_ANSWER = 10.0
GOES_ALONG = ("LONGREAD_DATA_DIR", "HF_HUB_OFFLINE")  # of the environment


def run_steps(
    steps: Sequence[Step],
    cluster: Cluster,
    *,
    on_event: Callable[[int, Event], None] = lambda index, event: None,
) -> list[Run]:
    """As `longread.study.chain.run_steps`, on a cluster: a step starts as soon as what it begins from is done.

    UserError where there is no cluster, where its machines lack the folder or have another version of longread.
    """
    made: dict[Step, Step] = {}
    for step in in_order(steps):
        made[step] = replace(step, config=cluster.settled(step.config), init=made[step.init] if step.init else None)
    if cluster.store:
        Store(cluster.store)  # what is wrong with it is said before a cluster starts
    with connected(cluster) as ray, signals_interrupt():
        return _Driver(list(made.values()), cluster, on_event, ray).run()


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """The module `ray`, connected. UserError where it is not installed or no cluster answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send statistics of use to its makers
    try:
        import ray
    except ImportError:
        raise UserError('--on ray: Ray is not installed; pip install "longread[ray]"') from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    check_reachable(cluster.address)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises that class itself, where a cluster does not start in time
        reason = " ".join(str(error).split())[:200]
        if cluster.address is None:
            mend = "try again when this machine is less busy, or give the --address of a cluster"
            raise UserError(f"--on ray: no cluster answers or starts here ({reason}); {mend}") from None
        raise UserError(
            f"--address {cluster.address}: no Ray cluster answers there ({reason}); start one with `ray start --head`"
        ) from None
    try:
        yield ray
    except ray.exceptions.RayError as error:  # of the cluster itself: a task's own are met where it is awaited
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the Ray cluster was lost ({reason}); when there is one again, the same command goes on"
        ) from error
    finally:
        ray.shutdown()


def check_reachable(address: str | None) -> None:
    """UserError for HOST:PORT where nobody listens: Ray would try for minutes, and say so in many lines."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address {address}: nobody answers there ({error}); start a cluster with `ray start --head`, which says "
            "its address"
        ) from None


class _Driver:
    """Steps that wait, tasks under way, finished runs."""

    def __init__(self, steps: Sequence[Step], cluster: Cluster, on_event: Listener, ray: Any) -> None:
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.steps, self.cluster, self.on_event, self.ray = list(steps), cluster, on_event, ray
        self.store = Store(cluster.store) if cluster.store else None
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.done: dict[Step, Run] = {}
        self.under_way: dict[Any, Step] = {}
        self.attempts = dict.fromkeys(self.steps, 0)

    def run(self) -> list[Run]:
        self._say_what_has_no_room()
        waiting = list(self.steps)
        with tempfile.NamedTemporaryFile(dir=_made(self.steps[0].config.out), prefix=".seen-") as seen:
            self.seen = Path(seen.name).name
            try:
                while waiting or self.under_way:
                    waiting = [step for step in waiting if not self._begun(step)]
                    if not self.under_way:  # what was left could not begin
                        break
                    ended, _ = self.ray.wait(list(self.under_way), timeout=SECONDS_BETWEEN_LOOKS)
                    self._hear()
                    for task in ended:
                        self._end(task, self.under_way.pop(task))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and self.under_way:
                    log.warning("stopping: the runs under way save their states; Ctrl-C again does not wait for them")
                self._cancel()
                raise
        return [self.done[step] for step in self.steps]

    def _begun(self, step: Step) -> bool:
        """False while it has to wait for another."""
        if step.init is None:
            self._submit(step)
            return True
        before = self.done.get(step.init)
        if before is None:
            return False
        if before.record["status"] == "ok":
            self._submit(step)
        else:
            self.done[step] = not_run(self.steps.index(step), step, before, self.on_event)
        return True

    def _submit(self, step: Step) -> None:
        config, begins_from = step.config, None
        if step.init is not None:
            before = self.done[step.init]
            begins_from, config = before.record["run_id"], begun_from(config, before)
        order = {
            "version": __version__,
            "place": os.getcwd(),
            "environment": {name: os.environ[name] for name in GOES_ALONG if name in os.environ},
            "index": self.steps.index(step),
            "config": replace(config, out=config.out.resolve()).to_json(),
            "distill_steps": step.distill_steps,
            "begins_from": begins_from,
            "store": self.cluster.store,
            "seen": self.seen,
            "mechanisms": [(name, place_of(name)) for name in config.attention.split() if name in ATTENTIONS],
        }
        task = self.ray.remote(run_order).options(
            num_cpus=self.cluster.cores(config),
            num_gpus=self.cluster.run_gpus,
            memory=int(self.cluster.run_memory * GIGABYTE),
            max_retries=0,  # begun again here, where it can be said
            name=f"{config.task} {config.attention} seed {config.seed}",
        )
        self.under_way[task.remote(order, self.events)] = step

    def _hear(self) -> None:
        for index, event in self.events.get_nowait_batch(self.events.qsize()):
            self.on_event(index, event)

    def _end(self, task: Any, step: Step) -> None:
        from ray.exceptions import RayError, RayTaskError

        index, config = self.steps.index(step), step.config
        try:
            name = self.ray.get(task)
        except RayTaskError as error:  # which is a RayError as well, as if the cluster were lost
            raise error.cause from error
        except RayError as error:
            self.attempts[step] += 1
            reason = type(error).__name__
            if self.attempts[step] <= self.cluster.run_retries:
                self.on_event(index, {"event": "lost", "error": reason, "attempt": self.attempts[step] + 1})
                self._submit(step)
                return
            text = f"its worker was lost {self.attempts[step]} times, at last: {reason}"
            self.done[step] = failed(config, "", "error", text, step.distill_steps)
            name = self.done[step].record["run_id"]
            self.on_event(index, {"event": "end", "run_id": name, "status": "error", "error": text})
            return
        if self.store is not None:
            self.store.get_record(name, config.out)
        run = find_run(config.out, name)
        if run is None:
            raise UserError(f"{config.out}: run {name} ended, but its record is not there; is the folder shared?")
        self.done[step] = run

    def _cancel(self) -> None:
        for task in self.under_way:
            self.ray.cancel(task)
        left = list(self.under_way)
        self.ray.wait(left, num_returns=max(1, len(left)), timeout=SECONDS_TO_SAVE)

    def _say_what_has_no_room(self) -> None:
        """A run that no machine has room for waits for one, which some clusters start on demand."""
        wanted = {"CPU": max(self.cluster.cores(step.config) for step in self.steps), "GPU": self.cluster.run_gpus,
                  "memory": self.cluster.run_memory * GIGABYTE}  # fmt: skip
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= value for name, value in wanted.items()) for node in nodes):
            log.warning(
                "no machine of the cluster has %d cores, %.1f GB of memory and %g GPUs for a run; waiting for one",
                wanted["CPU"], self.cluster.run_memory, wanted["GPU"],
            )  # fmt: skip


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_order(order: dict[str, Any], events: Any) -> str:
    """On a machine of the cluster: one run; the name of its record. UserError for what this machine lacks."""
    machine = os.uname().nodename
    if order["version"] != __version__:
        raise UserError(f"{machine} has longread {__version__}, not {order['version']}; install the same on all")
    for name, place in order["mechanisms"]:
        register(name, place)
    os.environ.update(order["environment"])
    if Path(order["place"]).is_dir():  # where a relative path of a file leads
        os.chdir(order["place"])
    config = RunConfig.from_json(order["config"])

    def on_event(index: int, event: Event) -> None:
        events.put((index, event))

    if order["store"] is None:
        if not (config.out / order["seen"]).exists():
            raise UserError(f"{machine} does not see --out {config.out}; share that folder, or give --store")
        return str(run_one(order["index"], config, on_event, order["distill_steps"]).record["run_id"])
    store = Store(order["store"])
    key = key_of(config, order["distill_steps"], order["begins_from"])
    with tempfile.TemporaryDirectory(prefix="longread-run-") as scratch:
        out = Path(scratch)
        config = replace(config, out=out)
        if order["begins_from"]:
            store.get_checkpoint(order["begins_from"], out)
            config = replace(config, init=str(out / "runs" / order["begins_from"] / "checkpoint"))
        store.get_begun(key, out)

        def with_states(index: int, event: Event) -> None:
            store.put_states(key, out)
            on_event(index, event)

        try:
            run = run_one(order["index"], config, with_states, order["distill_steps"])
        except KeyboardInterrupt:
            store.put_states(key, out)
            raise
        store.put_run(key, run)
        return str(run.record["run_id"])
