"""Predictions for a stream of texts of any length, in constant memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from longread.data.stream import Block
from longread.errors import UserError
from longread.inference.prediction import Prediction
from longread.inference.predictor import Predictor
from longread.system import processes

log = logging.getLogger("longread")


class Answer(NamedTuple):
    """`row` of the input from 0, the values of the columns that are kept, and what the model says."""

    row: int
    kept: tuple[Any, ...]
    prediction: Prediction


@dataclass(frozen=True)
class Tally:
    """What was answered so far: blocks, their texts, and how many of these are empty or were cut."""

    blocks: int = 0
    texts: int = 0
    empty: int = 0
    cut: int = 0

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.texts, self.empty, self.cut

    def say(self) -> None:
        """At the end. UserError where nothing was given."""
        if not self.texts:
            raise UserError("nothing to classify: give texts, --file with rows, or lines on standard input")
        if self.empty:
            log.warning("empty, and without an answer: %s of %s texts", f"{self.empty:,}", f"{self.texts:,}")
        if self.cut:
            log.warning("longer than the model reads, and cut: %s of %s texts", f"{self.cut:,}", f"{self.texts:,}")


def answer(
    predictor: Predictor,
    blocks: Iterable[Block],
    written_as: Callable[[Sequence[Answer]], bytes],
    pair: str | None = None,
    *,
    done: Tally = Tally(),
    on_progress: Callable[[int, float | None], None] = lambda texts, fraction: None,
) -> Iterator[tuple[bytes, Tally]]:
    """One answer for each row, as it is written, in order, block by block, with the count of all until then.

    On several processes each reads the input and answers a share of its blocks; the first one gets all, the others
    nothing. pair: the second text of every row. done: blocks at the front that were answered before. on_progress: gets
    the texts that are answered and how much of the input they are, if that is known. UserError where there are no rows.
    """
    tally = done
    pieces = _pieces(predictor, _own(_with_pair(blocks, pair), done), written_as)
    for data, told in _together(pieces):
        tally = Tally(tally.blocks + 1, *(a + b for a, b in zip(tally.counts, told["counts"], strict=True)))
        on_progress(tally.texts, told["read"])
        if data is not None:
            yield data, tally
    tally.say()


def _own(blocks: Iterable[Block], done: Tally) -> Iterator[Block]:
    """Of the blocks behind those that are done, numbered by rows: this process's."""
    first = done.texts
    for turn, block in enumerate(islice(blocks, done.blocks, None)):
        if turn % processes.count() == processes.rank():
            yield replace(block, first=first)
        first += len(block)


# What is known of a block's answers by all processes: "counts" of texts, empty and cut, and how much of the input was
# "read"; or in their place an "error", or the "end".
_Told = dict[str, Any]


def _pieces(
    predictor: Predictor, blocks: Iterable[Block], written_as: Callable[[Sequence[Answer]], bytes]
) -> Iterator[tuple[bytes, _Told]]:
    with closing(predictor.stream(blocks)) as found:
        for block, predictions in found:
            columns = list(block.kept.values())
            kept = list(zip(*columns, strict=True)) if columns else [()] * len(block)
            own = [Answer(block.first + row, kept[row], one) for row, one in enumerate(predictions)]
            counts = len(own), sum(a.why is not None for a in predictions), sum(a.truncated for a in predictions)
            yield written_as(own), {"counts": counts, "read": block.read}


def _together(pieces: Iterator[tuple[bytes, _Told]]) -> Iterator[tuple[bytes | None, _Told]]:
    """The pieces of all processes in the blocks' order; the bytes for the first process alone.

    No process is more than a block ahead of the others, so that no more is in memory.
    """
    if processes.count() == 1:
        yield from pieces
        return
    while True:
        data: bytes = b""
        own: _Told = {"end": True}
        try:
            data, own = next(pieces, (data, own))
        except UserError as error:  # the first process says it, when all blocks before have been answered
            own = {"error": str(error)}
        told, found = processes.everyones(own), processes.to_first(data)
        for rank, one in enumerate(told):
            if "error" in one:
                raise UserError(one["error"])
            if "end" in one:
                return
            yield found[rank] if found else None, one


def _with_pair(blocks: Iterable[Block], pair: str | None) -> Iterator[Block]:
    for block in blocks:
        if pair is None:
            yield block
        elif block.pairs is not None:
            raise UserError("--pair: the file has two text columns already; leave it out, or name one --text-columns")
        else:
            yield replace(block, pairs=[pair] * len(block))
