"""Asking a run to stop: it finishes its step, saves its state and says so in its record."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from longread.errors import ProcessLost, UserError

log = logging.getLogger("longread")

# Ctrl-C, a scheduler's or `kill`'s request, and a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(Exception):
    """Somebody asked the run to stop; its state is on disk."""


class StopRequest:
    """Turns the first signal into a flag, read between steps; a second Ctrl-C acts at once.

    says: on several processes the signal may mean that one has ended, and the step cannot be finished.
    """

    def __init__(self, says: bool = True) -> None:
        self.asked, self.says = False, says
        self._acts_at_once = False
        self._old: dict[int, Any] = {}

    @contextmanager
    def acting_at_once(self) -> Iterator[None]:
        """Inside, a signal raises Interrupted where it comes: for work that takes long and changes no weights."""
        self._acts_at_once = True
        try:
            if self.asked:
                raise Interrupted
            yield
        finally:
            self._acts_at_once = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        # A closed terminal sends SIGHUP and often SIGTERM behind it: only a person's second Ctrl-C means "at once".
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked and self.says:
            log.warning("stopping: this step is finished and the state saved; Ctrl-C again stops at once")
        self.asked = True
        if self._acts_at_once:
            self._acts_at_once = False
            raise Interrupted


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does: for all work that is not a training's loop.

    A library that is cut short as it is imported may fail with an error of its own: that is the interrupt, too.
    """
    came = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where a shell ignores it
    old = {number: signal.signal(number, interrupt) for number in SIGNALS if number != signal.SIGINT or pressed}
    try:
        yield
    except Exception as error:
        if came and not isinstance(error, UserError | ProcessLost | OSError):
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def signals_wait() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt at the end of the body: what it writes, it writes whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    old = {n: signal.signal(n, lambda number, frame: came.append(number)) for n in SIGNALS if n != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
