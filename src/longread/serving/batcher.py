"""Requests of many clients packed into batches, by a budget of tokens and without a timer.

A batch forms while the model is busy with the one before. Two lanes, each with a thread of its own: one for sequences
of up to SHORT tokens, which therefore never wait behind a long document, and one for the others. A lane that has
nothing of its own to do helps the other one: the long lane at once, the short one only where several documents wait and
with none that would keep a sentence waiting for long. The shortest sequences come first, so that little is padded, but
none is passed over for longer than OLDEST_SECONDS. Each sequence has its own future: one that fails, or whose client
has left, touches no other.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

SHORT = 128
OLDEST_SECONDS = 0.5
IDLE_SECONDS = 0.5
HELP_FROM = 3  # documents that wait: fewer are not worth a sentence's waiting
HELP_TOKENS = 512  # of a document, or several, that the short lane takes

Ids = npt.NDArray[np.int32]
Types = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tokens:
    """One sequence as a model reads it. first_text: tokens of a pair's first text, 0 for a single text."""

    ids: Ids
    types: Types | None = None
    first_text: int = 0

    def __len__(self) -> int:
        return len(self.ids)


# The sequences of a batch, all with token types or all without -> logits [B, num_labels].
Model = Callable[[Sequence[Tokens]], npt.NDArray[np.floating[Any]]]


class Overloaded(Exception):
    """As many sequences wait as may."""


class Closed(Exception):
    """The batcher takes nothing more."""


@dataclass
class Answer:
    """Logits [num_labels] of one sequence, and where its time went."""

    logits: npt.NDArray[np.floating[Any]]
    queue_seconds: float
    inference_seconds: float
    batch_size: int
    batch_tokens: int


@dataclass
class _Waiting:
    sequence: Tokens
    arrived: float
    future: Future[Answer] = field(default_factory=Future)

    def __len__(self) -> int:
        return len(self.sequence)


class Batcher:
    """`await submit(sequence)` gives the model's answer; `close()` answers what waits and stops."""

    def __init__(
        self,
        model: Model,
        *,
        tokens_per_batch: int = 16_384,
        max_waiting: int = 512,
        before_batch: Callable[[int, bool], None] = lambda lane, alone: None,
    ) -> None:
        """`before_batch(lane, alone)` runs in a lane's thread before the model does: lane 0 has the short sequences,

        1 the long ones, and it is alone if the other one has nothing to do.
        """
        self.max_waiting = max_waiting
        changed = threading.Condition()
        self._lanes = [_Lane(tokens_per_batch, changed) for _ in range(2)]
        for number, lane in enumerate(self._lanes):
            other = self._lanes[1 - number]
            start = lambda number=number, other=other: before_batch(number, other.is_idle())  # noqa: E731
            lane.start(model, start, other, short=number == 0)

    @property
    def waiting(self) -> int:
        return sum(len(lane.queue) for lane in self._lanes)

    async def submit(self, sequence: Tokens) -> Answer:
        """Raises Overloaded, Closed, or what the model raised on this sequence; cancelled, it leaves the queue."""
        if self.waiting >= self.max_waiting:
            raise Overloaded
        entry = self._lanes[int(len(sequence) > SHORT)].put(sequence)
        return await asyncio.wrap_future(entry.future)

    def close(self) -> None:
        """Blocks until all that was taken is answered."""
        for lane in self._lanes:
            lane.close()


class _Lane:
    """A queue and the thread that empties it. Both lanes change under one lock."""

    def __init__(self, budget: int, changed: threading.Condition) -> None:
        self.queue: list[_Waiting] = []
        self.running = False
        self._budget = budget
        self._changed = changed
        self._closed = False
        self._ended = -math.inf  # when the last batch did

    def start(self, model: Model, before: Callable[[], None], other: _Lane, *, short: bool) -> None:
        self._model, self._before, self._other, self._short = model, before, other, short
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_idle(self) -> bool:
        """Nothing to do, and nothing done for a moment: another request may be on its way."""
        return not self.running and not self.queue and time.monotonic() - self._ended > IDLE_SECONDS

    def put(self, sequence: Tokens) -> _Waiting:
        entry = _Waiting(sequence, time.monotonic())
        with self._changed:
            if self._closed:
                raise Closed
            self.queue.append(entry)
            self._changed.notify_all()
        return entry

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (batch := self._take()) and not self._closed:
                    self._changed.wait()
                self.running = bool(batch)
            if not batch:
                return
            # A future that was cancelled belongs to a client that has left.
            batch = [entry for entry in batch if entry.future.set_running_or_notify_cancel()]
            if batch:
                self._before()
                self._answer(batch)
            self.running, self._ended = False, time.monotonic()

    def _take(self) -> list[_Waiting]:
        """The next batch: of this lane's queue, or of the other one's where that helps it; [] for nothing to do."""
        if self.queue:
            return self._cut(self.queue, self._budget)
        waiting = self._other.queue
        if not self._other.running:  # it will take them itself
            return []
        if not self._short:
            return self._cut(waiting, self._budget)
        if len(waiting) < HELP_FROM:
            return []
        return self._cut([entry for entry in waiting if len(entry) <= HELP_TOKENS], HELP_TOKENS)

    def _cut(self, queue: list[_Waiting], budget: int) -> list[_Waiting]:
        """A batch out of its queue: whatever is too old, then the shortest, while the budget lasts."""
        now = time.monotonic()
        order = sorted(queue, key=lambda entry: (now - entry.arrived < OLDEST_SECONDS, len(entry)))
        batch: list[_Waiting] = []
        tokens = 0
        for entry in order:
            # With and without token types are two batches: a model may embed type 0.
            if batch and (tokens + len(entry) > budget or _has_types(entry) != _has_types(batch[0])):
                continue
            batch.append(entry)
            tokens += len(entry)
        taken = {id(entry) for entry in batch}
        for lane in (self, self._other):
            lane.queue = [entry for entry in lane.queue if id(entry) not in taken]
        return sorted(batch, key=len)

    def _answer(self, batch: list[_Waiting]) -> None:
        start = time.monotonic()
        try:
            logits = self._model([entry.sequence for entry in batch])
        except BaseException as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for entry in batch:  # one of them is to blame: each by itself
                self._answer([entry])
            return
        seconds = time.monotonic() - start
        tokens = sum(map(len, batch))
        for entry, row in zip(batch, logits, strict=True):
            entry.future.set_result(Answer(row, start - entry.arrived, seconds, len(batch), tokens))


def _has_types(entry: _Waiting) -> bool:
    return entry.sequence.types is not None
