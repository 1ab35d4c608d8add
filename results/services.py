"""Tables of services under load, from the records of benchmarks/serving.py and benchmarks/serving_replicas.py."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.serving_table import CLIENTS, MOST, TITLES, read_loads
from rows import RESULTS

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.markdown import markdown_table
from longread.report.measures import LOADED

LATENCIES = (0.5, 0.95, 0.99)
TIMES = {"dense": 4, "longformer": 8}  # goals: of the plain service's rate, with the most clients
BUSY_CORES = 0.25  # as in values.py
LATER = 3  # and of a sentence's p95 beside documents, times its own


def table(_: str) -> str:
    loads = read_loads(RESULTS / "serving")
    if not loads:
        return "Not measured yet."
    counts = " / ".join(map(str, CLIENTS))
    columns = (Column("Attention", numeric=False), Column("Service", numeric=False),
               Column(f"Requests/s at {counts} clients"), Column(f"Times the plain one at {MOST}"),
               Column(f"p50 / p95 / p99 of {MOST} clients", "ms"), Column("Errors"))  # fmt: skip
    body, beside, floors, apart = [], [], [], []
    for load in loads:
        name = load.attention.capitalize() + (LOADED if load.busy else "")
        for side in load.sides:
            rates = " / ".join(say.number(sum(r) / len(r), 1) for r in (load.rates(side, c) for c in CLIENTS))
            late = " / ".join(f"{1000 * load.quantile(side, share):,.0f}" for share in LATENCIES)
            ratio = "1" if side == "plain" else say.significant(load.times(side), 2)
            cells = (name, TITLES[side], rates, ratio, late, f"{load.errors(side)}")
            body.append(Row(tuple(map(Cell, cells))))
            if (found := load.sentence(side)) is not None:
                alone, together, documents = found
                cells = (name, TITLES[side], f"{1000 * alone:.0f}", f"{1000 * together:.0f}",
                         say.significant(together / alone, 2), say.significant(documents, 2))  # fmt: skip
                beside.append(Row(tuple(map(Cell, cells))))
        most = " or ".join(f"{load.most(kind):,.0f} in {kind}" for kind in ("float32", "bfloat16"))
        floors.append(f"{load.attention.capitalize()}: {most}")
        apart.append(", ".join(f"{TITLES[s]} {load.difference(s):.0e}" for s in load.sides if s != "plain"))
    columns_beside = (Column("Attention", numeric=False), Column("Service", numeric=False), Column("p95 alone", "ms"),
                      Column("p95 beside documents", "ms"), Column("Ratio"), Column("Documents/s"))  # fmt: skip
    verdicts = []
    for load in loads:
        goal = TIMES[load.attention]
        verdicts.append(f"{load.attention.capitalize()} {goal} times: {met(load.times('ours') >= goal)}")
    ratios = [together / alone for load in loads if (found := load.sentence("ours")) for alone, together, _ in (found,)]
    verdicts.append(f"p95 of a sentence at most {LATER} times its own: {met(max(ratios) <= LATER)}")
    machine = loads[0].machine
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    said = f"{machine['processor']}, {machine['cores']} cores; {versions}; commit {str(machine['commit'])[:9]}."
    return "\n\n".join([
        markdown_table(Table(columns, tuple(body))),
        f"Requests a second if products of matrices alone took time, at their measured rate: {'; '.join(floors)}.",
        f"Largest difference of a probability from the plain service's, of 12 texts: {'; '.join(apart)}.",
        "One sentence at a time, alone and while two clients send documents of about 4,000 tokens:",
        markdown_table(Table(columns_beside, tuple(beside))),
        f"Goals, at {MOST} clients and in float32: {'; '.join(verdicts)}.",
        said,
    ])  # fmt: skip


def met(reached: bool) -> str:
    return "met" if reached else "missed"


def replicas(_: str) -> str:
    """What a second process or replica brings; the command, where it was not measured."""
    path = RESULTS / "serving" / "replicas.json"
    if not path.exists():
        return "Not measured yet: `python -m benchmarks.serving_replicas --out results/serving`."
    return replicas_table(json.loads(path.read_text("utf-8")))


def replicas_table(record: dict[str, Any]) -> str:
    rates = {(one["side"], one["clients"]): one["requests"] / one["seconds"] for one in record["found"]}
    sides, clients = (list(dict.fromkeys(key[place] for key in rates)) for place in (0, 1))
    machine, most = record["environment"], max(clients)
    busy = LOADED if max(machine["load_at_start"], machine["load_at_end"]) > BUSY_CORES else ""
    columns = (Column("Service", numeric=False), *(Column(f"Requests/s at {count} clients") for count in clients),
               Column(f"Times its one at {most}"), Column("Errors"))  # fmt: skip
    ones = {"--workers 2": "one process, one thread", "Ray Serve, 2 replicas": "Ray Serve, 1 replica"}
    body = []
    for side in sides:
        one = ones.get(side)
        ratio = say.significant(rates[side, most] / rates[one, most], 2) if one else say.NOTHING
        errors = sum(own["errors"] for own in record["found"] if own["side"] == side)
        own_rates = (say.number(rates[side, count], 1) for count in clients)
        body.append(Row(tuple(map(Cell, (side + busy, *own_rates, ratio, str(errors))))))
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"{markdown_table(Table(columns, tuple(body)))}\n\n"
        f"{machine['processor']}, {machine['cores']} cores; {versions}; commit {str(machine['commit'])[:9]}."
    )
