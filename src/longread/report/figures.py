"""What all figures share: colours, type, direct labels, hover texts, and files that are the same every time."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.records import write_atomically
from longread.report.groups import Line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1c2330", "#6a7280", "#e3e6ea", "#ffffff"
POINTS_BETWEEN = 11.5  # names of lines, from one to the next
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with dollar signs is no formula
    "font.family": "DejaVu Sans",  # comes with matplotlib; wider than the fonts of browsers, so nothing overflows
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#b4bac3",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "path.simplify": False,
}


@dataclass
class Picture:
    """A figure that has been drawn: its file name (no suffix), what it shows, and both forms of it."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    data: dict[str, Any] | None = None  # numbers the page needs beside the drawing (heat maps)


@dataclass
class Tips:
    """Hover texts by artist: matplotlib writes the id, `finish` hangs the text on it."""

    texts: list[str] = field(default_factory=list)

    def add(self, artist: Artist, text: str) -> None:
        artist.set_gid(f"tip-{len(self.texts)}")
        self.texts.append(text)


def dashes(lines: Sequence[Line]) -> dict[str, Any]:
    """A line style for every variant (depth, …); solid where there is one only."""
    variants = sorted({line.variant() for line in lines if not line.is_baseline})
    return {variant: DASHES[i % len(DASHES)] for i, variant in enumerate(variants)}


def new_figure(width: float = 5.8, height: float = 3.7) -> tuple[Figure, Axes]:
    """A figure without pyplot's global state; width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # measures texts quickly
    return figure, figure.add_subplot()


def finish(figure: Figure, tips: Tips, name: str, title: str, caption: str) -> Picture:
    """Both files of a figure. The same drawing gives the same bytes: no date, ids from the name alone."""
    import matplotlib

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        vector, pixels = io.StringIO(), io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(vector, format="svg", metadata=nothing)
        figure.savefig(pixels, format="png", dpi=160, metadata={"Software": None})
    return Picture(name, title, caption, polish(vector.getvalue(), tips, name, title), pixels.getvalue())


def polish(svg: str, tips: Tips, name: str, title: str) -> str:
    """Ids that are unique on a page, a font stack, an accessible name and the hover texts.

    `name` becomes part of ids and links: a plain word, never a text of a record as it is (`groups.slug`).
    """
    assert re.fullmatch(r"[a-z0-9-]+", name), name
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'((?:xlink:)?href)="#', rf'\1="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace("'DejaVu Sans'", FONT).replace("xlink:href=", "href=")
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)

    def hang(match: re.Match[str]) -> str:
        text = escape(tips.texts[int(match[2])])
        return f'{match[0][:-1]} class="tip">\n<title>{text}</title>'

    return re.sub(rf'<g id="({re.escape(name)}-tip-(\d+))">', hang, svg)


def write_picture(picture: Picture, folder: Path) -> None:
    write_atomically(folder / f"{picture.name}.svg", '<?xml version="1.0" encoding="utf-8"?>\n' + picture.svg)
    write_atomically(folder / f"{picture.name}.png", picture.png)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions moved apart to at least `gap`, each as near to its own as the others allow, within low..high."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[tuple[list[int], float]] = []  # members, lowest member's place

    def lowest_place(members: list[int]) -> float:
        middle = sum(positions[i] - k * gap for k, i in enumerate(members)) / len(members)
        return min(max(middle, low), max(low, high - gap * (len(members) - 1)))

    for index in order:
        blocks.append(([index], lowest_place([index])))
        while len(blocks) > 1 and blocks[-2][1] + gap * len(blocks[-2][0]) > blocks[-1][1]:
            members = blocks[-2][0] + blocks[-1][0]
            blocks[-2:] = [(members, lowest_place(members))]
    placed = [0.0] * len(positions)
    for members, start in blocks:
        for k, index in enumerate(members):
            placed[index] = start + k * gap
    return placed


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right end of lines, (x, y, text, colour), moved apart, a thin leader where they moved."""
    if not ends:
        return
    figure = axes.get_figure()
    assert figure is not None
    scale = 72 / figure.dpi
    axes.get_xlim(), axes.get_ylim()  # matplotlib computes the limits when it is asked for them
    pixels = axes.transData.transform([(x, y) for x, y, _, _ in ends])
    box = axes.get_window_extent()
    heights = [float(y) * scale for _, y in pixels]
    placed = spread(heights, POINTS_BETWEEN, box.y0 * scale + 3, box.y1 * scale - 3)
    right = box.x1 * scale
    for (x, y, text, color), (px, _), own, put in zip(ends, pixels, heights, placed, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(right - float(px) * scale + 9, put - own),
            textcoords="offset points",
            va="center",
            ha="left",
            color=color,
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.6, "alpha": 0.55, "shrinkA": 1, "shrinkB": 3},
        )


def length_label(value: float) -> str:
    """128, 1,024, 16k: lengths are powers of two as a rule."""
    return f"{value:,.0f}" if value < 10000 else f"{value / 1024:g}k"
