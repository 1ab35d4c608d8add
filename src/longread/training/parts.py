"""The batch of a step, cut into what memory takes and dealt out to the processes of a run.

However it is cut, a row is trained on the same: each part knows its place in the batch, by which dropout draws its
random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from longread.config import RunConfig
from longread.data.batches import Indices, by_length, micro_batches, shares
from longread.data.dataset import Split
from longread.inference.collate import kept_tokens
from longread.ops.dropout import Noise
from longread.system import processes


@dataclass(frozen=True)
class Part:
    """Rows of one micro-batch; of their tokens, which are not dropped (None: all are kept)."""

    rows: Indices
    kept: npt.NDArray[np.bool_] | None
    noise: Noise


def own_share(split: Split, indices: Indices, step: int) -> tuple[Indices, slice]:
    """Of the batch `indices` at `step`: all rows sorted by length, and which of them this process computes.

    The shares change hands from step to step: the longest rows are not always the same process's.
    """
    ordered = by_length(indices, split.lengths)
    turn = (processes.rank() + step) % processes.count()
    return ordered, shares(split.lengths[ordered], processes.count())[turn]


def passes_of(split: Split, indices: Indices, step: int, tokens: int) -> int:
    """Micro-batches of the process that has the most of them."""
    ordered = by_length(indices, split.lengths)
    every = shares(split.lengths[ordered], processes.count())
    return max(sum(1 for _ in micro_batches(ordered[share], split.lengths, tokens)) for share in every)


def parts_of(split: Split, indices: Indices, step: int, config: RunConfig, tokens: int) -> Iterator[Part]:
    """This process's micro-batches of at most `tokens` tokens; the batch `indices` is that of `step`."""
    ordered, share = own_share(split, indices, step)
    lengths = split.lengths[ordered]
    kept = None
    if config.token_dropout:
        kept = kept_tokens(split, ordered, config.token_dropout, np.random.default_rng([config.seed, 1, step]))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    left = starts if kept is None else np.concatenate([[0], np.cumsum(kept)])[starts]  # tokens kept before each row
    sequences = np.where(lengths > 0, split.sequences_of(ordered)[0], 0)
    filled = np.concatenate([[0], np.cumsum(sequences)])
    place = share.start
    for rows in micro_batches(ordered[share], split.lengths, tokens):
        end = place + len(rows)
        noise = Noise(config.seed, step, int(left[place]), int(filled[place]))
        yield Part(rows, None if kept is None else kept[starts[place] : starts[end]], noise)
        place = end
