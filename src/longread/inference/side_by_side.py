"""Batches computed side by side on a processor, each by a part of its threads.

Threads that share a batch wait for each other after each of its thousands of small products; those of different batches
do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from longread.data.batches import Indices, micro_batches

# Batches at once, at most; tokens of a batch, at most (larger ones were no faster); and batches for each part of the
# threads, at least, so that the last ones do not leave a part with nothing to do for long.
MOST = 4
TOKENS = 4096
FEWEST = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


def plan(
    rows: Indices, lengths: Indices, tokens: int, device: torch.device
) -> tuple[int, list[Indices], list[Indices]]:
    """How many batches to compute at once, these batches, and those to compute one after the other before them.

    The longest rows come first: what later batches need then fits into what was freed. No more than `tokens` tokens at
    once, but for a single longer row. All one after the other on an accelerator, with a single thread, where there are
    few batches, and outside the main thread: the number of threads is the whole program's, and a server divides them
    itself.
    """
    at_once = min(MOST, torch.get_num_threads())
    if at_once > 1 and device.type == "cpu" and threading.current_thread() is threading.main_thread():
        size = min(TOKENS, tokens // at_once)
        fits = lengths[rows] <= size
        together = list(micro_batches(rows[fits], lengths, size))
        if len(together) >= FEWEST * at_once:
            return at_once, together[::-1], list(micro_batches(rows[~fits], lengths, tokens))[::-1]
    return 1, [], list(micro_batches(rows, lengths, tokens))[::-1]


@contextmanager
def computed(compute: Callable[[Item], Result], items: Sequence[Item], at_once: int) -> Generator[Iterator[Result]]:
    """The results of `compute`, in order. It runs in threads of its own, which have no context of the caller's.

    Meanwhile the program has fewer threads for an operation; a thread that first uses torch meanwhile keeps that.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(threads // at_once)  # what a new thread begins with
    pool = ThreadPoolExecutor(at_once, "batches")
    try:
        yield pool.map(compute, items)
    finally:
        torch.set_num_threads(threads)  # before the wait for running batches, which may be interrupted
        pool.shutdown(cancel_futures=True)
