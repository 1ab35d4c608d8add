"""What masked-language modelling came to: a row for each run, and the runs that go on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longread.report import numbers as say
from longread.report.cells import Cell, Column, Row, Table
from longread.report.grouping import is_loaded
from longread.report.groups import setting_text
from longread.report.lineage import ancestors
from longread.report.mechanisms import title_of
from longread.report.tables import STATUS

if TYPE_CHECKING:
    from longread.records import Run

COLUMNS = (
    Column("Attention", numeric=False), Column("Texts of", numeric=False), Column("Begun", numeric=False),
    Column("Texts"), Column("Updates"), Column("Masked loss", "before → after"), Column("Perplexity"),
    Column("Guessed right", "%"), Column("Training", "s"), Column("Gone on from it", "runs", terminal=False),
    Column("Run", numeric=False, terminal=False),
)  # fmt: skip
NOTE = (
    "Loss, perplexity and tokens guessed right are of the masked tokens of texts held out of training; the masks are "
    "the same before and after."
)


def pretraining_table(runs: Sequence[Run]) -> Table | None:
    """None where no run is one."""
    own = [run for run in runs if run.record.get("kind") == "pretrain"]
    return Table(COLUMNS, tuple(_row(run, runs) for run in own), (NOTE,)) if own else None


def _row(run: Run, runs: Sequence[Run]) -> Row:
    record = run.record
    done, metrics = record.get("pretraining") or {}, record.get("metrics") or {}
    rows, steps, seconds = (say.finite(v) for v in (done.get("rows"), done.get("steps"), record.get("train_seconds")))
    name = f"run {record.get('run_id')}"
    after = sum(name in ancestors(other.record) for other in runs)
    status, layers = record.get("status"), (record.get("encoder") or {}).get("num_hidden_layers")
    title = title_of(str(record.get("attention"))) + (f", {say.plural(layers, 'layer')}" if layers else "")
    mark = "†" if is_loaded(run) else ""
    cells = (
        Cell(title if status == "ok" else f"{title}, {STATUS.get(str(status), 'failed')}"),
        Cell(str(record.get("task"))),
        Cell(setting_text("init", record.get("init"))),
        _number(rows, "{:,.0f}"),
        _number(steps, "{:,.0f}"),
        _change(metrics, "loss", "{:.3f}"),
        _change(metrics, "perplexity", "{:,.1f}"),
        _change(metrics, "accuracy", "{:.1f}", 100),
        Cell("", None) if seconds is None else Cell(f"{say.significant(seconds)}{mark}", seconds),
        Cell(str(after), after),
        Cell(str(record.get("run_id"))),
    )
    return Row(cells, "" if status == "ok" else "failed")


def _number(value: float | None, form: str) -> Cell:
    return Cell("" if value is None else form.format(value), value)


def _change(metrics: Mapping[str, Any], name: str, form: str, times: float = 1) -> Cell:
    before, after = (say.finite(metrics.get(f"masked_{name}{when}")) for when in ("_before", ""))
    if before is None or after is None:
        return Cell("")
    return Cell(f"{form.format(before * times)} → {form.format(after * times)}", after)
