"""Several processes behind one port: each has the model and takes connections from the same socket."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from longread.errors import UserError
from longread.serving.metrics import SHARED
from longread.serving.server import bind, serve_on, tell_address
from longread.serving.service import Service
from longread.serving.settings import ServeSettings

log = logging.getLogger("longread")
Load = Callable[[], Service]
Begin = Callable[[], None]


def serve_with_workers(load: Load, settings: ServeSettings, begin: Begin) -> None:
    """Serves until SIGTERM or SIGINT, when every worker answers what it took. `begin` runs first in each process.

    A worker that dies is replaced; one that cannot load the model ends them all. UserError as `serve`. `load` and
    `begin` travel to the workers, so they must be picklable.
    """
    listener = bind(settings)
    with tempfile.TemporaryDirectory(prefix="longread-metrics-") as place:
        os.environ[SHARED] = place  # counters are files there, which whoever is asked adds up
        try:
            _Workers(load, settings, begin, listener).run()
        finally:
            del os.environ[SHARED]
            listener.close()


class _Workers:
    def __init__(self, load: Load, settings: ServeSettings, begin: Begin, listener: socket.socket) -> None:
        self._arguments = (load, settings, begin, listener)
        self._running: dict[SpawnProcess, Connection] = {}
        self._memory: dict[int, int] = {}  # process -> bytes, of those that are ready
        self._stopping = self._told = False
        self._error: str | None = None

    def run(self) -> None:
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        count = self._arguments[1].workers
        try:
            for _ in range(count):
                self._start()
            while self._running:
                # The time limit is for a signal that comes while we wait.
                changed = connection.wait([*self._running.values(), *(p.sentinel for p in self._running)], 0.5)
                for process, pipe in list(self._running.items()):
                    if pipe in changed:
                        self._hear(process, pipe, count)
                    if not process.is_alive():
                        self._ended(process)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._error is not None:
            raise UserError(self._error)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(*self._arguments, there), daemon=True)
        process.start()
        there.close()
        self._running[process] = here

    def _hear(self, process: SpawnProcess, pipe: Connection, count: int) -> None:
        try:
            told = pipe.recv()
        except EOFError:  # it has ended
            process.join()
            return
        if isinstance(told, str):
            self._error = told
            self._stop(signal.SIGTERM, None)
        else:
            self._memory[process.pid or 0] = told
            if len(self._memory) == count:
                total = sum(self._memory.values()) / 1e6
                log.info("%d workers are ready; they hold about %.0f MB, %.0f MB each", count, total, total / count)
                if not self._told:
                    tell_address(self._arguments[3])
                self._told = True

    def _ended(self, process: SpawnProcess) -> None:
        del self._running[process]
        assert process.pid
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        if self._stopping:
            return
        if self._memory.pop(process.pid, None) is None:
            self._error = f"a worker ended with status {process.exitcode} before it was ready"
            self._stop(signal.SIGTERM, None)
        else:
            log.warning("worker %d ended with status %s; another one begins", process.pid, process.exitcode)
            self._start()

    def _stop(self, number: int, frame: object) -> None:
        again = self._stopping and number == signal.SIGINT  # a person who does not want to wait
        self._stopping = True
        for process in self._running:
            (process.kill if again else process.terminate)()


def _work(load: Load, settings: ServeSettings, begin: Begin, listener: socket.socket, tell: Connection) -> None:
    """A worker: its parent passes on the signals, so a terminal's own Ctrl-C is not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin()
    try:
        serve_on(listener, load, settings, signals=(signal.SIGTERM,), on_ready=lambda: tell.send(_memory()))
    except UserError as error:
        tell.send(str(error))


def _memory() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
