"""predict-memory.svg: memory of `longread predict` by the number of lines, from results/predict/memory.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOAL_MEBIBYTES = 200e6 / 2**20  # 200 MB


def draw(records: Path, save: Callable[[Any, str], None]) -> None:
    from longread.report.figures import MUTED, new_figure

    runs = json.loads((records / "predict" / "memory.json").read_text("utf-8"))["runs"]
    lines = [run["lines"] for run in runs]
    above, files = ([run[name] / 2**20 for run in runs] for name in ("above_bytes", "file_bytes"))
    figure, axes = new_figure(6.4, 3.2)
    axes.set_position((0.09, 0.16, 0.72, 0.74))
    axes.set_xscale("log")
    axes.plot(lines, files, marker="o", ms=4, lw=1.4, color="#8a94a6", ls=(0, (4, 2)))
    axes.plot(lines, above, marker="o", ms=6, lw=1.8, color="#2f6fde", mec="white", zorder=4)
    axes.axhline(GOAL_MEBIBYTES, color="#c3c9d3", lw=1, zorder=0)
    axes.set_ylim(0, max([*above, *files, GOAL_MEBIBYTES]) * 1.08)
    axes.set_xticks(lines, [f"{count:,}" for count in lines])
    axes.minorticks_off()
    beside = {"x": 1.02, "va": "center", "fontsize": 8, "transform": axes.get_yaxis_transform()}
    axes.text(y=above[-1], s="longread predict", color="#2f6fde", **beside)
    axes.text(y=files[-1], s="the file itself", color="#8a94a6", **beside)
    axes.text(x=0.01, y=GOAL_MEBIBYTES, s="goal: 200 MB", color=MUTED, va="bottom", fontsize=8,
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_title("Highest memory above the model, MiB", fontsize=9, loc="left")
    axes.set_xlabel("lines", color=MUTED)
    save(figure, "predict-memory")
