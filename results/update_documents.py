"""Makes every table of README.md and FINDINGS.md anew from the reports beside the records. `make report` calls it.

A table stands between `<!-- table: FOLDER -->` and `<!-- end -->`; FOLDER holds a report.md.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "FINDINGS.md")
BLOCK = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def table_of(report: str) -> str:
    """The first table behind a heading "Comparison" of a report.md, or the first of all."""
    _, _, rest = report.rpartition("\n### Comparison\n")
    found = re.search(r"^((?:\|.*\n)+)", rest or report, re.MULTILINE)
    if found is None:
        raise SystemExit("the report has no table")
    return found.group(1)


def folders(document: str) -> list[str]:
    """The folders whose tables a document shows."""
    return BLOCK.findall(document)


def updated(document: str, root: Path = ROOT) -> str:
    """The document's text with its tables made anew."""

    def block(found: re.Match[str]) -> str:
        report = (root / found.group(1) / "report.md").read_text("utf-8")
        return f"<!-- table: {found.group(1)} -->\n\n{table_of(report)}\n<!-- end -->"

    return BLOCK.sub(block, document)


if __name__ == "__main__":
    for name in DOCUMENTS:
        path = ROOT / name
        if path.exists():
            path.write_text(updated(path.read_text("utf-8")), "utf-8")
