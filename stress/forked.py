"""The program in a process of its own, a fork of this one, which has loaded what a run needs: a tenth of its time.

It is killed with SIGKILL at the moment that is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HUNG_SECONDS = 120.0
LOADED_ONCE = ("longread.cli.train", "longread.cli.convert", "longread.cli.live", "longread.training.distill",
               "longread.training.baselines", "longread.inference.run_linear", "torch._dynamo", "sklearn.metrics",
               "sklearn.linear_model", "pyarrow.parquet", "safetensors.torch")  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """When a run is killed: so many seconds after it began, after its n-th change of a file, or in its last evaluation.

    `seconds` count from there; None: at once, by its own hand.
    """

    after: str  # start, change or evaluation
    number: int = 0
    seconds: float | None = 0.0


def load_once() -> None:
    for module in LOADED_ONCE:
        importlib.import_module(module)


def program(order: list[str], place: Path, kill: Kill | None = None) -> tuple[int, str]:
    """The program in a process of its own: its exit status (-9 where it was killed) and the end of what it said."""
    status, said, _ = counted_program(order, place, kill)
    return status, said


def counted_program(order: list[str], place: Path, kill: Kill | None) -> tuple[int, str, int]:
    """Also how many changes of files it made, where it was not killed."""
    place.mkdir(parents=True, exist_ok=True)
    said = place.with_suffix(".txt")
    heard, tell = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(heard)
        _be_the_program(order, place, said, tell, kill)
    os.close(tell)
    ends_at = None if kill is None or kill.after != "start" else began + (kill.seconds or 0)
    changes, status = 0, 0
    try:
        while time.monotonic() - began < HUNG_SECONDS:
            wait = 0.05 if ends_at is None else max(0.0, min(0.05, ends_at - time.monotonic()))
            if select.select([heard], [], [], wait)[0]:
                words = os.read(heard, 1000)
                if b"k" in words and kill is not None:
                    ends_at = time.monotonic() + (kill.seconds or 0)
                changes += words.count(b"c")
                if not words:
                    time.sleep(0.001)
            if ends_at is not None and time.monotonic() >= ends_at:
                os.kill(child, signal.SIGKILL)  # not reaped yet: the number is still its own
                ends_at = None
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                while words := os.read(heard, 1000):
                    changes += words.count(b"c")
                status = os.waitstatus_to_exitcode(code)
                break
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 1, "hung", changes
    finally:
        os.close(heard)
    return status, said.read_text(errors="replace")[-600:] if said.exists() else "", changes


def _be_the_program(order: list[str], place: Path, said: Path, tell: int, kill: Kill | None) -> None:
    """Never returns."""
    code = 70
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        reached = functools.partial(_reached, tell, kill)
        _watch_files(str(place), tell, reached)
        _watch_last_evaluation(reached)
        from longread.cli.main import main

        code = main(order)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _reached(tell: int, kill: Kill | None, where: str, number: int) -> None:
    if kill is None or kill.after != where or (where == "change" and kill.number != number):
        return
    if kill.seconds is None:
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(tell, b"k")


CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "tempfile.mkstemp", "tempfile.mkdtemp")


def _watch_files(place: str, tell: int, reached: Callable[[str, int], None]) -> None:
    """Python tells its audit hooks of every file before it is opened for writing, made, moved or deleted."""
    count = 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = given
            if not isinstance(path, str) or not path.startswith(place) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in CHANGES or place not in str(given[0]):
            return
        count += 1
        os.write(tell, b"c")
        reached("change", count)

    sys.addaudithook(hook)


def _watch_last_evaluation(reached: Callable[[str, int], None]) -> None:
    from longread.training.trainer import Trainer

    finish = Trainer._finish_epoch

    def watched(self: Trainer, *given: Any) -> None:
        if self.epoch + 1 == self.epochs:
            reached("evaluation", 0)
        finish(self, *given)

    Trainer._finish_epoch = watched  # type: ignore[method-assign]
