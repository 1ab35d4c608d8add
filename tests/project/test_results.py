"""The documents say what the committed records say."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from longread.records import load_runs
from longread.report import build_report
from longread.training.resolve import resolve

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

import update_documents  # noqa: E402
from benchmarks.table import markdown  # noqa: E402

PEERS = ROOT / "results" / "benchmarks"
STUDIES = sorted(path.parent for path in (ROOT / "results").glob("*/runs") if path.parent != PEERS)


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_studys_report_and_figures_are_what_its_records_say(study: Path, tmp_path: Path) -> None:
    build_report(study, tmp_path)
    kept = [path for path in tmp_path.rglob("*") if path.suffix in (".md", ".svg")]  # the page is made, not kept
    made = {path.relative_to(tmp_path): path.read_bytes() for path in kept}
    for name, content in made.items():
        assert content == (study / name).read_bytes(), f"{study.name}/{name}: run `make report`"
    figures = {path.relative_to(study) for path in (study / "figures").glob("*.svg")}
    assert figures <= set(made), "a figure without records"


def test_the_table_beside_the_peers_is_what_its_records_say() -> None:
    if not (PEERS / "report.md").exists():
        pytest.skip("no benchmark was recorded")
    assert (PEERS / "report.md").read_text("utf-8") == markdown(PEERS), "run `make report`"


@pytest.mark.parametrize("name", update_documents.DOCUMENTS)
def test_documents_show_the_tables_of_the_reports(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert text == update_documents.updated(text), "run `make report`"


def test_every_study_is_shown_somewhere() -> None:
    shown = {
        f for name in update_documents.DOCUMENTS for f in update_documents.folders((ROOT / name).read_text("utf-8"))
    }
    assert {str(study.relative_to(ROOT)) for study in STUDIES} <= shown


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_every_record_is_a_run_that_its_study_asks_for(study: Path) -> None:
    name = study.name.replace("-", "_")
    if not (ROOT / "experiments" / f"{name}.py").exists():
        pytest.skip("no file in experiments/: made by a command")
    configs = importlib.import_module(f"experiments.{name}").configs()
    asked = [without_machine(resolve(config).named()) for config in configs]
    for run in load_runs(study):
        if run.record["kind"] == "train":
            assert without_machine(run.record["config"]) in asked, f"{run.directory}: the study has no such run"


def without_machine(config: dict[str, Any]) -> dict[str, Any]:
    """What the machine settles when a run starts is left out."""
    return {k: v for k, v in config.items() if k not in ("tokens_per_micro_batch", "precision", "threads", "device")}
