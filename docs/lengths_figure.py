"""imdb-lengths.svg: accuracy of the models of experiments/imdb_lengths.py against what they cost.

Across: seconds to classify 1,000 reviews, from results/imdb-lengths-times, once these were measured on an idle machine;
before that, the tokens of a review that a model reads. A model whose training is not recorded yet is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Row of the study, its name in the figure, the tokens it reads.
MODELS = (
    ("dense max_length=512", "Dense, 512 tokens", 512),
    ("dense max_length=1024", "Dense, 1,024 tokens", 1024),
    ("dense max_length=2048", "Dense, 2,048 tokens", 2048),
    ("longformer", "Longformer, 2,048 tokens", 2048),
    ("bigbird", "BigBird, 2,048 tokens", 2048),
)
SIDE = {"longformer": 1.09, "bigbird": 1.19}  # beside dense of the same length, where length is across


def found(study: str, name: str) -> Any:
    from rows import NoSuchRowError, row

    try:
        return row(study, name)
    except NoSuchRowError:
        return None


def draw(save: Callable[[Any, str], None]) -> None:
    from longread.report.figures import MUTED, new_figure
    from longread.report.labels import Label, place_labels
    from longread.report.mechanisms import color_of, marker_of
    from longread.report.tradeoff import Point, limits, obstacles, time_ticks

    trained = [(line, name, label, tokens) for name, label, tokens in MODELS if (line := found("imdb-lengths", name))]
    times = {name: found("imdb-lengths-times", name) for _, name, _, _ in trained}
    timed = all(line is not None and not line.timed_under_load for line in times.values())
    points = []
    for line, name, label, tokens in trained:
        (accuracy, interval), at = line.accuracy, tokens * SIDE.get(line.attention, 1.0)
        at = times[name].outcomes[0].run.record["eval_seconds"] if timed else at
        points.append(Point(line, at, at, at, 100 * accuracy, in_percent(interval), label))
    figure, axes = new_figure(6.4, 3.6)
    figure.subplots_adjust(left=0.085, right=0.97, top=0.92, bottom=0.145)
    axes.set_xscale("log")
    for p in points:
        colour = color_of(p.line.attention)
        axes.plot([p.cost, p.cost], [p.interval.low, p.interval.high], color=colour, lw=1.2)
        axes.plot(p.cost, p.accuracy, marker_of(p.line.attention), color=colour, ms=7.5, mec="white", zorder=4)
    limits(axes, points)
    if tfidf := found("imdb-lengths", "tfidf"):
        level, colour = 100 * tfidf.accuracy[0], color_of("tfidf")
        axes.axhline(level, color=colour, lw=1.2, ls=(0, (5, 3)), zorder=0)
        words = {"x": 0.99, "ha": "right", "va": "top", "fontsize": 8, "transform": axes.get_yaxis_transform()}
        axes.text(y=level - 0.04, s="TF-IDF + logistic regression", color=colour, **words)
    axes.set_title("Accuracy, %, with its 95 % interval", fontsize=9, loc="left")
    if timed:
        axes.set_xlabel("seconds to classify 1,000 reviews, one idle core (log scale)", color=MUTED)
        time_ticks(axes)
    else:
        axes.set_xlabel("tokens of a review that are read, at most (log scale)", color=MUTED)
        axes.set_xlim(400, 3600)
        axes.set_xticks([512, 1024, 2048], ["512", "1,024", "2,048"])
        axes.minorticks_off()
    labels = [Label(p.cost, p.accuracy, p.label, color_of(p.line.attention)) for p in points]
    place_labels(axes, labels, obstacles(axes, points, []))
    save(figure, "imdb-lengths")


def in_percent(interval: Any) -> Any:
    from longread.report.statistics import Interval

    return Interval(100 * interval.low, 100 * interval.high, interval.draws)
