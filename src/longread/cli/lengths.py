"""What a person sees of a benchmark by length: where it is, then milliseconds, and from where on dense is slower."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from longread.cli import logs
from longread.records import Run
from longread.report.crossings import crossing, crossing_text, spread
from longread.report.lengths import SIZES, Bench, benches
from longread.report.mechanisms import learn

if TYPE_CHECKING:
    from longread.study.benchmark import BenchmarkConfig

log = logging.getLogger("longread")
TITLES = {"forward": "inference", "training": "training step (forward and backward)"}


class LengthsView:
    """A line for each mechanism that was measured by length; `table` shows medians and crossover lengths. On stderr."""

    def __init__(self, configs: Sequence[BenchmarkConfig]) -> None:
        self.configs = configs
        self.console = logs.console
        self.status = self.console.status("measuring by length") if logs.shows_live() else None

    def __enter__(self) -> LengthsView:
        self._say(f"time and memory by length, {SIZES[self.configs[0].sizes]}")
        if self.status is not None:
            self.status.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.status is not None:
            self.status.stop()

    def on_event(self, index: int, event: dict[str, Any]) -> None:
        place = f"[{index + 1}/{len(self.configs)}] "
        if event["event"] == "progress":
            where = f"{place}{event['attention']}, {event['length']:,} tokens, {event['phase']}"
            logs.status(where)
            if self.status is not None:
                self.status.update(where)
        if event["event"] == "end":
            self._say(f"{place}{self.configs[index].attention}: measured by length")

    def _say(self, text: str) -> None:
        log.info("%s", text)

    def table(self, finished: Sequence[Run]) -> None:
        """Milliseconds by length for each direction, one column a mechanism, its crossover length with dense below."""
        if self.status is not None:
            self.status.stop()
        learn(finished)
        for bench in benches(finished):
            for phase in TITLES:
                if phase in bench.phases():
                    logs.drawn(milliseconds(bench, phase), f"{phase}, median milliseconds by length")


def milliseconds(bench: Bench, phase: str) -> Table:
    """Medians by length, then a line with the length from which on each mechanism is faster than dense."""
    table = Table(box=None, pad_edge=False, title=f"{TITLES[phase]}, median milliseconds", title_justify="left")
    table.add_column("tokens", justify="right")
    for series in bench.series:
        table.add_column(series.title + (" †" if series.loaded else ""), justify="right")
    for length in sorted({n for series in bench.series for n in series.costs.get(phase, {})}):
        costs = [series.costs.get(phase, {}).get(length) for series in bench.series]
        table.add_row(f"{length:,}", *(f"{1000 * c.median:,.1f}" if c and c.median else "" for c in costs))
    table.add_section()
    crossings = (
        "" if series is bench.dense else crossing_text(crossing(bench, series, phase), spread(bench, series, phase))
        for series in bench.series
    )
    table.add_row("faster than dense", *crossings)
    if any(series.loaded for series in bench.series):
        table.caption = "† The machine had other work: not times to quote."
    return table
