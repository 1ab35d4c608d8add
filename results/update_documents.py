"""Makes every report, table, number and figure of results/, README.md and docs/ anew from the run records.

    make report                                    everything
    python results/update_documents.py documents   the tables and numbers of the documents alone (seconds)

A study's folder keeps its records and report.md, the tables; its page with all figures is made in out/results/STUDY/.
blocks.py says what a table in a document looks like, values.py a number. A figure is a link to
docs/figures/STUDY/NAME.svg; figures that no document links are not kept. docs/make_figures.py draws the others.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

import blocks  # noqa: E402
import values  # noqa: E402
from benchmarks.table import write_report  # noqa: E402
from rows import PEERS, NoSuchRowError, studies  # noqa: E402

from longread.report import build_report  # noqa: E402

RESULTS = ROOT / "results"
FIGURES = ROOT / "docs" / "figures"
FIGURE = re.compile(r"\((?:[\w./]*/)?figures/([\w-]+)/([\w-]+\.svg)\)")


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def updated(document: str) -> str:
    """The document's text with its tables and numbers made anew."""
    return values.filled(blocks.filled(document))


def figures() -> set[tuple[str, str]]:
    """Study and name of every figure of a study's report that a document shows."""
    return {found for path in documents() for found in FIGURE.findall(path.read_text("utf-8"))}


def update_documents() -> None:
    for path in documents():
        before = path.read_text("utf-8")
        try:
            after = updated(before)
        except NoSuchRowError as error:
            raise SystemExit(f"{path.relative_to(ROOT)}: {error}") from None
        if after != before:
            path.write_text(after, "utf-8")
            print(path.relative_to(ROOT))


def update_reports() -> None:
    pages = ROOT / "out" / "results"
    for study in studies():
        build_report(RESULTS / study, figures=False)
        shutil.rmtree(pages / study, ignore_errors=True)
        print(build_report(RESULTS / study, pages / study).relative_to(ROOT))
    write_report(RESULTS / PEERS)
    shown = figures()
    for folder in FIGURES.glob("*/"):
        shutil.rmtree(folder)
    for study, name in sorted(shown):
        drawn = pages / study / "figures" / name
        if not drawn.exists():
            raise SystemExit(f"docs/figures/{study}/{name}: the report of this study has no such figure")
        (FIGURES / study).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(drawn, FIGURES / study / name)


def main() -> None:
    if sys.argv[1:] != ["documents"]:
        update_reports()
    update_documents()


if __name__ == "__main__":
    main()
