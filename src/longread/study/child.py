"""One run in a process of its own (study/worker.py), watched from here."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from longread.attention import ATTENTIONS, place_of
from longread.config import RunConfig
from longread.errors import UserError
from longread.records import Run, RunRecord, canonical, find_run, fingerprint, with_error, write_record
from longread.records.record import Status
from longread.study.benchmark import BenchmarkConfig
from longread.training.resolve import resolve

log = logging.getLogger("longread")

Event = dict[str, Any]
Listener = Callable[[int, Event], None]
SECONDS_TO_SAVE = 60  # that a stopped worker is given before it is killed
TIME_IS_UP = "stopped at the time limit"


def run_one(
    index: int,
    config: RunConfig,
    on_event: Listener,
    distill_steps: int | None = None,
    *,
    time_limit: float | None = None,
) -> Run:
    """Trains, or distils for so many steps; a stopped run goes on, a finished one is skipped. One record in any case.

    KeyboardInterrupt is passed on to the worker, which saves its state first; so is the end of `time_limit` seconds,
    which the record then names.
    """
    order = {"kind": "train", "config": config.to_json(), "distill_steps": distill_steps}
    done, tail = _watch(order | _mechanisms(config.attention), lambda event: on_event(index, event), time_limit)
    run = find_run(config.out, done.run_id) if done.run_id else None
    if run is not None and done.ended:
        _forget_failure(config, distill_steps)
        late = done.timed_out and run.record["status"] == "interrupted"
        return with_error(run, f"{TIME_IS_UP}; its state is kept") if late else run
    # The process died without a record. The kernel's out-of-memory killer is the usual sender of SIGKILL.
    killed = done.code == -signal.SIGKILL
    status: Status = "interrupted" if done.timed_out else "out_of_memory" if killed else "error"
    error = done.refused or ("killed, most likely for lack of memory" if killed else _last_line(tail))
    error = f"{TIME_IS_UP}, before it had learned anything" if done.timed_out else error
    run = failed(config, done.run_id, status, error, distill_steps)
    on_event(index, {"event": "end", "run_id": run.record["run_id"], "status": status, "error": error, "detail": tail})
    return run


def measure_one(index: int, config: BenchmarkConfig, on_event: Listener) -> Run:
    """One mechanism's times and memory by length. UserError for wrong input; RuntimeError without a record."""
    values = vars(config) | {"out": str(config.out), "options": list(config.options)}
    order = {"kind": "benchmark", "config": values} | _mechanisms(config.attention)
    done, tail = _watch(order, lambda event: on_event(index, event))
    if done.refused:
        raise UserError(done.refused)
    run = find_run(config.out, done.run_id) if done.run_id else None
    if run is None:
        raise RuntimeError(f"benchmark of {config.attention} ended with status {done.code}: {_last_line(tail)}")
    return run


def failed(config: RunConfig, run_id: str, status: Status, error: str, distill_steps: int | None = None) -> Run:
    """The record of a run that wrote none itself; without a run id it is named by what was asked for."""
    resolved = config if distill_steps else resolve(config)
    record = RunRecord(
        run_id=run_id or _name_of_failure(config, distill_steps),
        kind="distill" if distill_steps else "train",
        status=status,
        error=error,
        task=config.task,
        attention=config.attention,
        init=config.init,
        config=resolved.named() | ({"steps": distill_steps} if distill_steps else {}),
        seed=config.seed,
    )
    return write_record(config.out, record)


def _name_of_failure(config: RunConfig, distill_steps: int | None) -> str:
    return fingerprint("failed", canonical(config.named()), str(config.seed), str(distill_steps))


def _forget_failure(config: RunConfig, distill_steps: int | None) -> None:
    """What was refused before and runs now has a record of its own."""
    directory = config.out / "runs" / _name_of_failure(config, distill_steps)
    if directory.is_dir():
        (directory / "run.json").unlink(missing_ok=True)
        directory.rmdir()


@dataclass
class _Child:
    run_id: str = ""
    code: int = 0
    refused: str = ""  # what is wrong with its input
    ended: bool = False  # it said so itself, after writing its record
    timed_out: bool = False

    def take(self, event: Event) -> None:
        if event["event"] == "refused":
            self.refused = str(event["error"])
        self.run_id = event.get("run_id", self.run_id)
        self.ended = self.ended or event["event"] in ("end", "skipped")


def _watch(order: Event, on_event: Callable[[Event], None], time_limit: float | None = None) -> tuple[_Child, str]:
    """What became of the worker, and the end of what it wrote on stderr."""
    done = _Child()
    with tempfile.TemporaryFile("w+") as errors, closing(_events(order, done, errors, time_limit)) as events:
        for event in events:
            done.take(event)
            if event["event"] != "refused":
                on_event(event)
        errors.seek(0)
        return done, errors.read()[-2000:]


def _events(order: Event, done: _Child, errors: Any, time_limit: float | None) -> Generator[Event]:
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

    def stop() -> None:
        done.timed_out = process.poll() is None
        process.terminate()

    limits = [] if time_limit is None else [Timer(time_limit, stop), Timer(time_limit + SECONDS_TO_SAVE, process.kill)]
    for limit in limits:
        limit.daemon = True
        limit.start()
    try:
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)
        done.code = process.wait()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            log.warning("stopping: the run under way saves its state; Ctrl-C again does not wait for it")
        process.terminate()
        try:
            process.wait(timeout=SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        for limit in limits:
            limit.cancel()
        process.stdout.close()


def _mechanisms(attention: str) -> Event:
    """What the process needs to know of mechanisms that this program may have registered itself."""
    names = dict.fromkeys(attention.split())
    return {"mechanisms": [(name, place_of(name)) for name in names if name in ATTENTIONS]}


def _source() -> str:
    return str(Path(__file__).parents[2])


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the process ended without a word"
