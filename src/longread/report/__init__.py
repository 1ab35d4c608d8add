"""`longread report`: tables, figures and a page as pure functions of run records. Never needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from longread.errors import UserError
from longread.records import load_runs

if TYPE_CHECKING:
    from longread.records import Run

__all__ = ["build_report", "summary_table"]


def build_report(directory: Path, out: Path | None = None) -> Path:
    """Reads `DIRECTORY/runs`, writes report.md, index.html and figures/ into `out` (default: DIRECTORY).

    Returns the path of index.html. The same records give the same bytes. UserError where there is no record.
    """
    from longread.report.document import make_report
    from longread.report.figures import write_picture
    from longread.report.markdown import markdown
    from longread.report.page import page

    directory = Path(directory)
    out = directory if out is None else Path(out)
    runs = load_runs(directory)
    if not runs:
        raise UserError(f"{directory}: no run records under {directory / 'runs'}; `longread compare` writes some")
    report = make_report(runs)
    out.mkdir(parents=True, exist_ok=True)
    for picture in report.pictures:
        write_picture(picture, out / "figures")
    (out / "report.md").write_text(markdown(report), "utf-8")
    index = out / "index.html"
    index.write_text(page(report), "utf-8")
    return index


def summary_table(runs: Sequence[Run]) -> str:
    """The comparison of every task as aligned plain text, for the end of `longread compare`; no trailing newline."""
    from longread.report.groups import group_runs
    from longread.report.markdown import terminal_table
    from longread.report.pairs import test_all
    from longread.report.tables import comparison

    groups = group_runs(runs)
    parts = []
    for group, pairs in zip(groups, test_all(groups), strict=True):
        table = terminal_table(comparison(group, pairs))
        parts.append(f"{group.title}\n{table}" if len(groups) > 1 else table)
    return "\n\n".join(parts)
