"""Learning curves: loss on the training rows and accuracy on the evaluation rows, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from longread.problems import HEADLINE, METRIC_WORDS, REGRESSION
from longread.report import numbers as say
from longread.report.figures import (
    GRID,
    MUTED,
    PAPER,
    Picture,
    Tips,
    dashes,
    finish,
    label_ends,
    new_figure,
)
from longread.report.groups import Group, Line
from longread.report.mechanisms import color_of, marker_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from longread.records import Run

LINES_IN_ONE_FIGURE = 8
Curve = list[tuple[int, float]]


def curve_of(run: Run, name: str, scale: float) -> Curve:
    """(epoch, value) of every epoch with a usable number."""
    points = []
    for index, entry in enumerate(run.history()):
        value = say.finite(entry.get(name))
        if value is not None:
            epoch = entry.get("epoch")
            points.append((index + 1 if epoch is None else int(epoch), value * scale))
    return points


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean at the epochs that every curve has."""
    tables = [dict(curve) for curve in curves if curve]
    if not tables:
        return []
    epochs = sorted(set.intersection(*(set(table) for table in tables)))
    return [(epoch, sum(table[epoch] for table in tables) / len(tables)) for epoch in epochs]


def curve_pictures(group: Group) -> list[Picture]:
    """Two figures a group, none after a single epoch; where many settings were tried, two for each setting."""
    lines = [line for line in group.lines if not line.is_baseline]
    drawable = [line for line in lines if any(run.history() for run in line.runs)]
    if max((len(run.history()) for line in drawable for run in line.runs), default=0) < 2:
        return []  # a curve of one point says what the table says
    variants = sorted({line.variant() for line in drawable}, key=[line.variant() for line in drawable].index)
    if len(drawable) <= LINES_IN_ONE_FIGURE:
        return curve_pair(group, drawable, "", "")
    pictures = []
    for index, variant in enumerate(variants, start=1):
        members = [line for line in drawable if line.variant() == variant]
        pictures += curve_pair(group, members, f"-{index}", variant)
    return pictures


def curve_pair(group: Group, lines: Sequence[Line], suffix: str, variant: str) -> list[Picture]:
    extra = f", {variant}" if variant else ""
    loss = draw(group, lines, "train_loss", 1.0, f"{group.key}-loss{suffix}", f"Training loss by epoch{extra}")
    name = HEADLINE[group.problem_type]
    if group.problem_type == REGRESSION:
        title, scale = f"Evaluation {METRIC_WORDS[name]} by epoch{extra}", 1.0
    else:
        title, scale = f"Evaluation {METRIC_WORDS[name]} by epoch{extra}, %", 100.0
    measured = draw(group, lines, f"eval_{name}", scale, f"{group.key}-{name.replace('_', '-')}{suffix}", title)
    return [picture for picture in (loss, measured) if picture is not None]


def draw(group: Group, lines: Sequence[Line], field: str, scale: float, name: str, title: str) -> Picture | None:
    figure, axes = new_figure()
    figure.subplots_adjust(left=0.085, right=0.79, top=0.90, bottom=0.135)
    tips, styles = Tips(), dashes(lines)
    ends: list[tuple[float, float, str, str]] = []
    several, failed = False, False
    for line in lines:
        color, style = color_of(line.attention), styles.get(line.variant(), "-")
        label = line.label()
        curves = [curve_of(o.run, field, scale) for o in line.outcomes]
        mean = mean_curve(curves)
        if len(curves) > 1:
            several = True
            for curve in curves:
                axes.plot(*zip(*curve, strict=True), color=color, lw=0.8, alpha=0.35) if curve else None
        if mean:
            axes.plot(*zip(*mean, strict=True), color=color, lw=1.8, ls=style, solid_capstyle="round")
            for epoch, value in mean:
                spot = axes.plot(epoch, value, marker_of(line.attention), color=color, ms=4.8, mec=PAPER, mew=0.6)
                tips.add(spot[0], tip_text(label, epoch, value, curves, field))
            ends.append((*mean[-1], label, color))
        for run in line.failures:
            ending = draw_failure(axes, tips, run, field, scale, color, label)
            if ending is not None:
                failed = True
                if not mean:
                    ends.append((*ending, label, color))
    if not ends:
        return None
    finish_axes(axes)
    if field == "eval_accuracy":
        ends += draw_baselines(axes, group, tips, axes.get_xlim()[1])
    axes.set_title(title)
    label_ends(axes, ends)
    notes = ["Mean of the seeds; the thin lines are the seeds." if several else "One seed each."]
    if failed:
        notes.append("× is where a run broke off.")
    return finish(figure, tips, name, title, " ".join(notes))


def draw_failure(
    axes: Axes, tips: Tips, run: Run, field: str, scale: float, color: str, label: str
) -> tuple[int, float] | None:
    """A run that broke off: dotted up to a cross at its last usable epoch."""
    curve = curve_of(run, field, scale)
    if not curve:
        return None
    axes.plot(*zip(*curve, strict=True), color=color, lw=1.0, ls=":", alpha=0.9)
    cross = axes.plot(*curve[-1], "x", color=color, ms=7, mew=2)
    status = str(run.record.get("status")).replace("_", " ")
    tips.add(cross[0], f"{label}, seed {run.record.get('seed')}: {status} after epoch {curve[-1][0]}")
    return curve[-1]


def draw_baselines(axes: Axes, group: Group, tips: Tips, right: float) -> list[tuple[float, float, str, str]]:
    ends = []
    for line in group.done:
        if line.is_baseline:
            value = 100 * sum(o.accuracy for o in line.outcomes) / len(line.outcomes)
            color, name = color_of(line.attention), line.label()
            level = axes.axhline(value, color=color, lw=1.0, ls=(0, (2, 2)))
            tips.add(level, f"{line.name()}: {value:.2f} %")
            ends.append((right, value, name, color))
    return ends


def tip_text(label: str, epoch: int, value: float, curves: Sequence[Curve], field: str) -> str:
    name = field.removeprefix("eval_")
    unit = " %" if field.startswith("eval_") and name != HEADLINE[REGRESSION] else ""
    digits = 2 if unit else 4
    what = METRIC_WORDS.get(name, "loss")
    each = [dict(curve).get(epoch) for curve in curves]
    seeds = ", ".join(f"{v:.{digits}f}" for v in each if v is not None)
    more = f" (seeds: {seeds})" if len(curves) > 1 else ""
    return f"{label}, epoch {epoch}: {what} {value:.{digits}f}{unit}{more}"


def finish_axes(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.margins(x=0.02)
    axes.grid(axis="x", visible=False)
    axes.grid(axis="y", color=GRID)
    axes.set_xlabel("epoch", color=MUTED)
