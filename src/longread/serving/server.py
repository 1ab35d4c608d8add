"""The process: a socket, the application on it, and an end that loses no request."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from longread.errors import UserError
from longread.serving.app import create_app
from longread.serving.service import Service
from longread.serving.settings import ServeSettings
from longread.serving.state import HEADERS, State

log = logging.getLogger("longread")


class _Protocol(H11Protocol):
    """uvicorn's, but what is no HTTP is refused in the shape of every other error."""

    def send_400_response(self, msg: str) -> None:
        body = json.dumps(
            {"error": "this is not HTTP/1.1 as it should be; see the request line and the headers"}
        ).encode()
        headers = HEADERS | {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        for event in (
            h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn, but SIGTERM and SIGINT end it with exit status 0 when all that was taken is answered."""

    def __init__(self, config: uvicorn.Config, state: State, signals: Sequence[signal.Signals]) -> None:
        super().__init__(config)
        self._state, self._signals = state, signals
        state.stop = lambda: self.handle_exit(signal.SIGTERM, None)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._stop) for number in self._signals}
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
    listener = bind(settings)
    serve_on(listener, load, settings, on_ready=lambda: tell_address(listener))


def serve_on(
    listener: socket.socket,
    load: Callable[[], Service],
    settings: ServeSettings,
    *,
    signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """As `serve`, on a socket that listens; `on_ready` runs when the model is loaded."""
    logging.getLogger("longread.serving").setLevel(logging.INFO)
    app = create_app(load, settings)
    # What still waits when the timeout is over has been answered with 504 by then.
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(settings.timeout) + 1,
    )
    state: State = app.state.longread
    state.on_ready = on_ready
    _Server(config, state, signals).run(sockets=[listener])
    if state.error is not None:
        raise state.error


def bind(settings: ServeSettings) -> socket.socket:
    """A socket that listens. UserError where it cannot be had."""
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


def tell_address(listener: socket.socket) -> None:
    """Said once the model is loaded, so that whoever reads it can ask."""
    host, port = listener.getsockname()[:2]
    log.info("http://%s:%d", f"[{host}]" if ":" in host else host, port)
