"""A grid of runs, each in a process of its own, and the report on them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longread.attention import ATTENTIONS, place_of
from longread.config import BASELINES, RunConfig
from longread.data.load import check_classes, load_task
from longread.errors import UserError
from longread.records import Run, RunRecord, canonical, find_run, fingerprint, write_record
from longread.records.record import Status
from longread.study.benchmark import BenchmarkConfig
from longread.training.resolve import own_options, resolve, unused

Event = dict[str, Any]


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
    for name in base.options:
        if not any(own_options(attention, {name: None}) for attention in attentions):
            raise unused(name, attentions)
    can_drop = [name for name in attentions if name in ATTENTIONS and ATTENTIONS[name].supports_attention_dropout]
    if base.attention_dropout and not can_drop:
        raise UserError(f"attention_dropout: {', '.join(attentions)} has no attention probabilities to drop")
    configs = []
    for task in dict.fromkeys(tasks):
        if with_baselines:
            configs += [replace(base, task=task, attention=name, options={}) for name in BASELINES]
        combinations = itertools.product(dict.fromkeys(seeds), dict.fromkeys(depths), dict.fromkeys(attentions))
        for seed, depth, attention in combinations:
            dropout = base.attention_dropout if attention in can_drop else 0.0
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


def check(configs: Sequence[RunConfig]) -> None:
    """What is wrong with any run's input is said before the first one starts. UserError."""
    first_of_task = {config.task: resolve(config) for config in reversed(configs)}
    for config in configs:
        resolve(config)
    for config in first_of_task.values():
        check_classes(load_task(config.data_config())[0])


def compare(
    configs: Sequence[RunConfig], *, on_event: Callable[[int, Event], None] = lambda index, event: None
) -> list[Run]:
    """Runs them one after the other; finished ones are skipped, stopped ones go on. One record for each.

    A run that fails leaves a record with its status, and the others are done. KeyboardInterrupt stops the grid after
    the run under way has saved its state.
    """
    check(configs)
    return run_all(configs, on_event)


def run_all(configs: Sequence[RunConfig], on_event: Callable[[int, Event], None]) -> list[Run]:
    """`compare` for configurations that were checked."""
    return [_run(index, config, on_event) for index, config in enumerate(configs)]


def benchmark_all(
    configs: Sequence[BenchmarkConfig], *, on_event: Callable[[int, Event], None] = lambda index, event: None
) -> list[Run]:
    """Each mechanism's times and memory by length, one process each."""
    finished = []
    for index, config in enumerate(configs):
        values = vars(config) | {"out": str(config.out), "options": list(config.options)}
        done = _Child()
        with tempfile.TemporaryFile("w+") as errors:
            order = {"kind": "benchmark", "config": values, "mechanism": _mechanism(config.attention)}
            for event in _events(order, done, errors):
                done.take(event)
                on_event(index, event)
            errors.seek(0)
            tail = errors.read()
        run = find_run(config.out, done.run_id) if done.run_id else None
        if run is None:
            raise RuntimeError(f"benchmark of {config.attention} ended with status {done.code}: {_last_line(tail)}")
        finished.append(run)
    return finished


def _run(index: int, config: RunConfig, on_event: Callable[[int, Event], None]) -> Run:
    done = _Child()
    with tempfile.TemporaryFile("w+") as errors:
        order = {"kind": "train", "config": config.to_json(), "resume": True, "mechanism": _mechanism(config.attention)}
        for event in _events(order, done, errors):
            done.take(event)
            on_event(index, event)
        errors.seek(0)
        tail = errors.read()[-2000:]
    run = find_run(config.out, done.run_id) if done.run_id else None
    if run is not None and done.ended:
        return run
    # The process died without a record. The kernel's out-of-memory killer is the usual sender of SIGKILL.
    killed = done.code == -signal.SIGKILL
    status: Status = "out_of_memory" if killed else "error"
    error = "killed, most likely for lack of memory" if killed else _last_line(tail)
    run = _failed(config, done.run_id, status, error)
    on_event(index, {"event": "end", "run_id": run.record["run_id"], "status": status, "error": error, "detail": tail})
    return run


@dataclass
class _Child:
    run_id: str = ""
    code: int = 0
    ended: bool = False  # it said so itself, after writing its record

    def take(self, event: Event) -> None:
        if event["event"] == "refused":
            raise UserError(str(event["error"]))
        self.run_id = event.get("run_id", self.run_id)
        self.ended = self.ended or event["event"] in ("end", "skipped")


def _events(order: Event, done: _Child, errors: Any) -> Iterator[Event]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([_source(), *filter(None, sys.path)])}
    # A session of its own: a Ctrl-C reaches this process alone, which passes it on once.
    process = subprocess.Popen(
        [sys.executable, "-m", "longread.study.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)
        done.code = process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        process.stdout.close()


def _mechanism(attention: str) -> tuple[str, str] | None:
    """What the process needs to know of a mechanism that this program may have registered itself."""
    return (attention, place_of(attention)) if attention in ATTENTIONS else None


def _source() -> str:
    return str(Path(__file__).parents[2])


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the process ended without a word"


def _failed(config: RunConfig, run_id: str, status: Status, error: str) -> Run:
    record = RunRecord(
        run_id=run_id or fingerprint("failed", canonical(config.named()), str(config.seed)),
        kind="train",
        status=status,
        error=error,
        task=config.task,
        attention=config.attention,
        init=config.init,
        config=resolve(config).named(),
        seed=config.seed,
    )
    return write_record(config.out, record)
