"""What a run says while it goes on: dictionaries with an "event" and, by kind, what is new."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Listener = Callable[[Event], None]
SECONDS_BETWEEN_EVENTS = 0.5


def ignore(event: Event) -> None:
    """The listener of those who do not want to hear."""


class EvaluationEvents:
    """How far an evaluation is: given to `predict_split` as `on_rows`, it tells the listener twice a second."""

    def __init__(self, name: str, of: int, listener: Listener) -> None:
        """name: of the rows, in words. of: how many there are."""
        self.name, self.of, self.listener = name, of, listener
        self.began = self.last = time.monotonic()

    def __call__(self, rows: int, fraction: float) -> None:
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_EVENTS or not fraction:
            return
        self.last = now
        left = (now - self.began) * (1 / fraction - 1)
        self.listener({"event": "evaluating", "name": self.name, "rows": rows, "of": self.of, "seconds_left": left})
