"""Makes every table of README.md and FINDINGS.md anew from the reports beside the records. `make report` calls it.

A table stands between `<!-- table: FOLDER -->` and `<!-- end -->`; FOLDER holds a report.md. The one between
`<!-- the older study -->` and `<!-- end -->` is made by older_study.py from several of them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "results")]

import older_study  # noqa: E402

DOCUMENTS = ("README.md", "FINDINGS.md")
BLOCK = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)
OLDER = re.compile(r"(<!-- the older study -->\n).*?<!-- end -->", re.DOTALL)


def table_of(report: str) -> str:
    """Of a report.md: all tasks side by side where there are several, else its comparison, else the first table."""
    headings = [f"\n### {heading}\n" for heading in ("Accuracy by task", "Comparison")]
    start = next((report.index(heading) for heading in headings if heading in report), 0)
    found = re.search(r"^((?:\|.*\n)+)", report[start:], re.MULTILINE)
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

    document = BLOCK.sub(block, document)
    return OLDER.sub(lambda found: f"{found.group(1)}\n{older_study.table(root / 'results')}\n\n<!-- end -->", document)


if __name__ == "__main__":
    for name in DOCUMENTS:
        path = ROOT / name
        if path.exists():
            path.write_text(updated(path.read_text("utf-8")), "utf-8")
