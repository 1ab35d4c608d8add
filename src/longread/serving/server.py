"""The process: a socket, the application on it, and an end that loses no request."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from longread.errors import UserError
from longread.serving.app import State, create_app
from longread.serving.service import Service
from longread.serving.settings import ServeSettings


class _Server(uvicorn.Server):
    """uvicorn, but SIGTERM and SIGINT end it with exit status 0 when all that was taken is answered."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state
        state.stop = lambda: self.handle_exit(signal.SIGTERM, None)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        self._state.draining = True  # what comes on open connections from now on is answered with 503
        self.handle_exit(number, None)


def serve(load: Callable[[], Service], settings: ServeSettings) -> None:
    """Serves until SIGTERM or SIGINT. UserError where the address cannot be had or the model cannot be loaded."""
    logging.getLogger("longread.serving").setLevel(logging.INFO)
    app = create_app(load, settings)
    listener = _bind(settings)
    host, port = listener.getsockname()[:2]
    logging.getLogger("longread").info("http://%s:%d", host, port)
    # What still waits when the timeout is over has been answered with 504 by then.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(settings.timeout) + 1
    )
    state: State = app.state.longread
    _Server(config, state).run(sockets=[listener])
    if state.error is not None:
        raise state.error


def _bind(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # By its protocol asyncio knows a TCP socket, and sends small answers at once: without it each takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"--host {settings.host} --port {settings.port}: {error.strerror}; choose another port (0: any free one)"
        ) from None
    listener.listen(2048)  # who asks while the model is being loaded waits, then is told 503
    return listener
