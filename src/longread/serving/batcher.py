"""Requests of many clients packed into batches, by a budget of tokens and without a timer.

A batch forms while the model is busy with the one before. Two lanes, each with a thread of its own: one for sequences
of up to SHORT tokens, which therefore never wait behind a long document, and one for the others. A lane that has
nothing of its own to do helps the other one: the long lane at once, the short one where several documents wait and with
none that would keep a sentence waiting for long. A document that has waited for OLDEST_SECONDS is helped even before
sentences, none of which then waits for more than SPARE_SECONDS. Of a lane's sequences the shortest come first, so that
little is padded; those that have waited for OLDEST_SECONDS come before them, in their order of arrival. Each
sequence has its own future: one that fails, or whose client has left, touches no other.
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
OLDEST_SECONDS = 0.25
SPARE_SECONDS = 0.1
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
        """`before_batch(lane, alone)` runs in a lane's thread before the model does.

        Lane 0 has the short sequences, 1 the long ones; it is alone if nothing else waits or is computed, and nothing
        was so a moment ago.
        """
        self.max_waiting = max_waiting
        changed = threading.Condition()
        self._lanes = [_Lane(tokens_per_batch, changed) for _ in range(2)]
        for number, lane in enumerate(self._lanes):
            other = self._lanes[1 - number]
            start = lambda number=number, lane=lane: before_batch(number, lane.is_alone())  # noqa: E731
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
        self._met = -math.inf  # when a sequence last came while another one was waiting or computed

    def start(self, model: Model, before: Callable[[], None], other: _Lane, *, short: bool) -> None:
        self._model, self._before, self._other, self._short = model, before, other, short
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_alone(self) -> bool:
        """The other lane has nothing to do, and for a moment no two requests have met: no other is on its way."""
        met = max(self._met, self._other._met)
        return not self._other.running and not self._other.queue and time.monotonic() - met > IDLE_SECONDS

    def put(self, sequence: Tokens) -> _Waiting:
        entry = _Waiting(sequence, time.monotonic())
        with self._changed:
            if self._closed:
                raise Closed
            if any(lane.running or lane.queue for lane in (self, self._other)):
                self._met = entry.arrived
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
            answers = []
            if batch:
                self._before()
                answers = self._answers(batch)
            self.running = False  # first: whoever has an answer may send the next sequence at once
            for entry, answer in zip(batch, answers, strict=True):
                if isinstance(answer, Answer):
                    entry.future.set_result(answer)
                else:
                    entry.future.set_exception(answer)

    def _take(self) -> list[_Waiting]:
        """The next batch: of this lane's queue, or of the other one's where that helps it; [] for nothing to do."""
        if self._short and self._other.running and (batch := self._take_documents()):
            return batch
        if self.queue:
            return self._cut(self.queue, self._budget)
        if self._short or not self._other.running:  # the other one takes its own itself
            return []
        return self._cut(self._other.queue, self._budget)

    def _take_documents(self) -> list[_Waiting]:
        """For the short lane, those of the other one that are to be computed before its own. Queues are in order."""
        small = [entry for entry in self._other.queue if len(entry) <= HELP_TOKENS]
        if not small:
            return []
        now = time.monotonic()
        if now - small[0].arrived < OLDEST_SECONDS:
            wanted = not self.queue and len(self._other.queue) >= HELP_FROM
        else:
            wanted = not self.queue or now - self.queue[0].arrived < SPARE_SECONDS
        return self._cut(small, HELP_TOKENS) if wanted else []

    def _cut(self, queue: list[_Waiting], budget: int) -> list[_Waiting]:
        """A batch out of its queue: whatever is too old, as it came, then the shortest, while the budget lasts."""
        now = time.monotonic()
        old = [entry for entry in queue if now - entry.arrived >= OLDEST_SECONDS]
        order = old + sorted(queue[len(old) :], key=len)
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

    def _answers(self, batch: list[_Waiting]) -> list[Answer | BaseException]:
        start = time.monotonic()
        try:
            logits = self._model([entry.sequence for entry in batch])
        except BaseException as error:
            # One of them is to blame: each by itself.
            return [error] if len(batch) == 1 else [answer for entry in batch for answer in self._answers([entry])]
        seconds = time.monotonic() - start
        return [Answer(row, start - entry.arrived, seconds) for entry, row in zip(batch, logits, strict=True)]


def _has_types(entry: _Waiting) -> bool:
    return entry.sequence.types is not None
