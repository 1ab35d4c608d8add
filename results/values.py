"""Numbers in prose. `<!--= STUDY: ROW: MEASURE -->…<!--/-->` in a document is filled from the records by `make report`.

    <!--= sst2: longformer: accuracy -->88.6 %<!--/-->               a row's own measure
    <!--= sst2: dense - longformer: points -->0.6 points<!--/-->     two rows, on the same evaluation rows
    <!--= benchmarks: longformer-reviews-inference: times -->…       beside a peer
    <!--= lengths: bigbird: forward crossover -->…                   by length
    <!--= cost: all: median error -->…                              of the cost model

A time that was taken on a busy machine is no number for prose: to ask for one is an error.
"""

from __future__ import annotations

import re
import statistics as plain

import cost
from benchmarks.table import allocator_of, read_records
from rows import RESULTS, NoSuchRowError, bench, compared, row, series, studies, verdicts

from longread.report import numbers as say
from longread.report.crossings import crossing, round_length
from longread.report.groups import Line
from longread.report.measures import held_out_accuracy, whole_training
from longread.report.naming import train_part
from longread.report.tables import accuracy_decimals
from longread.report.verdicts import summary

VALUE = re.compile(r"<!--= ?([^>]*?) ?-->(.*?)<!--/-->", re.DOTALL)
OLDER = "‡"  # beside a peer, with our allocator tuned and the peer's not
BUSY_CORES = 0.25  # of a record beside the peers, as benchmarks/table.py marks it


def filled(text: str) -> str:
    """The document with every number made anew. NoSuchRowError names the one that has no record."""
    return VALUE.sub(lambda found: f"<!--= {found[1]} -->{value(found[1])}<!--/-->", text)


def studies_named(text: str) -> set[str]:
    """The studies that a document's numbers come from."""
    return {found[1].split(":")[0].strip() for found in VALUE.finditer(text)}


def value(question: str) -> str:
    parts = [part.strip() for part in question.split(": ")]
    if len(parts) != 3:
        raise NoSuchRowError(f"{question!r} is not STUDY: ROW: MEASURE")
    study, name, measure = parts
    try:
        if study == "benchmarks":
            return beside_peer(name, measure)
        if study == "goals":
            return summary([verdict for each in studies() for verdict in verdicts(each)]).split(". ")[0] + "."
        if study == "lengths":
            return by_length(name, measure)
        if study == "cost":
            return cost.value(name, measure)
        if " - " in name:
            return of_two(study, *name.split(" - "), measure)
        return of_one(row(study, name), measure)
    except NoSuchRowError as error:
        raise NoSuchRowError(f"{question!r}: {error}") from None


def of_one(line: Line, measure: str) -> str:
    accuracy, interval = line.accuracy
    decimals = accuracy_decimals(line)
    record = line.outcomes[0].run.record
    data = record.get("dataset") or {}
    if measure == "accuracy":
        return f"{say.percent(accuracy, decimals)} %"
    if measure == "interval":
        return f"{say.percent(interval.low, decimals)} to {say.percent(interval.high, decimals)} %"
    if measure in ("training", "inference"):
        found = [whole_training(o) if measure == "training" else o.run.record.get("eval_seconds") for o in line.quiet]
        if line.timed_under_load or None in found:
            raise NoSuchRowError("its times were taken on a busy machine")
        return f"{say.number(plain.fmean(float(v) for v in found if v is not None))} seconds"
    if measure == "held-out accuracy":
        held_out = held_out_accuracy(line.outcomes[0])
        return f"{say.percent(held_out)} %" if held_out is not None else say.NOTHING
    if measure == "training accuracy":
        return f"{say.percent(record['metrics']['train_accuracy'])} %"
    if measure == "train rows":
        return f"{sum((data.get(part) or {}).get('rows') or 0 for part in ('train', 'selection')):,}"
    if measure == "part of train":
        return say.share(train_part(line.outcomes[0].run) or 1.0)
    if measure == "rows":
        return f"{line.evaluated:,}"
    if measure == "cut":
        return say.share(record["truncated_fraction"])
    if measure == "runs":
        return str(len(line.outcomes))
    if measure in (record.get("effective_attention") or {}):
        return say.share(record["effective_attention"][measure])
    raise NoSuchRowError(f"there is no measure {measure!r}")


def of_two(study: str, first: str, second: str, measure: str) -> str:
    result = compared(row(study, first), row(study, second))
    if measure == "points":
        size = say.percent(abs(result.difference))
        return f"{size} point{'' if size == '1.0' else 's'}"
    if measure == "difference":
        return f"{say.signed_percent(result.difference)} points"
    if measure == "interval":
        return f"{say.signed_percent(result.low)} to {say.signed_percent(result.high)}"
    raise NoSuchRowError(f"of two rows there is no measure {measure!r}")


def beside_peer(name: str, measure: str) -> str:
    record = read_records(RESULTS / "benchmarks").get(name)
    if record is None or record["status"] != "ok":
        raise NoSuchRowError("no such row beside the peers")
    if max(record["environment"][k] for k in ("load_at_start", "load_at_end")) > BUSY_CORES:
        raise NoSuchRowError("it was measured on a busy machine")
    ours, peer = record["seconds"]["ours"], record["seconds"]["peer"]
    ratio = plain.median(theirs / own for own, theirs in zip(ours, peer, strict=True))
    if measure == "times":
        return f"{say.significant(ratio, 2)} times" + ("" if allocator_of(record) else OLDER)
    if measure == "outputs":
        return f"{record['difference']:.0e}"
    raise NoSuchRowError(f"beside a peer there is no measure {measure!r}")


def by_length(attention: str, measure: str) -> str:
    """`forward crossover`, or `training times 16384`: how many times as fast as dense at that length."""
    one, dense = series(attention), bench().dense
    phase, what, *length = measure.split()
    if dense is None or one.loaded or dense.loaded:
        raise NoSuchRowError("it was measured on a busy machine, or without dense")
    if what == "crossover":
        found = crossing(bench(), one, phase)
        if found is None or found.length is None:
            return f"no length up to {found.longest if found else 0:,} tokens"
        return f"{round_length(found.length):,} tokens"
    if what == "times":
        own, full = (dict(s.curve(phase, "seconds")).get(int(length[0])) for s in (one, dense))
        if own is None or full is None:
            raise NoSuchRowError(f"{attention} or dense was not measured at {length[0]} tokens")
        return f"{say.significant(full / own, 2)} times"
    raise NoSuchRowError(f"by length there is no measure {measure!r}")
