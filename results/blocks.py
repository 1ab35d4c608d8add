"""Tables of the documents: what stands between `<!-- KIND … -->` and `<!-- end -->` is made from records.

<!-- rows: STUDY | COLUMN …      chosen rows of studies under plain names, at most six columns
Plain name: ROW
-->
<!-- table: results/STUDY -->    the study's table of accuracy by task
<!-- peers: NAME … -->           seconds beside the peers, of rows or parts (no name: all parts but those of encoders)
<!-- lengths -->                 from which length on each mechanism is faster than dense
<!-- goals -->                   what each study should reach, and whether it did
<!-- student study -->           the student study, row by row
<!-- data -->                    rows of each study
<!-- machines -->                what the records were made on
<!-- reliability -->             what `make stress` counted
<!-- serving replicas -->       requests a second of one process and of two, and of Ray Serve
<!-- serving -->                requests a second of `longread serve` and of other services
<!-- exports: difference|speed --> exported graphs beside PyTorch, by mechanism and length
<!-- int8 -->                    what an int8 export costs and brings
<!-- predict -->                 `longread predict` beside transformers' pipeline
<!-- predict memory -->          its memory by the number of lines
<!-- estimators -->              what `fit` of LongreadClassifier takes, beside TF-IDF
<!-- scaling: CHECK -->         what `make scale-check` found
<!-- cost: TABLE -->            the cost model: its work, fit, errors and predictions
<!-- threads -->                what waiting threads cost, alone and beside other work
<!-- parity -->               how far models of every family are from transformers'
<!-- faithfulness: STUDY -->      what removing the tokens that `explain` names costs, beside random ones
"""

from __future__ import annotations

import json
import re
import statistics as plain
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import cost
import exported
import faithfulness
import parity
import scaling
import services
import student_study
from benchmarks.parts import ROWS as PEER_ROWS
from benchmarks.table import OTHER, allocator_of, machine_of, read_records
from rows import PEERS, RESULTS, NoSuchRowError, bench, groups, row, studies, verdicts
from values import BUSY_CORES, OLDER

from longread.records import load_runs
from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.crossings import crossing, crossing_text, spread
from longread.report.groups import Line
from longread.report.markdown import markdown_table
from longread.report.measures import AT_LEAST, LOADED, partly_unknown, whole_training
from longread.report.mechanisms import title_of
from longread.report.naming import dense_here, train_part
from longread.report.numbers import NOTHING
from longread.report.tables import accuracy_cells, effective
from longread.report.verdicts import MET, MISSED, NOT_SHOWN, OPEN, Verdict

NAMES = (
    "rows|table|peers|lengths|goals|student study|data|machines|reliability|serving replicas|serving|faithfulness|"
    "exports|int8|predict memory|predict|estimators|scaling|threads|cost|parity"
)
BLOCK = re.compile(rf"(<!-- ({NAMES})\b:?(.*?) ?-->\n).*?<!-- end -->", re.DOTALL)
MOST_COLUMNS = 6
WORDS = (MET, NOT_SHOWN, MISSED, OPEN)
OLDER_NOTE = (
    "Measured when our side's allocator was tuned and the other's was not; to be measured again with the same on both."
)


def filled(document: str) -> str:
    """The document with every table made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{KINDS[found[2]](found[3].strip())}\n\n<!-- end -->", document)


def studies_named(document: str) -> set[str]:
    """The studies whose rows a document's tables show."""
    found = set()
    for block in BLOCK.finditer(document):
        if block[2] == "table":
            found.add(block[3].strip().removeprefix("results/"))
        elif block[2] == "faithfulness":
            found.add(block[3].strip())
        elif block[2] == "rows":
            found.add(block[3].split("|")[0].strip())
            found |= set(re.findall(r": ([\w-]+)/", block[3]))
    return found


def rows_table(text: str) -> str:
    front, *lines = text.splitlines()
    study, _, names = (part.strip() for part in front.partition("|"))
    columns = names.split() or ["accuracy", "interval", "over"]
    if len(columns) >= MOST_COLUMNS:
        raise NoSuchRowError(f"{text!r}: more than {MOST_COLUMNS} columns")
    body = []
    for line in lines:
        label, _, name = line.rpartition(": ")
        found = row(study, name)
        label += " (dense here)" if dense_here(found) else ""
        body.append(Row((Cell(label), *(Cell(COLUMNS[column][1](found)) for column in columns))))
    return markdown_table(Table((Column("", numeric=False), *(COLUMNS[c][0] for c in columns)), tuple(body)))


def quiet_seconds(line: Line, training: bool) -> str:
    """Seconds on an idle machine; nothing where there was never one."""
    found = [whole_training(o) if training else o.run.record.get("eval_seconds") for o in line.quiet]
    values = [v for v in found if v]
    if (line.trained_under_load if training else line.timed_under_load) or not values:
        return say.NOTHING
    before = AT_LEAST if training and any(partly_unknown(o) for o in line.quiet) else ""
    mean = plain.fmean(values)
    return before + say.number(mean, 0 if mean >= 100 else 1)


def memory(line: Line) -> str:
    return say.number(plain.fmean(o.run.record["peak_memory_bytes"] for o in line.outcomes) / say.MEBIBYTE)


def train_rows(line: Line) -> str:
    data = line.outcomes[0].run.record.get("dataset") or {}
    count = sum((data.get(part) or {}).get("rows") or 0 for part in ("train", "selection"))
    part = train_part(line.outcomes[0].run)
    return f"{count:,}" + (f" ({say.share(part)})" if part else "") if count else say.NOTHING


COLUMNS: dict[str, tuple[Column, Callable[[Line], str]]] = {
    "accuracy": (Column("Accuracy", "%"), lambda line: accuracy_cells(line, bold=False)[0].text),
    "interval": (Column("95 % interval", "%"), lambda line: accuracy_cells(line, bold=False)[1].text),
    "over": (Column("Interval over", numeric=False), lambda line: accuracy_cells(line, bold=False)[2].text),
    "rows": (Column("Training rows", "part of train"), train_rows),
    "training": (Column("Training", "s"), lambda line: quiet_seconds(line, training=True)),
    "inference": (Column("Inference", "s"), lambda line: quiet_seconds(line, training=False)),
    "memory": (Column("Peak memory", "MiB"), memory),
    "ran": (Column("What ran", "part of tokens", numeric=False), effective),
}


def by_task(text: str) -> str:
    report = (RESULTS.parent / text / "report.md").read_text("utf-8")
    start = report.find("\n### Accuracy by task\n")
    found = re.search(r"^((?:\|.*\n)+)", report[start:], re.MULTILINE) if start >= 0 else None
    if found is None:
        raise NoSuchRowError(f"{text} has no accuracy by task")
    return found.group(1).rstrip()


def peers(text: str) -> str:
    records = read_records(RESULTS / PEERS)
    wanted = text.split()
    parts = [
        peer.part for peer in PEER_ROWS if peer.part in wanted or (not wanted and not peer.part.startswith("encoders"))
    ]
    names = [name for name in wanted if name not in parts]
    names += [peer.name for peer in PEER_ROWS if peer.part in parts and peer.name in records]
    texts = (Column("Work", numeric=False), Column("Beside", numeric=False))
    seconds_of = (Column("longread", "s"), Column("The other", "s"))
    columns = (*texts, *seconds_of, Column("Times as fast"), Column("least – most"), Column("Outputs differ by"))
    body = []
    for name in names:
        if name not in records:
            raise NoSuchRowError(f"results/{PEERS} has no row {name!r}")
    machines = list(dict.fromkeys(machine_of(records[name]) for name in names))
    for name in names:
        record = records[name]
        what, peer = peer_work(record["row"]["what"]), record["row"]["peer"]
        if record["status"] != "ok":
            body.append(Row((Cell(what), Cell(peer), Cell(record["status"], span=5))))
            continue
        ours, theirs = record["seconds"]["ours"], record["seconds"]["peer"]
        each = [b / a for a, b in zip(ours, theirs, strict=True)]
        busy = max(record["environment"][k] for k in ("load_at_start", "load_at_end")) > BUSY_CORES
        what += (LOADED if busy else "") + ("" if allocator_of(record) else OLDER)
        what += OTHER if machine_of(record) != machines[0] else ""
        seconds = [say.significant(plain.median(side)) for side in (ours, theirs)]
        ratio = [f"{plain.median(each):.1f}", f"{min(each):.1f} – {max(each):.1f}"]
        differ = NOTHING if record["difference"] is None else f"{record['difference']:.0e}"
        cells = [what, "our own dense" if peer == "dense" else peer, *seconds, *ratio, differ]
        body.append(Row(tuple(map(Cell, cells))))
    older = any(not allocator_of(records[name]) for name in names)
    where = f"; {OTHER} ".join(machines)
    note = f" {OLDER} {OLDER_NOTE}" if older else ""
    return f"{markdown_table(Table(columns, tuple(body)))}\n\n{where}.{note}"


def peer_work(what: str) -> str:
    """Earlier records name the student study and the mechanisms in other words."""
    name, comma, rest = what.replace("the older study's", "the student study's").partition(",")
    return title_of(name) + comma + rest


def lengths(_: str) -> str:
    found, dense = bench(), bench().dense
    if dense is None:
        raise NoSuchRowError("results/lengths has no dense")
    longest = max(n for n, _ in dense.curve("forward", "seconds"))
    columns = (Column("Attention", numeric=False), Column("Forward: faster from", "tokens", numeric=False),
               Column("Training: faster from", "tokens", numeric=False), Column(f"Forward at {longest:,}", "× dense"),
               Column(f"Training at {longest:,}", "× dense"))  # fmt: skip
    body = []
    for one in found.series:
        if one is dense:
            continue
        cells = [one.title + (LOADED if one.loaded else "")]
        cells += [crossing_text(crossing(found, one, p), spread(found, one, p)) for p in ("forward", "training")]
        for phase in ("forward", "training"):
            own, full = (dict(s.curve(phase, "seconds")).get(longest) for s in (one, dense))
            cells.append(f"{full / own:.1f}" if own and full else say.NOTHING)
        body.append(Row(tuple(map(Cell, cells))))
    return markdown_table(Table(columns, tuple(body))) + f"\n\n{found.settings[0].upper()}{found.settings[1:]}."


def goals(_: str) -> str:
    """What became of the goals of each task, counted, and then each goal under its task."""
    by_task: dict[str, list[tuple[str, Verdict]]] = {}
    for study in studies():
        for verdict in verdicts(study):
            by_task.setdefault(verdict.goal.task, []).append((study, verdict))
    columns = (Column("Task", numeric=False), Column("Goals"), *(Column(word.capitalize()) for word in WORDS))
    counted = [(task, [v.word for _, v in found]) for task, found in sorted(by_task.items())]
    counted.append(("all", [word for _, words in counted for word in words]))
    rows = [Row(tuple(Cell(str(n)) for n in (task, len(words), *map(words.count, WORDS)))) for task, words in counted]
    parts = [markdown_table(Table(columns, tuple(rows)))]
    for task, found in sorted(by_task.items()):
        parts += [f"## {task}", goals_of(found)]
    return "\n\n".join(parts)


def goals_of(found: list[tuple[str, Verdict]]) -> str:
    """The goals of one task, each with its study."""
    columns = tuple(Column(name, numeric=False) for name in ("Study", "Row", "Asked", "Measured", "Verdict"))
    body = []
    for study, v in found:
        asked, value = v.goal.asked.replace("_", " "), v.goal.value
        if v.goal.metric == "accuracy":
            relative = v.goal.asked in ("within", "above")
            asked += f" {100 * value:g} " + (f"points of {v.goal.other}" if relative else "%")
            show = say.signed_percent if relative else say.percent
            got = f"{show(v.measured.value, 1)}{'' if relative else ' %'}" if v.measured else v.why
        else:
            asked = f"{v.goal.metric.replace('_', ' ')} {asked} {value:g}"
            got = f"{v.measured.value:.3g}" if v.measured else v.why
        body.append(Row(tuple(Cell(short(text)) for text in (study, v.row, asked, got, v.word))))
    return markdown_table(Table(columns, tuple(body)))


def short(text: str) -> str:
    """Of settings in brackets, the folder of an init alone: `from sst2-linformer-16`."""
    return re.sub(r"(from |init )[^ ,)]*?([^/ ,)]+)(?=[ ,)])", r"\1\2", text)


def data(_: str) -> str:
    columns = (Column("Study", numeric=False), Column("Task", numeric=False), Column("Training rows", "part of train"),
               Column("Evaluation rows"), Column("Mechanisms", numeric=False))  # fmt: skip
    body = []
    for study in studies():
        for group in groups(study):
            seen = sorted({train_rows(line) for line in group.done if not line.is_baseline}, key=lambda t: (len(t), t))
            names = sorted({line.attention for line in group.done})
            texts = (study, group.task, "; ".join(seen), f"{group.done[0].evaluated:,}", ", ".join(names))
            body.append(Row(tuple(map(Cell, texts))))
    return markdown_table(Table(columns, tuple(body)))


def machines(_: str) -> str:
    counts: Counter[tuple[str, str, str]] = Counter()
    for study in studies():
        for run in load_runs(RESULTS / study):
            e = run.record.get("environment") or {}
            memory = say.plural(e.get("threads") or 0, "thread")
            counts[str(e.get("processor")), memory, str(e.get("precision"))] += 1
    columns = (Column("Processor", numeric=False), Column("Threads", numeric=False),
               Column("Precision", numeric=False), Column("Runs"))  # fmt: skip
    body = [Row((*map(Cell, key), Cell(str(count)))) for key, count in sorted(counts.items())]
    return markdown_table(Table(columns, tuple(body)))


def reliability(_: str) -> str:
    path = RESULTS / "reliability" / "counts.json"
    if not path.exists():
        raise NoSuchRowError("results/reliability has no counts; run `make stress`")
    columns = (Column("What holds", numeric=False), Column("Cases"), Column("Held"), Column("Minutes"),
               Column("What happened", numeric=False))  # fmt: skip
    body = []
    parts = list(json.loads(path.read_text("utf-8")).values())
    for part in parts:
        happened = ", ".join(f"{count:,} {outcome}" for outcome, count in part["outcomes"].items())
        texts = (part["promise"], f"{part['cases']:,}", f"{part['held']:,}", _minutes(part), happened)
        body.append(Row(tuple(map(Cell, texts))))
    whole = {name: sum(part[name] for part in parts) for name in ("cases", "held", "seconds")}
    body.append(Row(tuple(map(Cell, ("together", f"{whole['cases']:,}", f"{whole['held']:,}", _minutes(whole), "")))))
    return markdown_table(Table(columns, tuple(body)))


def _minutes(part: Mapping[str, Any]) -> str:
    return f"{part['seconds'] / 60:.1f}"


KINDS: dict[str, Callable[[str], str]] = {
    "rows": rows_table,
    "table": by_task,
    "peers": peers,
    "lengths": lengths,
    "goals": goals,
    "student study": lambda _: student_study.table(RESULTS),
    "data": data,
    "machines": machines,
    "reliability": reliability,
    "serving replicas": services.replicas,
    "serving": services.table,
    "faithfulness": faithfulness.table,
    "exports": exported.exports,
    "int8": exported.int8,
    "predict": exported.throughput,
    "predict memory": exported.memory,
    "estimators": exported.estimators,
    "scaling": scaling.table,
    "threads": scaling.threads,
    "cost": cost.table,
    "parity": parity.table,
}
