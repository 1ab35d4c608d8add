"""What a search for settings tried and found: a table, a plot for each setting, and the test on other rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longread.records import find_run
from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.figures import GRID, INK, MUTED, Picture, Tips, finish, new_figure
from longread.report.statistics import Comparison, compare

COLORS = {"ok": "#1f6f8b", "stopped": "#b4bac3"}
FAILED = "#b3423a"


def read_search(directory: Path) -> dict[str, Any] | None:
    """What `longread tune` keeps beside its runs, or None where there was no search."""
    path = Path(directory, "search", "trials.json")
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def comparison_of(directory: Path, found: Mapping[str, Any]) -> Comparison | None:
    """The settings found against the default ones, run beside run by seed, on the evaluation rows."""
    import numpy as np

    sides = []
    for name in ("best", "default"):
        right = []
        for run_id in found["final"].get(name, ()):
            run = find_run(Path(directory), run_id)
            predicted = run.predictions() if run else None
            if predicted is None or predicted["label"].ndim > 1 or predicted["label"].dtype.kind == "f":
                return None
            order = np.argsort(predicted["row"], kind="stable")
            right.append((predicted["label"] == predicted["predicted"])[order])
        sides.append(right)
    if not sides[0] or len(sides[0]) != len(sides[1]):
        return None
    return compare(np.stack(sides[0]), np.stack(sides[1]), list(range(len(sides[0]))))


def verdict(directory: Path) -> str:
    """What the search came to, in a sentence or two."""
    found = read_search(directory)
    if found is None or not found["final"]:
        return "The search has not come to its end."
    if "best" not in found["final"]:
        return "No trial scored more than the default settings on the tuning rows: they stay."
    done = comparison_of(directory, found)
    if done is None:
        return "The settings found stand beside the default ones in the table."
    more = "more" if done.difference >= 0 else "less"
    text = (
        f"On {say.plural(done.rows, 'row')} that the search never read, the settings found score "
        f"{100 * abs(done.difference):.2f} points {more} than the default ones (95 % interval {100 * done.low:+.2f} to "
        f"{100 * done.high:+.2f}, p {done.p:.2g}, {say.plural(len(done.per_seed), 'seed')})"
    )
    return text + ("." if done.significant(done.p) else "; that is not significant.")


def search_table(found: Mapping[str, Any]) -> Table:
    names = list(found["asked"]["space"])
    columns = (
        Column("Trial"),
        *(Column(name.replace("_", " ").capitalize(), numeric=False) for name in names),
        Column("Epochs"),
        Column("Score", "tuning rows"),
        Column("Ended", numeric=False),
    )
    rows = [_row(trial, names, best_of(found)) for trial in sorted(found["trials"], key=_rank)]
    return Table(columns, tuple(rows), ("A trial is stopped where it is not among the best third after 1, 3, 9, … "
                                        "epochs; the first has the default settings.",))  # fmt: skip


def best_of(found: Mapping[str, Any]) -> int | None:
    whole = [trial for trial in found["trials"] if trial["status"] == "ok" and trial["scores"]]
    best = max(whole, key=lambda trial: (trial["scores"][-1], -trial["number"]), default=None)
    return None if best is None else int(best["number"])


def _rank(trial: Mapping[str, Any]) -> tuple[bool, float]:
    return trial["status"] != "ok", -(trial["scores"][-1] if trial["scores"] else -1e9)


def _row(trial: Mapping[str, Any], names: Sequence[str], best: int | None) -> Row:
    score = trial["scores"][-1] if trial["scores"] else None
    bold = trial["number"] == best
    settings = trial["settings"]
    cells = [Cell(str(trial["number"] + 1), trial["number"])]
    cells += [Cell(_text(settings.get(name)), settings.get(name)) for name in names]
    cells.append(Cell(f"{len(trial['scores'])} of {trial['epochs']}", len(trial["scores"])))
    cells.append(Cell("" if score is None else f"{score:.4f}", score, bold=bold))
    cells.append(Cell("done" if trial["status"] == "ok" else trial["status"].replace("_", " ")))
    return Row(tuple(cells), "" if trial["status"] in ("ok", "stopped") else "failed")


def _text(value: Any) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def search_pictures(found: Mapping[str, Any]) -> list[Picture]:
    """Score by trial, with the best so far; then score by each setting that was searched."""
    trials = [trial for trial in found["trials"] if trial["scores"]]
    if not trials:
        return []
    numbers = [trial["number"] + 1 for trial in trials]
    pictures = [_picture("search-trials", "The trials", "Trial", trials, numbers, best=True)]
    for name, space in found["asked"]["space"].items():
        own = [trial for trial in trials if name in trial["settings"]]
        if not own:
            continue
        title = name.replace("_", " ").capitalize()
        values = [trial["settings"][name] for trial in own]
        label = f"search-{name.replace('_', '-').lower()}"
        if "range" in space:
            log = any(isinstance(value, float) for value in values)
            pictures.append(_picture(label, title, title, own, values, log=log))
        else:
            places = [space["choice"].index(value) for value in values]
            pictures.append(_picture(label, title, title, own, places, ticks=space["choice"]))
    return pictures


def _picture(
    name: str, title: str, x_label: str, trials: Sequence[Mapping[str, Any]], xs: Sequence[float], *,
    best: bool = False, log: bool = False, ticks: Sequence[Any] = (),
) -> Picture:  # fmt: skip
    figure, axes = new_figure(4.2, 3.0)
    tips = Tips()
    if best:
        high, line = -1e9, []
        for trial in trials:
            high = max(high, trial["scores"][-1] if trial["status"] == "ok" else -1e9)
            line.append(high if high > -1e9 else float("nan"))
        axes.step(xs, line, where="post", color=INK, linewidth=1)
    for trial, x in zip(trials, xs, strict=True):
        score, status = trial["scores"][-1], trial["status"]
        (dot,) = axes.plot([x], [score], "o", color=COLORS.get(status, FAILED), markersize=6, zorder=3)
        settings = ", ".join(f"{key} {_text(value)}" for key, value in trial["settings"].items()) or "default settings"
        tips.add(dot, f"trial {trial['number'] + 1}: {score:.4f}, {status}; {settings}")
    if log:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    if ticks:
        axes.set_xticks(range(len(ticks)), [_text(tick) for tick in ticks])
        axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.set_xlabel(x_label)
    axes.set_ylabel("score on the tuning rows")
    axes.grid(color=GRID)
    axes.tick_params(colors=MUTED)
    figure.subplots_adjust(left=0.17, right=0.97, bottom=0.17, top=0.95)
    caption = "Blue: trained to its end. Grey: stopped." + (" Line: the best so far." if best else "")
    return finish(figure, tips, name, title, caption)
