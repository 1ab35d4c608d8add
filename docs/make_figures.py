"""Draws the documents' own figures into docs/figures/: `python docs/make_figures.py`.

findings-PAGE.svg    the first table of a page of findings: accuracy with its interval
lengths-learned.svg  accuracy by length of the generated reviews
imdb-lengths.svg     accuracy of a pretrained encoder against inference time (lengths_figure.py)
imdb.svg             accuracy against inference time, from results/imdb-study-rows
pattern-NAME.svg     which tokens a mechanism lets look at which, from its reference, and what that costs by length
predict-memory.svg   memory of `longread predict` by the number of lines (memory_figure.py)
stream-memory.svg    memory of `longread train --stream` by the number of rows (memory_figure.py)
architecture.svg     which room imports which, from the source
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "figures"
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Sizes that show on a picture of 64 tokens what the published ones do on thousands.
SHOWN = {
    "dense": {},
    "longformer": {"attention_window": 12},
    "bigbird": {"block_size": 4, "num_random_blocks": 1},
    "performer": {"num_features": 64},
    "linformer": {"projection_size": 8},
}
TOKENS = 64
PUBLISHED = {
    "dense": {},
    "longformer": {"attention_window": 512},
    "bigbird": {"block_size": 64, "num_random_blocks": 3},
    "performer": {"num_features": 256},
    "linformer": {"projection_size": 256},
}


def save(figure: Figure, name: str) -> None:
    """The same drawing gives the same bytes."""
    import matplotlib

    FOLDER.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}):
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(FOLDER / f"{name}.svg", metadata=nothing, facecolor="white")
    print(f"docs/figures/{name}.svg")


def imdb() -> None:
    """Points with a quiet time; linear models, whose times were not quiet, as lines."""
    import lengths_figure
    from rows import groups

    from longread.report.figures import MUTED
    from longread.report.labels import Label, place_labels
    from longread.report.mechanisms import color_of
    from longread.report.tradeoff import obstacles, points_of, time_ticks

    (group,) = groups("imdb-study-rows")
    points = [p for p in points_of(group, "eval_seconds") if not p.line.timed_under_load]
    figure, axes = lengths_figure.with_intervals(points)
    linear = [line for line in group.done if line.is_baseline and line.timed_under_load]
    accuracies = [100 * line.accuracy[0] for line in linear]
    low, high = axes.get_ylim()
    axes.set_ylim(min([low, *accuracies]), max([high, *(a + 0.5 for a in accuracies)]))
    for line, accuracy in zip(linear, accuracies, strict=True):
        colour = color_of(line.attention)
        axes.axhline(accuracy, color=colour, lw=1.2, ls=(0, (5, 3)))
        axes.text(0.99, accuracy + 0.08, line.title(short=True), color=colour, ha="right", va="bottom", fontsize=8,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_title("Accuracy, %", fontsize=9, loc="left")
    axes.set_xlabel(f"seconds to classify {group.done[0].evaluated:,} reviews (log scale)", color=MUTED)
    time_ticks(axes)
    labels = [Label(p.cost, p.accuracy, p.label, color_of(p.line.attention)) for p in points]
    place_labels(axes, labels, obstacles(axes, points, []))
    save(figure, "imdb")


def forest(page: Path) -> None:
    """The rows of the page's first table, each with its interval."""
    import blocks
    from rows import row

    from longread.report.figures import MUTED, new_figure
    from longread.report.mechanisms import color_of

    block = next((b for b in blocks.BLOCK.finditer(page.read_text("utf-8")) if b[2] == "rows"), None)
    if block is None:
        return
    front, *names = block[3].strip().splitlines()
    study = front.split("|")[0].strip()
    rows = [(label, row(study, name)) for label, _, name in (line.rpartition(": ") for line in names)]
    figure, axes = new_figure(6.4, 0.75 + 0.27 * len(rows))
    bottom = 0.42 / (0.75 + 0.27 * len(rows))
    axes.set_position((0.46, bottom, 0.51, 0.97 - bottom))
    for place, (label, line) in enumerate(rows):
        accuracy, interval = line.accuracy
        colour = color_of(line.attention)
        axes.plot([100 * interval.low, 100 * interval.high], [-place, -place], color=colour, lw=1.6)
        axes.plot(100 * accuracy, -place, "o", color=colour, ms=6, mec="white", zorder=4)
        axes.text(-0.02, -place, label, ha="right", va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.axvline(100 * rows[0][1].accuracy[0], color="#c3c9d3", lw=1, zorder=0)
    axes.set_yticks([])
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("accuracy, %, and 95 % interval; grey: the first row", color=MUTED, fontsize=8)
    save(figure, f"findings-{page.stem}")


def lengths_learned() -> None:
    """One line a mechanism and depth over the lengths of the generated reviews."""
    from rows import groups

    from longread.report.figures import MUTED, label_ends, new_figure
    from longread.report.mechanisms import color_of

    figure, axes = new_figure(6.4, 3.6)
    axes.set_position((0.08, 0.14, 0.66, 0.78))
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for study, style in (("reviews-length", "one layer"), ("reviews-two-layers", "two layers")):
        for group in groups(study):
            for line in group.done:
                if study == "reviews-length" or line.attention == "bigbird":
                    point = (int(group.task.split(":")[1]), 100 * line.accuracy[0])
                    curves.setdefault((line.title(short=True), style), []).append(point)
    ends = []
    names = {line.title(short=True): line.attention for group in groups("reviews-length") for line in group.done}
    for (title, style), points in curves.items():
        x, y = zip(*sorted(points), strict=True)
        colour, dashed = color_of(names[title]), style == "two layers"
        axes.plot(x, y, marker="o", color=colour, lw=1.6, ms=4, ls=(0, (4, 2)) if dashed else "-")
        ends.append((x[-1], y[-1], title + (", two layers" if dashed else ""), colour))
    axes.set_xscale("log", base=2)
    lengths = [128, 512, 2048, 16384]
    axes.set_xticks(lengths, [f"{n:,}" for n in lengths])
    axes.set_xlim(110, 19000)
    axes.set_title("Accuracy, %", fontsize=9, loc="left")
    axes.set_xlabel("tokens of a generated review", color=MUTED)
    label_ends(axes, ends)
    save(figure, "lengths-learned")


def layer(name: str, options: dict[str, object], tokens: int):  # type: ignore[no-untyped-def]
    import torch

    from longread.attention import ATTENTIONS

    kind = ATTENTIONS[name]
    torch.manual_seed(0)
    return kind(64, 4, 16, tokens, kind.Options(**options), dropout=0.0).double()


def matrix(name: str) -> np.ndarray:
    """A of one head, summed over the two that Longformer has; [N, N]."""
    import torch

    with torch.no_grad():
        _, mixed = layer(name, SHOWN[name], TOKENS).reference(torch.randn(TOKENS, 64, dtype=torch.float64))
    found = mixed.reshape(-1, *mixed.shape[-3:])[:, 0] if mixed.dim() > 2 else mixed[None]
    return np.asarray(found.sum(0))


def pattern(name: str) -> None:
    from longread.report.figures import new_figure
    from longread.report.mechanisms import color_of

    figure, left = new_figure(6.4, 2.7)
    left.set_position((0.06, 0.14, 0.34, 0.74))
    shown = matrix(name)
    left.imshow(np.where(np.abs(shown) > 1e-12, np.abs(shown), np.nan), interpolation="none", cmap=colours(name),
                vmin=0, vmax=float(np.quantile(np.abs(shown[shown != 0]), 0.98)))  # fmt: skip
    left.set_title(f"{TOKENS} tokens: row looks at column", fontsize=8.5)
    left.set_xticks([])
    left.set_yticks([])
    for side in left.spines.values():
        side.set_visible(True)
    right = figure.add_axes((0.53, 0.2, 0.45, 0.66))
    lengths = [2**n for n in range(7, 15)]
    for other in dict.fromkeys(("dense", name)):
        made = layer(other, PUBLISHED[other], max(lengths))
        right.plot(lengths, [made.flops(n) / n / 1e6 for n in lengths], color=color_of(other), lw=2, label=other)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_title("million operations a token, published sizes", fontsize=8.5)
    right.set_xlabel("tokens", fontsize=8)
    right.tick_params(labelsize=7.5)
    right.set_xticks(lengths[::2], [f"{n:,}" for n in lengths[::2]])
    right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.legend(frameon=False, fontsize=8)
    save(figure, f"pattern-{name}")


def colours(name: str):  # type: ignore[no-untyped-def]
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    from longread.report.mechanisms import color_of

    pale = tuple(0.22 * c + 0.78 for c in to_rgb(color_of(name)))
    return LinearSegmentedColormap.from_list(name, [pale, color_of(name)])


def imports() -> dict[str, set[str]]:
    """Room -> rooms that it imports when it is loaded."""
    source = ROOT / "src" / "longread"
    found: dict[str, set[str]] = {}
    for path in sorted(source.rglob("*.py")):
        room = path.relative_to(source).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = name.split(".")
                if parts[0] == "longread" and len(parts) > 1 and parts[1] != room:
                    found.setdefault(room, set()).add(parts[1])
        found.setdefault(room, set())
    return found


# Where each room is drawn: column, row. A new room stands below the others until it has a place here.
PLACES = {
    "errors": (0, 4), "checks": (1, 4), "problems": (2, 4), "config": (0, 3), "settings": (0.85, 3),
    "records": (0, 2), "system": (0, 0),
    "ops": (1, 0), "attention": (2, 0), "models": (3, 0), "data": (1, 2),
    "inference": (4, 1), "training": (4, 2.2), "serving": (5, 0.8), "report": (3, 4), "study": (5, 2.2),
    "cli": (6, 2), "hf": (5, -0.6), "sklearn": (6, 3.6),
}  # fmt: skip
# Almost every room imports them: arrows would hide the others.
EVERYWHERE = {"errors", "checks", "problems", "settings", "config"}


def architecture() -> None:
    from matplotlib.patches import FancyArrowPatch

    from longread.report.figures import new_figure

    rooms = imports()
    figure, axes = new_figure(8.2, 4.1)
    axes.set_position((0.01, 0.02, 0.98, 0.96))
    axes.axis("off")
    others = [room for room in rooms if room not in PLACES]
    places = PLACES | {room: (1.5 + i, 5) for i, room in enumerate(others)}
    for room, (x, y) in places.items():
        if room not in rooms:
            continue
        axes.text(x, -y, room, ha="center", va="center", fontsize=9.5, zorder=3,
                  bbox={"boxstyle": "round,pad=0.45", "fc": "#eef3fb", "ec": "#5b7db1"})  # fmt: skip
        for other in sorted(shown_imports(rooms, room)) if room not in EVERYWHERE else ():
            if other in places:
                ox, oy = places[other]
                curve = 0.0 if ox != x else 0.35
                look = {"arrowstyle": "-|>", "mutation_scale": 9, "color": "#8a94a6", "lw": 0.9, "zorder": 1}
                ends = {"posA": (ox, -oy), "posB": (x, -y), "shrinkA": 22, "shrinkB": 24}
                arrow = FancyArrowPatch(**ends, **look, connectionstyle=f"arc3,rad={curve}")
                axes.add_patch(arrow)
    axes.set_xlim(-0.6, 6.6)
    axes.set_ylim(-5.5 if others else -4.5, 1.1)
    save(figure, "architecture")


def shown_imports(rooms: dict[str, set[str]], room: str) -> set[str]:
    """The imports of a room without those that it also has through another one, so that the order shows."""
    direct = rooms[room] - EVERYWHERE

    def through(start: str, seen: set[str]) -> set[str]:
        for other in rooms.get(start, set()) - EVERYWHERE - seen:
            seen.add(other)
            through(other, seen)
        return seen

    return {other for other in direct if not any(other in through(third, set()) for third in direct - {other})}


def main() -> None:
    import lengths_figure
    import matplotlib
    import memory_figure

    from longread.report.figures import STYLE

    with matplotlib.rc_context(STYLE):
        imdb()
        lengths_figure.draw(save)
        lengths_learned()
        for page in sorted((ROOT / "docs" / "findings").glob("*.md")):
            forest(page)
        for name in SHOWN:
            pattern(name)
        architecture()
        memory_figure.draw(ROOT / "results", save)


if __name__ == "__main__":
    main()
