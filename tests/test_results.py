"""The documents say what the committed records say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from longread.report import build_report

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path.parent for path in (ROOT / "results").glob("*/runs"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_report_and_readme_are_what_the_records_say(study: Path, tmp_path: Path) -> None:
    build_report(study, tmp_path)
    report = (tmp_path / "report.md").read_text("utf-8")
    assert report == (study / "report.md").read_text("utf-8"), "run `make report`"
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "results" / "update_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme == module.updated(readme, str(study.relative_to(ROOT)), report), "run `make report`"
