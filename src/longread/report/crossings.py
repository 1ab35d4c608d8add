"""From which length on a mechanism beats dense, in seconds and in bytes, and how far that length is known."""

from __future__ import annotations

import math

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.lengths import Bench, Series
from longread.report.measures import LOADED
from longread.report.statistics import Crossing, crossover

DRAWS = 400
SPREAD = (0.05, 0.95)


def crossing(bench: Bench, series: Series, phase: str, what: str = "seconds") -> Crossing | None:
    """Where the mechanism falls below dense for good, over the lengths at which both were measured."""
    if bench.dense is None or series is bench.dense:
        return None
    own, dense = dict(series.curve(phase, what)), dict(bench.dense.curve(phase, what))
    shared = sorted(own.keys() & dense.keys())
    return crossover(shared, [own[n] for n in shared], [dense[n] for n in shared])


def spread(bench: Bench, series: Series, phase: str) -> tuple[float | None, float | None] | None:
    """The middle 90 % of the crossings in seconds over measurements drawn again with replacement, by one seed.

    A bound is None where the mechanism is faster nowhere up to the longest length. It holds what differs from one
    measurement to the next in these runs, not what another machine would bring.
    """
    import numpy as np

    if bench.dense is None or series is bench.dense:
        return None
    own, dense = series.costs.get(phase, {}), bench.dense.costs.get(phase, {})
    lengths = sorted(n for n in own.keys() & dense.keys() if own[n].seconds and dense[n].seconds)
    if not lengths:
        return None
    generator = np.random.default_rng(0)
    medians = [
        [np.median(generator.choice(costs[n].seconds, (DRAWS, len(costs[n].seconds))), axis=1) for n in lengths]
        for costs in (own, dense)
    ]
    found = []
    for draw in range(DRAWS):
        crossing = crossover(lengths, *([float(m[draw]) for m in side] for side in medians))
        assert crossing is not None
        found.append(math.inf if crossing.length is None else crossing.length)
    low, high = (float(np.quantile(found, share, method="nearest")) for share in SPREAD)
    return (None if math.isinf(low) else low), (None if math.isinf(high) else high)


def crossing_text(crossing: Crossing | None, spread: tuple[float | None, float | None] | None = None) -> str:
    """`≈ 1,300`, or with its spread `≈ 1,300 (1,200 – 1,400)`."""
    if crossing is None:
        return say.NOTHING
    text = f"≈ {round_length(crossing.length):,}" if crossing.length else f"not up to {crossing.longest:,}"
    if crossing.length and crossing.below is None:
        text = f"from {crossing.above:,} or below"
    bounds = [f"{round_length(bound):,}" if bound else f"beyond {crossing.longest:,}" for bound in spread or ()]
    moves = len(set(bounds)) > 1 or (crossing.length is not None and crossing.below is not None)
    return f"{text} ({' – '.join(bounds)})" if bounds and moves else text


def round_length(length: float) -> int:
    """Two significant digits: an interpolated length deserves no more."""
    step = 10 ** max(0, len(str(int(length))) - 2)
    return int(round(length / step) * step)


def crossing_table(bench: Bench) -> Table | None:
    """From which length on each mechanism beats dense, in time and in memory, forward and training."""
    kinds = [(phase, what) for phase in bench.phases() for what in ("seconds", "memory")]
    if bench.dense is None or len(bench.series) < 2:
        return None
    nouns = {"seconds": "faster", "memory": "less memory"}
    columns = [Column("Attention", numeric=False)]
    columns += [Column(f"{phase.capitalize()}: {nouns[what]}", "from tokens") for phase, what in kinds]
    rows = []
    for series in bench.series:
        if series is bench.dense:
            continue
        cells = [Cell(series.title + (LOADED if series.loaded else ""), series.attention)]
        for phase, what in kinds:
            found = crossing(bench, series, phase, what)
            bounds = spread(bench, series, phase) if what == "seconds" else None
            title = ""
            if found and found.length and found.below:
                title = f"dense cheaper or equal at {found.below:,}, cheaper than dense from {found.above:,} on"
            cells.append(Cell(crossing_text(found, bounds), found.length if found else None, title))
        rows.append(Row(tuple(cells), "", series.attention))
    notes = [
        "The length from which on the mechanism stays at least 5 % below dense, interpolated on log-log axes between "
        "two measured lengths (medians; peak memory). In brackets the middle 90 % of the lengths found when the "
        "measurements are drawn again with replacement.",
    ]
    if any(s.loaded for s in bench.series):
        notes.append(f"{LOADED} The machine had other work when this was measured: not times to quote.")
    return Table(tuple(columns), tuple(rows), tuple(notes))
