"""Accuracy against time: what a second of training or of inference buys, with intervals and the Pareto front."""

from __future__ import annotations

import statistics as plain
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from longread.report import numbers as say
from longread.report.figures import MUTED, PAPER, Picture, Tips, finish, new_figure
from longread.report.groups import Group, Line
from longread.report.labels import Box, Label, place_labels
from longread.report.mechanisms import color_of, marker_of
from longread.report.statistics import Interval, pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COSTS = {
    "train_seconds": ("training-time", "against training time", "training, seconds (log scale)"),
    "eval_seconds": ("inference-time", "against inference time", "inference, seconds (log scale)"),
}


@dataclass(frozen=True)
class Point:
    line: Line
    cost: float
    lowest: float
    highest: float
    accuracy: float  # percent, like the interval
    interval: Interval
    label: str


def points_of(group: Group, field: str) -> list[Point]:
    points = []
    for line in group.done:
        costs = [say.finite(o.run.record.get(field)) for o in line.quiet]
        known = [cost for cost in costs if cost is not None and cost > 0]
        if not known:
            continue
        mean, span = line.accuracy
        in_percent = Interval(100 * span.low, 100 * span.high, span.draws)
        label = line.label() + (" †" if line.timed_under_load else "")
        points.append(Point(line, plain.fmean(known), min(known), max(known), 100 * mean, in_percent, label))
    return points


def tradeoff_pictures(group: Group) -> list[Picture]:
    pictures = (tradeoff(group, field) for field in COSTS)
    return [picture for picture in pictures if picture is not None]


def tradeoff(group: Group, field: str) -> Picture | None:
    suffix, title, label = COSTS[field]
    title = f"{group.measure.capitalize()} {title}"
    points = points_of(group, field)
    if len(points) < 2:
        return None
    figure, axes = new_figure()
    figure.subplots_adjust(left=0.085, right=0.97, top=0.90, bottom=0.135)
    axes.set_xscale("log")
    front = [points[i] for i in pareto([p.cost for p in points], [p.accuracy for p in points])]
    draw_front(axes, front)
    tips = Tips()
    for p, marker in zip(points, draw_points(axes, points), strict=True):
        tips.add(marker, tip_text(p, field, p in front, group.measure))
    limits(axes, points)
    axes.set_title(f"{title}, %")
    axes.set_xlabel(label, color=MUTED)
    time_ticks(axes)
    place_labels(axes, [Label(p.cost, p.accuracy, p.label, color_of(p.line.attention)) for p in points],
                 obstacles(axes, points, front))  # fmt: skip
    return finish(figure, tips, f"{group.key}-{suffix}", title, caption_of(points, front))


def caption_of(points: Sequence[Point], front: Sequence[Point]) -> str:
    over = {p.interval.draws > 1 for p in points}
    both = "rows and draws" + (", or rows alone where there is one draw" if False in over else "")
    caption = f"Bars: 95 % interval over {both if True in over else 'rows'}"
    caption += "; across, the fastest and the slowest seed." if any(p.lowest < p.highest for p in points) else "."
    if len(front) > 1:
        caption += " Grey steps: the Pareto front, what no other point beats in both."
    return caption


def draw_points(axes: Axes, points: Sequence[Point]) -> list[Line2D]:
    """Their bars, and over all of these the markers."""
    for p in points:
        color = color_of(p.line.attention)
        axes.plot([p.cost, p.cost], [p.interval.low, p.interval.high], color=color, lw=1.1, alpha=0.75)
        axes.plot([p.lowest, p.highest], [p.accuracy, p.accuracy], color=color, lw=1.1, alpha=0.75)
    markers = []
    for p in points:
        color, shape = color_of(p.line.attention), marker_of(p.line.attention)
        markers += axes.plot(p.cost, p.accuracy, shape, color=color, ms=7.5, mec=PAPER, mew=0.9, zorder=4)
    return markers


def draw_front(axes: Axes, front: Sequence[Point]) -> None:
    if len(front) > 1:
        x, y = [p.cost for p in front], [p.accuracy for p in front]
        axes.step(x, y, where="post", color="#9aa2ad", lw=1.2, zorder=1)


def limits(axes: Axes, points: Sequence[Point]) -> None:
    """Room for the labels. An interval of two seeds can be huge: it may leave the frame, the points may not."""
    low, high = min(p.lowest for p in points), max(p.highest for p in points)
    room = (high / low) ** 0.12 * 1.15
    axes.set_xlim(low / room, high * room)
    bottom, top = min(p.accuracy for p in points), max(p.accuracy for p in points)
    most = max(0.5 * (top - bottom), 10.0)
    bottom = max(min(p.interval.low for p in points), bottom - most)
    top = min(max(p.interval.high for p in points), top + most)
    bottom, top = min(bottom, top - 1.0), max(top, bottom + 1.0)
    axes.set_ylim(bottom - 0.06 * (top - bottom), top + 0.06 * (top - bottom))


def time_ticks(axes: Axes) -> None:
    """Plain numbers on a log axis: 1, 2, 5, 10 … as the width allows."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axes.get_xlim()
    for steps in ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        ticks = [s * 10.0**e for e in range(-6, 8) for s in steps if low <= s * 10.0**e <= high]
        if len(ticks) <= 8:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6f}".rstrip("0").rstrip(".")))


def obstacles(axes: Axes, points: Sequence[Point], front: Sequence[Point]) -> list[Box]:
    """What a label must not cover: markers, error bars and the steps of the front, as boxes in pixels."""

    def at(x: float, y: float) -> tuple[float, float]:
        px, py = axes.transData.transform((x, y))
        return float(px), float(py)

    boxes: list[Box] = []
    figure = axes.get_figure(root=True)
    assert figure is not None
    r = 5.5 * figure.dpi / 72
    thin = 1.5 * figure.dpi / 72
    for p in points:
        x, y = at(p.cost, p.accuracy)
        boxes.append((x - r, y - r, x + r, y + r))
        boxes.append((x - thin, at(p.cost, p.interval.low)[1], x + thin, at(p.cost, p.interval.high)[1]))
        boxes.append((at(p.lowest, p.accuracy)[0], y - thin, at(p.highest, p.accuracy)[0], y + thin))
    for a, b in pairwise(front):
        (x0, y0), (x1, y1) = at(a.cost, a.accuracy), at(b.cost, b.accuracy)
        boxes += [(x0, y0 - thin, x1, y0 + thin), (x1 - thin, y0, x1 + thin, y1)]
    return boxes


def tip_text(p: Point, field: str, on_front: bool, measure: str) -> str:
    kind = "training" if field == "train_seconds" else "inference"
    text = f"{p.line.name()}: {measure} {p.accuracy:.2f} % ({p.interval.low:.2f} – {p.interval.high:.2f}, "
    text += f"over {p.interval.over}), {kind} {say.seconds(p.cost)}"
    if p.lowest != p.highest:
        text += f" ({say.seconds(p.lowest)} – {say.seconds(p.highest)})"
    if p.line.timed_under_load:
        text += ", machine loaded"
    return text + (", on the Pareto front" if on_front else "")
