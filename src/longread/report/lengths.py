"""Time and memory by length, from benchmark records: medians, spreads, and where each crosses dense."""

from __future__ import annotations

import json
import statistics as plain
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.grouping import is_loaded, slug
from longread.report.groups import setting_text
from longread.report.measures import LOADED
from longread.report.mechanisms import rank, title_of

if TYPE_CHECKING:
    from longread.records import Run

PHASES = ("forward", "training", "mixing")
# where the mechanisms' settings come from, by the record's `sizes`; older records do not say
SIZES = {
    "published": "at published sizes",
    "given": "at sizes given by hand",
    "own": "at these runs' own sizes, not the published ones",
}
# what may differ between benchmarks that still stand on one chart: sizes and batches must agree
COMPARED = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "head_dim",
    "intermediate_size",
    "batch_size",
    "vocab_size",
    "precision",
    "sizes",
)


@dataclass
class Cost:
    """All measurements of one mechanism at one length in one phase."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        return plain.median(self.seconds) if self.seconds else None

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        cut = plain.quantiles(self.seconds, n=4, method="inclusive")
        return cut[0], cut[2]

    @property
    def peak(self) -> float | None:
        return max(self.memory) if self.memory else None

    @property
    def floor(self) -> float | None:
        """None also where the operations that it saves elsewhere are more than its own (Linformer's mixing alone)."""
        middle = plain.median(self.floors) if self.floors else 0.0
        return middle if middle > 0 else None


@dataclass
class Series:
    """One mechanism's benchmark; `costs[phase][length]`."""

    attention: str
    name: str
    sizes: str = ""  # the mechanism's settings in words
    costs: dict[str, dict[int, Cost]] = field(default_factory=dict)
    loaded: bool = False

    @property
    def title(self) -> str:
        """Name and sizes: a speed says nothing without them."""
        return f"{self.name} ({self.sizes})" if self.sizes and self.sizes not in self.name else self.name

    def curve(self, phase: str, what: str) -> list[tuple[int, float]]:
        """(length, median seconds) or (length, peak MiB), where measured."""
        found = []
        for length, cost in sorted(self.costs.get(phase, {}).items()):
            value = cost.median if what == "seconds" else cost.peak
            if value is not None and value > 0:
                found.append((length, value if what == "seconds" else value / say.MEBIBYTE))
        return found


@dataclass
class Bench:
    """Benchmarks that may be compared: the same sizes, device and precision."""

    key: str
    title: str
    series: list[Series]
    failures: list[Run]
    settings: str

    @property
    def dense(self) -> Series | None:
        return next((s for s in self.series if s.attention == "dense"), None)

    def phases(self) -> list[str]:
        return [phase for phase in PHASES if any(s.costs.get(phase) for s in self.series)]


def benches(runs: Sequence[Run]) -> list[Bench]:
    split: dict[str, list[Run]] = {}
    for run in runs:
        if run.record.get("kind") == "benchmark":
            split.setdefault(json.dumps(comparable(run)), []).append(run)
    found = []
    for index, (key, members) in enumerate(sorted(split.items()), start=1):
        settings = ", ".join(condition(name, value) for name, value in json.loads(key) if value is not None)
        title = "Time and memory by length" + (f" ({index} of {len(split)})" if len(split) > 1 else "")
        failures = [run for run in members if run.record.get("status") != "ok"]
        name = slug("lengths" if len(split) == 1 else f"lengths {index}")
        found.append(Bench(name, title, merge(members), failures, settings))
    return found


def condition(name: str, value: Any) -> str:
    if name == "commit":
        return f"commit {str(value)[:9]}"
    return SIZES.get(value, str(value)) if name == "sizes" else setting_text(name, value)


def comparable(run: Run) -> list[tuple[str, object]]:
    config, environment = run.record.get("config") or {}, run.record.get("environment") or {}
    parts = [(name, config.get(name)) for name in COMPARED]
    parts += [(name, environment.get(name)) for name in ("device", "processor", "threads", "allocator")]
    if config.get("sizes"):  # records that say so are of one state of the code; samples of two do not go together
        parts += [(name, environment.get(name)) for name in ("torch", "commit")]
    return parts if config.get("precision") else [*parts, ("precision", environment.get("precision"))]


def options(run: Run) -> dict[str, object]:
    """The mechanism's own settings."""
    ignored = {*COMPARED, "attention", "lengths", "seconds", "longest_training", "device", "threads"}
    return {k: v for k, v in sorted((run.record.get("config") or {}).items()) if k not in ignored}


def merge(runs: Sequence[Run]) -> list[Series]:
    """One series a mechanism (and its settings, where they differ): all samples of it go together."""
    variants: dict[str, set[str]] = {}
    for run in runs:
        variants.setdefault(str(run.record.get("attention")), set()).add(json.dumps(options(run), sort_keys=True))
    series: dict[str, Series] = {}
    for run in runs:
        attention = str(run.record.get("attention"))
        name = title_of(attention)
        sizes = ", ".join(setting_text(k, v) for k, v in options(run).items())
        if len(variants[attention]) > 1:
            name += f" ({sizes or 'default'})"
        for sample in run.record.get("samples") or []:
            one = series.setdefault(name, Series(attention, name, sizes))
            cost = one.costs.setdefault(str(sample.get("phase")), {}).setdefault(int(sample["length"]), Cost())
            cost.seconds += [v for v in map(say.finite, sample.get("seconds") or []) if v is not None and v > 0]
            for values, key in ((cost.memory, "peak_memory_bytes"), (cost.floors, "floor_seconds")):
                value = say.finite(sample.get(key))
                if value is not None:
                    values.append(value)
        if name in series and is_loaded(run):
            series[name].loaded = True
    return sorted(series.values(), key=lambda s: (rank(s.attention), s.name))


def cost_table(bench: Bench, phase: str) -> Table:
    """Medians by length, quartiles on hover, and the distance to the floor at the longest length."""
    lengths = sorted({n for s in bench.series for n in s.costs.get(phase, {})})
    columns = [Column("Attention", numeric=False), *(Column(f"{n:,}", "ms") for n in lengths)]
    columns += [Column("Longest", "× floor"), Column("Longest", "MiB")]
    rows = []
    for series in bench.series:
        costs = series.costs.get(phase, {})
        if not costs:
            continue
        cells = [Cell(series.title + (LOADED if series.loaded else ""), series.attention)]
        cells += [cost_cell(costs.get(n)) for n in lengths]
        last = costs[max(costs)]
        ratio = last.median / last.floor if last.median and last.floor else None
        cells.append(Cell(f"{ratio:.1f}" if ratio else say.NOTHING, ratio, f"at {max(costs):,} tokens"))
        peak = last.peak / say.MEBIBYTE if last.peak is not None else None
        cells.append(Cell(say.number(peak) if peak is not None else say.NOTHING, peak, f"at {max(costs):,} tokens"))
        rows.append(Row(tuple(cells), "", series.attention))
    for run in bench.failures:
        status = str(run.record.get("status")).replace("_", " ")
        error = " ".join(str(run.record.get("error") or "").split())
        name = title_of(str(run.record.get("attention")))
        text = status + (f" ({error})" if error else "")
        rows.append(Row((Cell(name), Cell(text, span=len(columns) - 1)), "failed", str(run.record.get("attention"))))
    notes = ("Median milliseconds; hover for the quartiles and the number of measurements. “× floor”: the median "
             "over what the floating-point operations alone would take at the machine's matmul rate.")  # fmt: skip
    return Table(tuple(columns), tuple(rows), (notes,))


def cost_cell(cost: Cost | None) -> Cell:
    if cost is None or cost.median is None:
        return Cell(say.NOTHING, None)
    low, high = cost.quartiles
    title = f"quartiles {say.seconds(low)} – {say.seconds(high)}, {say.plural(len(cost.seconds), 'measurement')}"
    if cost.floor:
        title += f", floor {say.seconds(cost.floor)}"
    return Cell(say.significant(1000 * cost.median), cost.median, title)
