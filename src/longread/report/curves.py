"""Learning curves: loss on the training rows and accuracy on the evaluation rows, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Quantity:
    """What a figure shows: a field of the runs' histories times `scale`; name: of the figure's file."""

    field: str
    scale: float
    name: str
    title: str


def curve_of(run: Run, quantity: Quantity) -> Curve:
    """(epoch, value) of every epoch with a usable number."""
    points = []
    for index, entry in enumerate(run.history()):
        value = say.finite(entry.get(quantity.field))
        if value is not None:
            epoch = entry.get("epoch")
            points.append((index + 1 if epoch is None else int(epoch), value * quantity.scale))
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
    loss = Quantity("train_loss", 1.0, f"{group.key}-loss{suffix}", f"Training loss by epoch{extra}")
    name = HEADLINE[group.problem_type]
    scale, unit = (1.0, "") if group.problem_type == REGRESSION else (100.0, ", %")
    title = f"Evaluation {METRIC_WORDS[name]} by epoch{extra}{unit}"
    measured = Quantity(f"eval_{name}", scale, f"{group.key}-{name.replace('_', '-')}{suffix}", title)
    pictures = (draw(group, lines, quantity) for quantity in (loss, measured))
    return [picture for picture in pictures if picture is not None]


def draw(group: Group, lines: Sequence[Line], quantity: Quantity) -> Picture | None:
    figure, axes = new_figure()
    figure.subplots_adjust(left=0.085, right=0.79, top=0.90, bottom=0.135)
    tips, styles = Tips(), dashes(lines)
    ends: list[tuple[float, float, str, str]] = []
    failed = False
    for line in lines:
        end = draw_mean(axes, tips, line, styles.get(line.variant(), "-"), quantity)
        broken = [spot for run in line.failures if (spot := draw_failure(axes, tips, line, run, quantity))]
        failed = failed or bool(broken)
        ends += [(*spot, line.label(), color_of(line.attention)) for spot in (broken if end is None else [end])]
    if not ends:
        return None
    finish_axes(axes)
    if quantity.field == "eval_accuracy":
        ends += draw_baselines(axes, group, tips, axes.get_xlim()[1])
    axes.set_title(quantity.title)
    label_ends(axes, ends)
    several = any(len(line.outcomes) > 1 for line in lines)
    notes = ["Mean of the seeds; the thin lines are the seeds." if several else "One seed each."]
    if failed:
        notes.append("× is where a run broke off.")
    return finish(figure, tips, quantity.name, quantity.title, " ".join(notes))


def draw_mean(axes: Axes, tips: Tips, line: Line, style: str, quantity: Quantity) -> tuple[int, float] | None:
    """The mean of a line's seeds over the seeds themselves; where it ends, None for nothing to draw."""
    color = color_of(line.attention)
    curves = [curve_of(outcome.run, quantity) for outcome in line.outcomes]
    for curve in curves if len(curves) > 1 else ():
        if curve:
            axes.plot(*zip(*curve, strict=True), color=color, lw=0.8, alpha=0.35)
    mean = mean_curve(curves)
    if not mean:
        return None
    axes.plot(*zip(*mean, strict=True), color=color, lw=1.8, ls=style, solid_capstyle="round")
    for epoch, value in mean:
        spot = axes.plot(epoch, value, marker_of(line.attention), color=color, ms=4.8, mec=PAPER, mew=0.6)
        tips.add(spot[0], tip_text(line.label(), epoch, value, curves, quantity.field))
    return mean[-1]


def draw_failure(axes: Axes, tips: Tips, line: Line, run: Run, quantity: Quantity) -> tuple[int, float] | None:
    """A run that broke off: dotted up to a cross at its last usable epoch."""
    color, curve = color_of(line.attention), curve_of(run, quantity)
    if not curve:
        return None
    axes.plot(*zip(*curve, strict=True), color=color, lw=1.0, ls=":", alpha=0.9)
    cross = axes.plot(*curve[-1], "x", color=color, ms=7, mew=2)
    status = str(run.record.get("status")).replace("_", " ")
    tips.add(cross[0], f"{line.label()}, seed {run.record.get('seed')}: {status} after epoch {curve[-1][0]}")
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
