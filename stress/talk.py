"""A client that may send anything over a socket, and reads the answers that come."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

Piece = bytes | float  # what is sent, or seconds that nothing is
CLOSED, HUNG = "closed", "no whole answer in time"


def talk(
    port: int, pieces: Sequence[Piece], answers: int, seconds: float, *, half_close: bool = False, leave: str = ""
) -> tuple[list[tuple[int, bytes]], str]:
    """Statuses and bodies of at most so many answers, and how the connection ended where there were fewer.

    leave: "close" or "reset" once all is sent, without reading.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            for piece in pieces:
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    time.sleep(piece)
            if leave == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if leave:
                return [], CLOSED
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was closed while we were sending; an answer may have come before
        return _answers(connection, answers, time.monotonic() + seconds)


def _answers(connection: socket.socket, count: int, end: float) -> tuple[list[tuple[int, bytes]], str]:
    found: list[tuple[int, bytes]] = []
    got = b""
    while True:
        while (one := _first(got)) is not None:
            status, body, got = one
            found.append((status, body))
            if len(found) == count:
                return found, ""
        connection.settimeout(max(0.01, end - time.monotonic()))
        try:
            more = connection.recv(65_536)
        except TimeoutError:
            return found, HUNG
        except OSError:
            return found, CLOSED
        if not more:
            return found, CLOSED
        got += more


def _first(got: bytes) -> tuple[int, bytes, bytes] | None:
    """Status, body and what comes behind it, once an answer is there whole."""
    head, end, rest = got.partition(b"\r\n\r\n")
    if not end:
        return None
    line, *headers = head.split(b"\r\n")
    length = next((int(h.split(b":")[1]) for h in headers if h.lower().startswith(b"content-length:")), 0)
    if len(rest) < length:
        return None
    return int(line.split()[1]), rest[:length], rest[length:]
