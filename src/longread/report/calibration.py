"""Reliability: of the answers with a confidence, how many are right? On the diagonal, a model means what it says."""

from __future__ import annotations

import math
from typing import Any

from longread.report import numbers as say
from longread.report.figures import MUTED, PAPER, Picture, Tips, finish, label_ends, new_figure
from longread.report.groups import Group
from longread.report.mechanisms import color_of, marker_of
from longread.report.quality import first_record

MOST_LINES = 8


def reliability_pictures(group: Group) -> list[Picture]:
    """One figure with a line for each configuration; none where no record has bins, or where there are too many."""
    found = [(line, first_record(line).get("calibration") or {}) for line in group.done]
    named = [(line.label(), line.attention, own) for line, own in found if own.get("bins")]
    if not 0 < len(named) <= MOST_LINES:
        return []
    figure, axes = new_figure(6.2, 4.3)
    figure.subplots_adjust(left=0.1, right=0.71, top=0.91, bottom=0.12)
    tips = Tips()
    lowest = min(min(found["confidence"], found["right"]) for _, _, own in named for found in own["bins"])
    start = math.floor(10 * lowest) / 10
    axes.plot([start, 1], [start, 1], color=MUTED, lw=1.0, ls=(0, (2, 2)))
    ends = []
    for title, attention, own in named:
        color, total = color_of(attention), sum(found["answers"] for found in own["bins"])
        points = [(found["confidence"], found["right"]) for found in own["bins"]]
        axes.plot(*zip(*points, strict=True), color=color, lw=1.4)
        for (x, y), found in zip(points, own["bins"], strict=True):
            size = 3 + 9 * (found["answers"] / total) ** 0.5
            spot = axes.plot(x, y, marker_of(attention), color=color, ms=size, mec=PAPER, mew=0.6, clip_on=False)
            tips.add(spot[0], tip(title, found))
        ends.append((*points[-1], f"{title}, ECE {say.percent(own['ece'])} %", color))
    axes.set_xlim(start, 1.0)
    axes.set_ylim(start, 1.0)
    axes.set_xlabel("confidence (mean of a bin)")
    axes.set_ylabel("share that is right")
    title = "Reliability on the evaluation rows"
    axes.set_title(title)
    label_ends(axes, ends)
    caption = ("Above the diagonal a model is better than it says, below it is too sure. The larger a mark, the more "
               "answers are in its bin of confidence. ECE, the expected calibration error (15 bins of equal width; Guo "
               "et al. 2017), is the mean distance from the diagonal, over the answers.")  # fmt: skip
    return [finish(figure, tips, f"{group.key}-calibration", title, caption)]


def tip(title: str, found: dict[str, Any]) -> str:
    return (f"{title}: {say.plural(found['answers'], 'answer')} with confidence {found['low']:.2f} to "
            f"{found['high']:.2f}, {say.percent(found['right'])} % right")  # fmt: skip
