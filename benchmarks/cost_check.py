"""The cost model beside measured seconds: fitted to few of them, then compared with the others.

    python -m benchmarks.cost_check        the fit and every comparison; with predictions, results/scaling/cost.json

Fitted: one rate of products, one of each mechanism's mixing, as parts of the rate of a large product on that machine,
and one bandwidth, to results/lengths at FITTED_LENGTHS. Compared: its other lengths, results/benchmarks (other depths,
widths, batches, precisions and another processor), and results/scaling/seconds.json (processes and threads).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import cost
from benchmarks.cost import Machine, Part
from benchmarks.cost_predict import predictions, rounded
from longread.records import write_json

RESULTS = Path(__file__).parent.parent / "results"
RECORD = RESULTS / "scaling" / "cost.json"
# Two, or products and bandwidth cannot be told apart; the shortest and the two longest are left to the comparison.
FITTED_LENGTHS = (1024, 4096)
OTHER_FITS = ((2048,), (512, 4096), (512, 8192), (1024, 8192))  # that were tried before it was chosen
MECHANISMS = ("dense", "longformer", "bigbird", "performer", "linformer")
RATES = ("products", *MECHANISMS)
BUSY_CORES = 0.25  # as in results/values.py
MOST_BANDWIDTH = 1e11
CLUSTERED = "parts of training on several processes"


@dataclass(frozen=True)
class Comparison:
    """`measured` and `predicted`: seconds, or in the group CLUSTERED a ratio of seconds."""

    group: str
    what: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Measured:
    attention: str
    length: int
    phase: str
    seconds: float
    parts: tuple[Part, ...]


def _lines(study: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / study / "runs.jsonl").read_text("utf-8").splitlines()]


def by_length() -> tuple[list[Measured], float]:
    """The medians of results/lengths, and the rate of a large product on that machine."""
    found, rates = [], []
    for record in _lines("lengths"):
        encoder = {key: value for key, value in record["encoder"].items() if value is not None and key != "attention"}
        model = cost.model_of(record["attention"], **encoder)
        rates.append(record["matmul_flops_per_second"])
        seconds: dict[tuple[int, str], list[float]] = {}
        for sample in record["samples"]:
            seconds.setdefault((sample["length"], sample["phase"]), []).extend(sample["seconds"])
        for (length, phase), own in seconds.items():
            parts = cost.inference(model, [length])
            if phase == "training":  # without the optimizer
                parts = cost.trained(model, parts, 0)
            elif phase == "mixing":
                parts = [part for part in parts if part.name == "attention"]
            found.append(Measured(record["attention"], length, phase, statistics.median(own), tuple(parts)))
    return found, statistics.median(rates)


def fit(measured: Sequence[Measured], rate: float) -> dict[str, float]:
    """Each rate as a part of `rate`, at most 1, and the bandwidth in bytes a second: least squares of log ratios."""
    import numpy as np
    from scipy.optimize import least_squares

    def machine(x: Sequence[float]) -> Machine:
        return Machine({name: rate * math.exp(x[i]) for i, name in enumerate(RATES)}, math.exp(x[-1]))

    def off(x: Sequence[float]) -> list[float]:
        made = machine(x)
        return [math.log(sum(map(made.seconds, one.parts)) / one.seconds) for one in measured]

    start = [math.log(0.5)] * len(RATES) + [math.log(1e10)]
    bounds = ([-5.0] * len(RATES) + [math.log(1e8)], [0.0] * len(RATES) + [math.log(MOST_BANDWIDTH)])
    found = np.exp(least_squares(off, start, bounds=bounds).x)
    return {**dict(zip(RATES, map(float, found), strict=False)), "bandwidth": float(found[-1])}


def machine_of(fitted: Mapping[str, float], rate: float) -> Machine:
    rates = {name: fitted[name] * rate for name in RATES}
    return Machine(rates, fitted["bandwidth"])


def other_lengths(
    measured: Sequence[Measured], machine: Machine, fitted: Sequence[int] = FITTED_LENGTHS
) -> list[Comparison]:
    return [
        Comparison(
            f"other lengths, {one.phase}",
            f"{one.attention}, {one.length:,} tokens",
            one.seconds,
            sum(map(machine.seconds, one.parts)),
        )
        for one in measured
        if one.length not in fitted
    ]


def other_fit(measured: Sequence[Measured], rate: float, lengths: Sequence[int]) -> dict[str, Any]:
    """What another choice of FITTED_LENGTHS would have given."""
    fitted = fit([one for one in measured if one.length in lengths], rate)
    errors = [abs(one.error) for one in other_lengths(measured, machine_of(fitted, rate), lengths)]
    bandwidth, middle = rounded(fitted["bandwidth"]), rounded(statistics.median(errors))
    return {"lengths": list(lengths), "bandwidth": bandwidth, "median_error": middle}


def beside_peers(fitted: Mapping[str, float]) -> list[Comparison]:
    """This project's side of results/benchmarks. The rate of a product: the median of that processor's records."""
    records = [record for record in _lines("benchmarks") if record["status"] == "ok"]
    rates: dict[tuple[str, str], list[float]] = {}
    for record in records:
        kind = record["environment"]["processor"], record["row"]["precision"]
        rates.setdefault(kind, []).extend(record["matmul_flops_per_second"])
    found = []
    for record in records:
        row, where = record["row"], record["environment"]
        if row["part"].startswith("encoders"):  # of other families: what they are made of stands in their checkpoints
            continue
        if max(where["load_at_start"], where["load_at_end"]) > BUSY_CORES:
            continue
        shape = {key: value for key, value in row["shape"].items() if value is not None}
        known = vars(type(cost.model_of(row["attention"]).config.options)()).keys()
        own = {key: value for key, value in row["options"].items() if key in known}
        model = cost.model_of(row["attention"], vocab_size=row["vocab_size"], max_length=4096, **shape, **own)
        width = 2 if row["precision"] == "bfloat16" else 4
        training = row["phase"] == "training"
        tokens, first = record["tokens"], row["peer"] == "transformers"  # checkpoints of which the first token is read
        if row["rows"].startswith("length:"):
            parts = cost.inference(model, [tokens // row["count"]] * row["count"], width)
            parts = cost.of_first_tokens(model, parts, tokens, row["count"]) if first else parts
        else:  # the record has the operations of all sequences together
            parts = cost.given_mixing(model, tokens, 0.0, width)
            parts = cost.of_first_tokens(model, parts, tokens, row["count"]) if first else parts
            mixing = record["flops"] / (3 if training else 1) - sum(part.operations for part in parts)
            parts = [replace(part, operations=mixing) if part.name == "attention" else part for part in parts]
        if training:
            parts = cost.trained(model, parts, row["count"] // row["batch"])
        rate = statistics.median(rates[where["processor"], row["precision"]])
        seconds = sum(map(machine_of(fitted, rate).seconds, parts))
        group = f"beside peers, {row['shape']['hidden_size']} wide, {row['precision']}"
        found.append(Comparison(group, record["row"]["name"], statistics.median(record["seconds"]["ours"]), seconds))
    return found


def processes(fitted: Mapping[str, float], rate: float) -> list[Comparison]:
    """How many times as fast two processes, or two threads, are as one. Gradients go through the machine's memory."""
    record = json.loads((RESULTS / "scaling" / "seconds.json").read_text("utf-8"))
    middle = {name: statistics.median(own) for name, own in record["seconds"].items()}
    model = cost.model_of(
        "longformer", hidden_size=256, num_attention_heads=4, num_hidden_layers=4, vocab_size=1000, max_length=1024
    )
    tokens, batch, one = [1024], 16, machine_of(fitted, rate / 2)
    both = Machine({name: 2 * own for name, own in one.rates.items()}, one.bandwidth)
    step = cost.trained(model, cost.inference(model, tokens * batch), 1)
    shared = cost.trained(model, cost.inference(model, tokens * (batch // 2)), 1)
    alone = sum(map(one.seconds, step))
    sent = 2 * cost.all_reduce_bytes(model, 2) / one.bandwidth  # written by one and read by the other
    return [
        Comparison(CLUSTERED, name, middle["1 process, 1 thread"] / middle[name], alone / predicted)
        for name, predicted in (
            ("1 process, 2 threads", sum(map(both.seconds, step))),
            ("2 processes, 1 thread each", sum(map(one.seconds, shared)) + sent),
        )
    ]


def record(others: Sequence[Sequence[int]] = OTHER_FITS) -> dict[str, Any]:
    """Everything that docs/scaling.md shows, from records alone."""
    measured, rate = by_length()
    fitted = fit([one for one in measured if one.length in FITTED_LENGTHS], rate)
    compared = [
        *other_lengths(measured, machine_of(fitted, rate)),
        *beside_peers(fitted),
        *processes(fitted, rate),
    ]
    return {
        "fitted": {
            "to": f"results/lengths at {' and '.join(f'{n:,}' for n in FITTED_LENGTHS)} tokens",
            "figures": sum(one.length in FITTED_LENGTHS for one in measured),
            "product_rate": rounded(rate),
            **{name: rounded(value) for name, value in fitted.items()},
        },
        "comparisons": [
            {key: rounded(v) if isinstance(v, float) else v for key, v in (*asdict(one).items(), ("error", one.error))}
            for one in compared
        ],
        "other_fits": [other_fit(measured, rate, lengths) for lengths in others],
        "predictions": predictions(),
    }


def main() -> None:
    made = record()
    write_json(RECORD, made)
    groups: dict[str, list[float]] = {}
    for one in made["comparisons"]:
        print(
            f"{one['group']}: {one['what']}: measured {one['measured']}, predicted {one['predicted']}, "
            f"{one['error']:+.0%}"
        )
        groups.setdefault(one["group"], []).append(abs(one["error"]))
    for group, errors in groups.items():
        print(f"{group}: {len(errors)} figures, median error {statistics.median(errors):.0%}, worst {max(errors):.0%}")
    print(made["fitted"])


if __name__ == "__main__":
    main()
