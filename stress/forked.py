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
from collections.abc import Callable, Sequence
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


@dataclass
class Program:
    """One command with its --out; `before` is called in the process, `inside` at each change of a file of `out`, with
    its number and the path, and may raise what the system would."""

    order: Sequence[str]
    out: Path
    kill: Kill | None = None
    before: Callable[[], None] | None = None
    inside: Callable[[int, str], None] | None = None
    changes: int = 0  # of files, once it has run

    def run(self) -> tuple[int, str]:
        """Exit status (-9 where it was killed) and the end of what it said."""
        self.out.mkdir(parents=True, exist_ok=True)
        said = self.out.with_suffix(".txt")
        heard, tell = os.pipe()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(heard)
            self._work(said, tell)
        os.close(tell)
        try:
            status = self._watch(child, heard, began)
        finally:
            os.close(heard)
        return status, said.read_text(errors="replace")[-600:] if said.exists() else ""

    def _watch(self, child: int, heard: int, began: float) -> int:
        after_start = self.kill is not None and self.kill.after == "start"
        ends_at = began + (self.kill.seconds or 0) if self.kill is not None and after_start else None
        while time.monotonic() - began < HUNG_SECONDS:
            wait = 0.05 if ends_at is None else max(0.0, min(0.05, ends_at - time.monotonic()))
            if select.select([heard], [], [], wait)[0]:
                words = os.read(heard, 1000)
                if b"k" in words and self.kill is not None:
                    ends_at = time.monotonic() + (self.kill.seconds or 0)
                self.changes += words.count(b"c")
                if not words:
                    time.sleep(0.001)
            if ends_at is not None and time.monotonic() >= ends_at:
                os.kill(child, signal.SIGKILL)  # not reaped yet: the number is still its own
                ends_at = None
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                while words := os.read(heard, 1000):
                    self.changes += words.count(b"c")
                return os.waitstatus_to_exitcode(code)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise TimeoutError(f"{' '.join(self.order)} hangs")

    def _work(self, said: Path, tell: int) -> None:
        """Never returns."""
        code = 70
        try:
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            reached = functools.partial(_reached, tell, self.kill)
            _watch_files(str(self.out), tell, reached, self.inside)
            _watch_last_evaluation(reached)
            from longread.cli.main import main

            if self.before is not None:
                self.before()
            code = main(list(self.order))
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


def _watch_files(
    place: str, tell: int, reached: Callable[[str, int], None], inside: Callable[[int, str], None] | None
) -> None:
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
        if inside is not None:
            inside(count, str(given[0]))

    sys.addaudithook(hook)


def _watch_last_evaluation(reached: Callable[[str, int], None]) -> None:
    from longread.training.trainer import Trainer

    finish = Trainer._finish_epoch

    def watched(self: Trainer, *given: Any) -> None:
        if self.epoch + 1 == self.epochs:
            reached("evaluation", 0)
        finish(self, *given)

    Trainer._finish_epoch = watched  # type: ignore[method-assign]
