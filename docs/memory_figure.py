"""Memory by the number of rows: predict-memory.svg and stream-memory.svg, from the records of two benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BLUE, GREY = "#2f6fde", "#8a94a6"


def draw(records: Path, save: Callable[[Any, str], None]) -> None:
    runs = json.loads((records / "predict" / "memory.json").read_text("utf-8"))["runs"]
    curves = [
        ("longread predict", BLUE, [run["above_bytes"] for run in runs]),
        ("the file itself", GREY, [run["file_bytes"] for run in runs]),
    ]
    save(_figure("lines", [run["lines"] for run in runs], curves, 200e6), "predict-memory")
    kept = records / "scaling" / "stream-memory.json"
    runs = json.loads(kept.read_text("utf-8"))["runs"]
    curves = [
        ("longread train --stream", BLUE, [run["above_bytes"] for run in runs]),
        ("the files, packed", GREY, [run["file_bytes"] for run in runs]),
    ]
    save(_figure("rows", [run["rows"] for run in runs], curves, 300e6), "stream-memory")


def _figure(unit: str, counts: Sequence[int], curves: Sequence[tuple[str, str, list[int]]], goal: float) -> Any:
    """goal: in bytes."""
    from longread.report.figures import MUTED, new_figure

    figure, axes = new_figure(6.4, 3.2)
    axes.set_position((0.09, 0.16, 0.68, 0.74))
    axes.set_xscale("log")
    beside = {"x": 1.02, "va": "center", "fontsize": 8, "transform": axes.get_yaxis_transform()}
    highest = max(goal, *(size for _, _, sizes in curves for size in sizes)) / 2**20
    for name, color, sizes in curves:
        ours = color != GREY
        style: dict[str, Any] = {"ms": 6, "lw": 1.8, "mec": "white", "zorder": 4} if ours else {"ms": 4, "lw": 1.4}
        axes.plot(
            counts, [size / 2**20 for size in sizes], marker="o", color=color, ls="-" if ours else (0, (4, 2)), **style
        )
        axes.text(y=sizes[-1] / 2**20, s=name, color=color, **beside)
    axes.axhline(goal / 2**20, color="#c3c9d3", lw=1, zorder=0)
    axes.set_ylim(0, highest * 1.08)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.text(x=0.01, y=goal / 2**20, s=f"goal: {goal / 1e6:.0f} MB", color=MUTED, va="bottom", fontsize=8,
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_title("Highest memory above the model, MiB", fontsize=9, loc="left")
    axes.set_xlabel(unit, color=MUTED)
    return figure
