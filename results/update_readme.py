"""Writes the comparison table of a study's report into README.md, between its markers. `make report` calls it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def table_of(report: str) -> str:
    """The first table behind the heading "Comparison" of a report.md."""
    found = re.search(r"^### Comparison\n\n((?:\|.*\n)+)", report, re.MULTILINE)
    if found is None:
        raise SystemExit("the report has no comparison table")
    return found.group(1)


def updated(readme: str, study: str, report: str) -> str:
    """README's text with the table between `<!-- table: STUDY -->` and `<!-- end -->` made anew."""
    begin, end = f"<!-- table: {study} -->\n", "<!-- end -->"
    head, _, rest = readme.partition(begin)
    _, mark, tail = rest.partition(end)
    if not mark:
        raise SystemExit(f"README.md has no {begin.strip()} … {end}")
    return f"{head}{begin}\n{table_of(report)}\n{mark}{tail}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    report = (ROOT / sys.argv[1] / "report.md").read_text("utf-8")
    path.write_text(updated(path.read_text("utf-8"), sys.argv[1], report), "utf-8")
