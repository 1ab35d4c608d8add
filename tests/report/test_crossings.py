"""The length from which on a mechanism is faster than dense, and how far it is known."""

from __future__ import annotations

import numpy as np
import pytest

from longread.report.crossings import crossing, crossing_text, spread
from longread.report.lengths import Bench, Cost, Series

LENGTHS = (256, 512, 1024, 2048)


def bench(noise: float, linear: float = 1.0) -> tuple[Bench, Series]:
    """Dense costs n², the other one `linear` * 800 n: they cross at 800 for 1; every measurement is off by `noise`."""
    generator = np.random.default_rng(1)
    dense, other = Series("dense", "Dense"), Series("longformer", "Longformer", "attention window 512")
    for phase in ("forward", "training"):
        for series, cost in ((dense, lambda n: n * n), (other, lambda n: 800 * linear * n)):
            series.costs[phase] = {
                n: Cost([float(cost(n) * np.exp(noise * generator.standard_normal())) for _ in range(9)])
                for n in LENGTHS
            }
    return Bench("lengths", "", [dense, other], [], ""), other


def test_measurements_that_agree_leave_no_spread() -> None:
    found, other = bench(noise=0.0)
    low, high = spread(found, other, "training") or (0, 0)
    assert low == high == pytest.approx(800)
    assert crossing_text(crossing(found, other, "training"), (low, high)) == "≈ 800 (800 – 800)"


def test_noise_widens_the_spread_around_the_crossing() -> None:
    found, other = bench(noise=0.2)
    at = crossing(found, other, "forward")
    assert at is not None and at.length is not None
    low, high = spread(found, other, "forward") or (None, None)
    assert low is not None and high is not None
    assert 600 < low < at.length < high < 1100
    assert high - low > 40


@pytest.mark.parametrize(
    ("linear", "words"),
    [(4.0, "not up to 2,048"), (2.45, "not up to 2,048 (1,800 – beyond 2,048)"), (0.1, "from 256 or below")],
)
def test_a_crossing_outside_the_measured_lengths_says_so(linear: float, words: str) -> None:
    found, other = bench(noise=0.05, linear=linear)
    assert crossing_text(crossing(found, other, "forward"), spread(found, other, "forward")) == words


def test_there_is_no_floor_below_zero() -> None:
    """Linformer's mixing saves more operations than it has."""
    assert Cost(floors=[-0.2, -0.1, 0.1]).floor is None and Cost(floors=[0.2]).floor == 0.2
