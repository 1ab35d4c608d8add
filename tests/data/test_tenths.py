"""Tenths of numbers are those of their ranks, however the numbers are spread."""

from __future__ import annotations

import numpy as np
import pytest

from longread.data import tenths as room
from longread.data.tenths import tenths

DRAWN = np.random.default_rng(0)


def by_rank(numbers: np.ndarray) -> np.ndarray:
    rank = np.argsort(np.argsort(numbers, kind="stable"), kind="stable")
    return rank * 10 // max(1, len(numbers))


@pytest.mark.parametrize("size", [0, 1, 2, 9, 10, 11, 997])
def test_they_are_those_of_the_ranks_also_of_equal_numbers(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART", 100)
    signs = DRAWN.choice([-1.0, 1.0], size)
    for numbers in (
        DRAWN.normal(size=size),
        DRAWN.normal(size=size) * 1e300,
        DRAWN.integers(-3, 4, size) / 2,
        DRAWN.integers(-3, 4, size) * 5e-324,
        signs * 0.0,
        np.full(size, 3.5),
        np.sort(DRAWN.normal(size=size))[::-1],
    ):
        assert np.array_equal(tenths(numbers), by_rank(numbers))
