"""Names beside the points of a scatter plot, placed so that none lies on another, on a point or on a bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 8.5  # of the letters, in points
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    text: str
    color: str


def overlap(text: Box, other: Box) -> float:
    """0 to 1: how much of the text's width or height the other covers (a thin bar across it is a 1)."""
    width = min(text[2], other[2]) - max(text[0], other[0])
    height = min(text[3], other[3]) - max(text[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return max(width / (text[2] - text[0]), height / (text[3] - text[1]))


def candidates(width: float, height: float, unit: float) -> list[tuple[float, float, float]]:
    """(dx, dy, cost) of the label's centre from its point: right first, then round it, then farther away."""
    found = []
    for ring, distance in enumerate((7, 15, 26, 40, 58)):
        for turn in range(16):
            angle = 2 * math.pi * turn / 16
            dx = math.cos(angle) * (distance * unit + width / 2)
            dy = math.sin(angle) * (distance * unit + height / 2)
            preference = 0.0 if turn == 0 else 0.4 if turn == 8 else 0.7 if turn % 4 == 0 else 1.0
            found.append((dx, dy, 3.0 * ring + preference))
    return found


def place_labels(axes: Axes, labels: Sequence[Label], obstacles: Sequence[Box]) -> None:
    """Draws the labels. `obstacles` are boxes in pixels that text should not cover (points, error bars, lines)."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    unit = figure.dpi / 72
    frame = axes.get_window_extent()
    taken: list[Box] = list(obstacles)
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    for label, (px, py) in sorted(zip(labels, points, strict=True), key=lambda item: (-item[1][0], item[1][1])):
        trial = axes.text(0, 0, label.text, fontsize=SIZE)
        extent = trial.get_window_extent()
        trial.remove()
        width, height = extent.width + 2 * unit, extent.height

        def box_at(dx: float, dy: float, cx: float = px, cy: float = py, w: float = width, h: float = height) -> Box:
            return (cx + dx - w / 2, cy + dy - h / 2, cx + dx + w / 2, cy + dy + h / 2)

        def cost(dx: float, dy: float, base: float) -> float:
            box = box_at(dx, dy)
            covered = sum(overlap(box, other) for other in taken)
            inset = 3 * unit
            outside = max(0, frame.x0 + inset - box[0]) + max(0, box[2] - frame.x1 + inset)
            outside += max(0, frame.y0 + inset - box[1]) + max(0, box[3] - frame.y1 + inset)
            return float(base + 25 * covered + 5 * outside / unit)

        dx, dy, _ = min(candidates(width, height, unit), key=lambda c: cost(*c))
        taken.append(box_at(dx, dy))
        far = math.hypot(max(0, abs(dx) - width / 2), max(0, abs(dy) - height / 2)) > 12 * unit
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(dx / unit, dy / unit),
            textcoords="offset points",
            ha="center",
            va="center",
            color=label.color,
            fontsize=SIZE,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": label.color, "lw": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4}
            if far
            else None,
        )
