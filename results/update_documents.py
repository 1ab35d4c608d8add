"""Makes every report, table and figure of results/, README.md and FINDINGS.md anew from the run records. `make report`.

A study's folder keeps its records and report.md, the tables; its page with all figures is made in out/results/STUDY/.
In a document, a table stands between `<!-- table: FOLDER -->` and `<!-- end -->`; FOLDER holds a report.md. The one
between `<!-- the student study -->` and `<!-- end -->` is made by student_study.py from several of them. A figure is a
link to results/figures/STUDY/NAME.svg; figures that no document links are not kept.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

import student_study  # noqa: E402
from benchmarks.table import write_report  # noqa: E402

from longread.records.store import RECORDS  # noqa: E402
from longread.report import build_report  # noqa: E402

DOCUMENTS = ("README.md", "FINDINGS.md")
RESULTS = ROOT / "results"
PEERS = RESULTS / "benchmarks"  # another kind of record: benchmarks/table.py makes its table
BLOCK = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)
STUDENT_STUDY = re.compile(r"(<!-- the student study -->\n).*?<!-- end -->", re.DOTALL)
FIGURE = re.compile(r"\(results/figures/([^/)]+)/([^/)]+\.svg)\)")


def studies() -> list[Path]:
    return sorted(path.parent for path in RESULTS.glob(f"*/{RECORDS}") if path.parent != PEERS)


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
    compared = student_study.table(root / "results")
    return STUDENT_STUDY.sub(lambda found: f"{found.group(1)}\n{compared}\n\n<!-- end -->", document)


def figures() -> set[tuple[str, str]]:
    """Study and name of every figure that a document shows."""
    return {found for name in DOCUMENTS for found in FIGURE.findall((ROOT / name).read_text("utf-8"))}


def main() -> None:
    pages = ROOT / "out" / "results"
    for study in studies():
        build_report(study, figures=False)
        shutil.rmtree(pages / study.name, ignore_errors=True)
        print(build_report(study, pages / study.name).relative_to(ROOT))
    write_report(PEERS)
    shutil.rmtree(RESULTS / "figures", ignore_errors=True)
    for study, name in sorted(figures()):
        drawn = pages / study / "figures" / name
        if not drawn.exists():
            raise SystemExit(f"results/figures/{study}/{name}: the report of this study has no such figure")
        (RESULTS / "figures" / study).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(drawn, RESULTS / "figures" / study / name)
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(updated(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
