"""The drawings of lengths.py: seconds and bytes against length, log-log, crossings with dense marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from longread.report import numbers as say
from longread.report.crossings import crossing, crossing_text
from longread.report.figures import (
    MUTED,
    PAPER,
    Picture,
    Tips,
    finish,
    label_ends,
    length_label,
    new_figure,
)
from longread.report.lengths import Bench, Series
from longread.report.mechanisms import color_of, marker_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHASE_NAMES = {"forward": "forward pass", "training": "training step", "mixing": "mixing alone"}
UNITS = {"seconds": "seconds", "memory": "MiB"}


def scaling_pictures(bench: Bench) -> list[Picture]:
    found = [scaling(bench, phase, what) for phase in bench.phases() for what in UNITS]
    return [picture for picture in found if picture is not None]


def scaling(bench: Bench, phase: str, what: str) -> Picture | None:
    curves = [(series, series.curve(phase, what)) for series in bench.series]
    curves = [(series, curve) for series, curve in curves if curve]
    if not curves:
        return None
    figure, axes = new_figure()
    figure.subplots_adjust(left=0.105, right=0.79, top=0.90, bottom=0.135)
    tips = Tips()
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for series, curve in curves:
        color = color_of(series.attention)
        if what == "seconds":
            quartiles = [series.costs[phase][n].quartiles for n, _ in curve]
            low, high = zip(*quartiles, strict=True)
            axes.fill_between([n for n, _ in curve], low, high, color=color, alpha=0.18, lw=0)
        width = 2.2 if series.attention == "dense" else 1.6
        axes.plot(*zip(*curve, strict=True), color=color, lw=width, solid_capstyle="round")
        for n, value in curve:
            spot = axes.plot(n, value, marker_of(series.attention), color=color, ms=4.8, mec=PAPER, mew=0.6)
            tips.add(spot[0], tip_text(series, phase, what, n, value))
        ends.append((*curve[-1], series.name + (" †" if series.loaded else ""), color))
    marked = draw_crossings(axes, bench, tips, phase, what)
    ticks(axes, sorted({n for _, curve in curves for n, _ in curve}), what)
    noun = "Seconds" if what == "seconds" else "Peak memory (MiB)"
    title = f"{noun} by length, {PHASE_NAMES[phase]}"
    axes.set_title(title)
    axes.set_xlabel("tokens (log scale)", color=MUTED)
    label_ends(axes, ends)
    caption = "Median; the band is the middle half of the measurements." if what == "seconds" else "Highest peak."
    if marked:
        caption += " Rings: where a mechanism falls below dense for good."
    return finish(figure, tips, f"{bench.key}-{phase}-{what}", title, caption)


def tip_text(series: Series, phase: str, what: str, length: int, value: float) -> str:
    if what == "memory":
        return f"{series.name}, {length:,} tokens: {say.significant(value, 4)} MiB"
    cost = series.costs[phase][length]
    low, high = cost.quartiles
    text = f"{series.name}, {length:,} tokens: median {say.seconds(value)} ({say.seconds(low)} – {say.seconds(high)}"
    text += f", {say.plural(len(cost.seconds), 'measurement')})"
    return text + (f", {value / cost.floor:.1f} × its floor" if cost.floor else "")


def draw_crossings(axes: Axes, bench: Bench, tips: Tips, phase: str, what: str) -> bool:
    """A ring on dense's curve at each crossing that lies between two measured lengths."""
    import numpy as np

    if bench.dense is None:
        return False
    dense = bench.dense.curve(phase, what)
    drawn = False
    for series in bench.series:
        found = crossing(bench, series, phase, what)
        if found is None or found.length is None or found.below is None:
            continue
        logs = np.log([n for n, _ in dense]), np.log([v for _, v in dense])
        height = float(np.exp(np.interp(np.log(found.length), *logs)))
        color = color_of(series.attention)
        ring = axes.plot(found.length, height, "o", ms=10, mfc="none", mec=color, mew=1.5, zorder=5)
        noun = "faster than dense" if what == "seconds" else "smaller than dense"
        tips.add(ring[0], f"{series.name} is {noun} from {crossing_text(found)} tokens on")
        drawn = True
    return drawn


def ticks(axes: Axes, lengths: Sequence[int], what: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    shown = list(lengths)
    while len(shown) > 8:
        shown = shown[::-1][::2][::-1]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: length_label(x)))
    low, high = axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low < 60 else (1.0, 3.0) if high / low < 2000 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6f}".rstrip("0").rstrip(".")))
