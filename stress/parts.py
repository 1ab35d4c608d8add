"""What a part of the stress run is: cases by number, each of which holds or does not.

A module of this folder with `PARTS` is found by run.py. A part yields one Case for each of `count` cases, decides
everything random by the case's number, and writes only under the folder that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One attempt. `outcome`: what happened in a word or two; the outcomes of a part are counted.

    detail: for a case that does not hold, what was found; it goes into the record.
    """

    name: str
    held: bool
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Part:
    """`promise`: what holds in each of its cases, in one sentence. `count`: cases of a whole run."""

    name: str
    promise: str
    count: int
    cases: Callable[[int, Path], Iterator[Case]]
