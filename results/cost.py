"""Tables and numbers of docs/scaling.md, from the record of `python -m benchmarks.cost_check`."""

from __future__ import annotations

import json
import statistics
from functools import cache
from typing import Any

from rows import RESULTS, NoSuchRowError

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.markdown import markdown_table

PARTS = ("projections", "attention", "feed-forward")
MODELS = {"longformer": "Longformer", "bigbird": "BigBird", "performer": "Performer", "linformer": "Linformer"}


@cache
def record() -> dict[str, Any]:
    path = RESULTS / "scaling" / "cost.json"
    if not path.exists():
        raise NoSuchRowError("results/scaling has no cost; run `python -m benchmarks.cost_check`")
    return dict(json.loads(path.read_text("utf-8")))


def table(name: str) -> str:
    if name not in TABLES:
        raise NoSuchRowError(f"of the cost model there is no table {name!r}; there are {', '.join(TABLES)}")
    return str(TABLES[name]())


def value(name: str, measure: str) -> str:
    """`GROUP: median error` or `worst error`, GROUP as in the table or "all"; `fitted: NAME`; `assumed: NAME`."""
    if name == "fitted" and measure in record()["fitted"]:
        own = record()["fitted"][measure]
        return (
            f"{own / 1e9:.1f} GB/s" if measure == "bandwidth" else say.percent(own, 0) + " %" if own <= 1 else f"{own}"
        )
    predicted = record()["predictions"]
    if name == "predicted" and measure in ("trained_documents", "classified_documents", "batch", "micro_batch_tokens"):
        return f"{predicted[measure]:,}"
    if name == "other fits" and measure == "median error":
        found = [one["median_error"] for one in record()["other_fits"]]
        return f"{say.percent(min(found), 0)} to {say.percent(max(found), 0)} %"
    errors = [abs(one["error"]) for one in record()["comparisons"] if name in ("all", one["group"])]
    if not errors or measure not in ("median error", "worst error"):
        raise NoSuchRowError(f"the cost model has no {measure!r} of {name!r}")
    return say.percent(statistics.median(errors) if measure == "median error" else max(errors), 0) + " %"


def _work() -> str:
    parts = (Column(name.capitalize(), "TFLOP") for name in PARTS)
    columns = (Column("Model", numeric=False), Column("Tokens"), *parts, Column("Bytes moved", "GB"),
               Column("Training step", "TFLOP"), Column("Bytes sent", "GB"))  # fmt: skip
    body = []
    for one in record()["predictions"]["work"]:
        own = [f"{one['operations'].get(part, 0.0) / 1e12:.3f}" for part in PARTS]
        more = (one["bytes"] / 1e9, one["training_operations"] / 1e12, one["gradient_bytes"] / 1e9)
        name, _, rest = one["model"].partition(",")
        cells = [MODELS.get(name, name.capitalize() if rest else name) + ("," + rest if rest else "")]
        body.append(Row(tuple(map(Cell, [*cells, f"{one['tokens']:,}", *own, *(f"{v:.2f}" for v in more)]))))
    return markdown_table(Table(columns, tuple(body)))


def _errors() -> str:
    columns = (Column("Compared with", numeric=False), Column("Figures"), Column("Median error", "%"),
               Column("Worst error", "%"), Column("Predicted / measured", "least – most"))  # fmt: skip
    groups: dict[str, list[float]] = {}
    for one in record()["comparisons"]:
        groups.setdefault(one["group"], []).append(one["error"])
    body = []
    for group, errors in groups.items():
        sizes = [abs(error) for error in errors]
        ends = f"{1 + min(errors):.2f} – {1 + max(errors):.2f}"
        texts = (group, str(len(errors)), say.percent(statistics.median(sizes), 0), say.percent(max(sizes), 0), ends)
        body.append(Row(tuple(map(Cell, texts))))
    return markdown_table(Table(columns, tuple(body)))


def _fitted() -> str:
    fitted = record()["fitted"]
    rates = [name for name in fitted if name not in ("to", "figures", "product_rate", "bandwidth")]
    columns = (Column("Fitted", numeric=False), Column("Part of a large product's rate", "%"))
    names = {"products": "Products of matrices", "dense": "Mixing, dense"}
    body = [
        Row((Cell(names.get(name, f"Mixing, {MODELS.get(name, name)}")), Cell(say.percent(fitted[name], 0))))
        for name in rates
    ]
    return markdown_table(Table(columns, tuple(body))) + (
        f"\n\n{fitted['figures']} figures of {fitted['to']}; a large product runs there at "
        f"{fitted['product_rate'] / 1e9:.0f} GFLOP/s. Bandwidth: {fitted['bandwidth'] / 1e9:.1f} GB/s."
    )


def _predicted(kind: str) -> str:
    columns = (Column("Model", numeric=False), Column("Tokens"), Column("GPUs"), Column("Hours", "at half the speed"),
               Column("Dollars"), Column("Bottleneck", "part of the time", numeric=False),
               Column("What moves it", "hours then", numeric=False))  # fmt: skip
    body = []
    for one in record()["predictions"][kind]:
        share = _share(one, kind)
        texts = (
            one["model"], f"{one['tokens']:,}", f"{one['gpus']:,}",
            f"{_hours(one['hours'])} ({_hours(one['hours_at_half'])})", say.significant(one["dollars"], 2),
            f"{one['bottleneck']} ({say.percent(share, 0)} %)",
            f"{one['setting']} ({_hours(one['hours_with_setting'])})",
        )  # fmt: skip
        body.append(Row(tuple(map(Cell, texts))))
    return markdown_table(Table(columns, tuple(body)))


def _share(one: dict[str, Any], kind: str) -> float:
    """Of the time of a step. Reading and tokenizing run beside the GPU: the slowest of the three is all of it."""
    seconds = dict(one["seconds"])
    if one["bottleneck"] in ("reading", "tokenizing"):
        return 1.0
    if kind == "inference":
        seconds = {name: own for name, own in seconds.items() if name not in ("reading", "tokenizing")}
    return float(seconds[one["bottleneck"]] / sum(seconds.values()))


def _hours(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else say.significant(value, 2)


def _assumed() -> str:
    predicted = record()["predictions"]
    card, assumed = predicted["card"], predicted["assumed"]
    columns = (Column("Figure", numeric=False), Column("Value"), Column("From", numeric=False))
    maker = "its maker"
    rows = [
        ("bfloat16, without sparsity", f"{card['bfloat16_per_second'] / 1e12:.0f} TFLOP/s", maker),
        ("memory", f"{card['memory_bytes'] / 1e9:.0f} GB at {card['bandwidth'] / 1e12:.2f} TB/s", maker),
        ("between GPUs of a server (8), one direction", f"{card['link_bytes_per_second'] / 1e9:.0f} GB/s", maker),
        ("between servers, for each GPU", f"{card['network_bytes_per_second'] / 1e9:.0f} GB/s", maker),
        ("products reach of the card", f"{say.percent(assumed['products'], 0)} %", "assumption"),
        ("attention reaches", f"{say.percent(assumed['mixing'], 0)} %", "published for dense; assumed for the others"),
        ("bandwidth and network reach", f"{say.percent(assumed['bandwidth'], 0)} %", "assumption"),
        ("start of an operator", f"{assumed['seconds_of_a_launch'] * 1e6:.0f} µs", "assumption"),
        ("operators of a layer, forward", f"{assumed['launches_of_a_layer']}", "assumption"),
        ("text of a token", f"{assumed['bytes_of_a_token']} bytes", "assumption"),
        ("tokenizing, a server", f"{assumed['tokenizer_bytes_per_second'] / 1e6:.0f} MB/s", "published"),
        ("reading, a server", f"{assumed['read_bytes_per_second'] / 1e9:.0f} GB/s", "assumption"),
        ("a GPU for an hour", f"${predicted['price']:.2f}", "assumption"),
    ]
    return f"{predicted['card_name']}:\n\n" + markdown_table(
        Table(columns, tuple(Row(tuple(map(Cell, r))) for r in rows))
    )


TABLES = {
    "work": _work,
    "errors": _errors,
    "fitted": _fitted,
    "training": lambda: _predicted("training"),
    "inference": lambda: _predicted("inference"),
    "assumed": _assumed,
}
