"""The documents say what the committed records say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from longread.records import load_runs, read_runs
from longread.report import build_report
from longread.report.document import make_report

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

import blocks  # noqa: E402
import rows  # noqa: E402
import update_documents  # noqa: E402
import values  # noqa: E402
from benchmarks.table import markdown  # noqa: E402

PEERS = rows.RESULTS / rows.PEERS
STUDIES = [rows.RESULTS / study for study in rows.studies()]
DOCUMENTS = update_documents.documents()


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_studys_tables_are_what_its_records_say(study: Path, tmp_path: Path) -> None:
    assert read_runs(study)[1] == [], "damaged"
    made = build_report(study, tmp_path, figures=False)
    assert made.read_bytes() == (study / "report.md").read_bytes(), f"{study.name}: run `make report`"


def test_the_table_beside_the_peers_is_what_its_records_say() -> None:
    assert (PEERS / "report.md").read_text("utf-8") == markdown(PEERS), "run `make report`"


def test_figures_are_those_that_the_documents_show_and_come_from_records() -> None:
    kept = {(path.parent.name, path.name) for path in update_documents.FIGURES.glob("*/*")}
    assert kept == update_documents.figures(), "run `make report`"
    for study in {study for study, _ in kept}:
        drawn = {f"{picture.name}.svg" for picture in make_report(load_runs(ROOT / "results" / study)).pictures}
        assert {name for of, name in kept if of == study} <= drawn


def test_records_stay_small() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git: what is kept cannot be told from what was made")
    listed = subprocess.run(["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True, check=True)
    files = [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).exists()]
    assert len(files) <= 140
    assert sum(path.stat().st_size for path in files) <= 6_000_000


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_show_what_the_records_say(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text == update_documents.updated(text), "run `python results/update_documents.py documents`"


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ("nowhere: dense: accuracy", "results/nowhere has no records"),
        ("sst2: denes: accuracy", "0 rows of results/sst2 fit 'denes'"),
        ("qnli-from-dense: linformer: accuracy", "2 rows of"),
        ("sst2: dense: beauty", "no measure 'beauty'"),
        ("sst2: dense: inference", "busy machine"),
        ("sst2: dense - imdb-scratch/dense: points", "no evaluation rows in common"),
    ],
)
def test_a_number_without_a_record_is_refused(question: str, problem: str) -> None:
    with pytest.raises(rows.NoSuchRowError, match=problem):
        values.value(question)


def test_every_study_is_shown_somewhere() -> None:
    shown = set()
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        shown |= blocks.studies_named(text) | values.studies_named(text) | set(re.findall(r"results/([\w-]+)/", text))
    assert {study.name for study in STUDIES} <= shown
