"""imdb-lengths.svg: accuracy of the models of experiments/imdb_lengths.py against what they cost.

Across: seconds to classify 1,000 reviews, from results/imdb-lengths-times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

# Row of the study, its name in the figure.
MODELS = (
    ("dense max_length=512", "Dense, 512 tokens"),
    ("dense max_length=1024", "Dense, 1,024 tokens"),
    ("dense max_length=2048", "Dense, 2,048 tokens"),
    ("longformer", "Longformer, 2,048 tokens"),
    ("bigbird", "BigBird, 2,048 tokens"),
)


def with_intervals(points: Sequence[Any]) -> tuple[Any, Any]:
    """Figure and axes with each accuracy and its interval; time across, on a logarithmic scale."""
    from longread.report.figures import new_figure
    from longread.report.mechanisms import color_of, marker_of
    from longread.report.tradeoff import limits

    figure, axes = new_figure(6.4, 3.6)
    figure.subplots_adjust(left=0.085, right=0.97, top=0.92, bottom=0.145)
    axes.set_xscale("log")
    for p in points:
        colour = color_of(p.line.attention)
        axes.plot([p.cost, p.cost], [p.interval.low, p.interval.high], color=colour, lw=1.2)
        axes.plot(p.cost, p.accuracy, marker_of(p.line.attention), color=colour, ms=7.5, mec="white", zorder=4)
    limits(axes, points)
    return figure, axes


def draw(save: Callable[[Any, str], None]) -> None:
    from rows import row

    from longread.report.figures import MUTED
    from longread.report.labels import Label, place_labels
    from longread.report.mechanisms import color_of
    from longread.report.tradeoff import Point, obstacles, time_ticks

    points = []
    for name, label in MODELS:
        line, time = row("imdb-lengths", name), row("imdb-lengths-times", name)
        assert not time.timed_under_load, f"{name}: measured beside other work; measure imdb_lengths_times again"
        (accuracy, interval), at = line.accuracy, time.outcomes[0].run.record["eval_seconds"]
        points.append(Point(line, at, at, at, 100 * accuracy, in_percent(interval), label))
    figure, axes = with_intervals(points)
    level, colour = 100 * row("imdb-lengths", "tfidf").accuracy[0], color_of("tfidf")
    axes.axhline(level, color=colour, lw=1.2, ls=(0, (5, 3)), zorder=0)
    words = {"x": 0.99, "ha": "right", "va": "top", "fontsize": 8, "transform": axes.get_yaxis_transform()}
    axes.text(y=level - 0.04, s="TF-IDF + logistic regression", color=colour, **words)
    axes.set_title("Accuracy, %, with its 95 % interval", fontsize=9, loc="left")
    axes.set_xlabel("seconds to classify 1,000 reviews, one idle core (log scale)", color=MUTED)
    time_ticks(axes)
    labels = [Label(p.cost, p.accuracy, p.label, color_of(p.line.attention)) for p in points]
    place_labels(axes, labels, obstacles(axes, points, []))
    save(figure, "imdb-lengths")


def in_percent(interval: Any) -> Any:
    from longread.report.statistics import Interval

    return Interval(100 * interval.low, 100 * interval.high, interval.draws)
