"""Predictions for a stream of texts of any length, in constant memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from longread.data.stream import Block
from longread.errors import UserError
from longread.inference.predictor import Prediction, Predictor

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

    def say(self) -> None:
        """At the end. UserError where nothing was given."""
        if not self.texts:
            raise UserError("nothing to classify: give texts, --file with rows, or lines on standard input")
        if self.empty:
            log.warning("%s of %s texts are empty and have no answer", f"{self.empty:,}", f"{self.texts:,}")
        if self.cut:
            log.warning(
                "%s of %s texts are longer than the model reads and were cut", f"{self.cut:,}", f"{self.texts:,}"
            )


def answer(
    predictor: Predictor,
    blocks: Iterable[Block],
    pair: str | None = None,
    *,
    done: Tally = Tally(),
    on_progress: Callable[[int, float | None], None] = lambda texts, fraction: None,
) -> Iterator[tuple[list[Answer], Tally]]:
    """One answer for each row, in order, block by block, with the count of all until then.

    pair: the second text of every row. done: blocks at the front that were answered before. on_progress: gets the
    texts that are answered and how much of the input they are, if that is known. UserError where there are no rows.
    """
    tally = done
    rest = islice(blocks, done.blocks, None)
    with closing(predictor.stream(_with_pair(rest, pair))) as found:
        for block, predictions in found:
            columns = list(block.kept.values())
            kept = list(zip(*columns, strict=True)) if columns else [()] * len(block)
            own = [Answer(tally.texts + row, kept[row], one) for row, one in enumerate(predictions)]
            tally = Tally(
                tally.blocks + 1,
                tally.texts + len(block),
                tally.empty + sum(one.why is not None for one in predictions),
                tally.cut + sum(one.truncated for one in predictions),
            )
            on_progress(tally.texts, block.read)
            yield own, tally
    tally.say()


def _with_pair(blocks: Iterable[Block], pair: str | None) -> Iterator[Block]:
    for block in blocks:
        if pair is None:
            yield block
        elif block.pairs is not None:
            raise UserError("--pair: the file has two text columns already; leave it out, or name one --text-columns")
        else:
            yield replace(block, pairs=[pair] * len(block))
