"""The notebooks run from their first cell to their last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, smaller: tuple[str, str], place: Path) -> str:
    """What a notebook prints, with fewer rows than a reader's; all else as it stands there."""
    notebook = json.loads((ROOT / "notebooks" / name).read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    script = "\n".join(cells)
    assert smaller[0] in script
    script = script.replace(*smaller)
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=place, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tour_runs(tmp_path: Path) -> None:
    smaller = ('"train_rows": 5000, "eval_rows": 500', '"train_rows": 120, "eval_rows": 40')
    printed = run("tour.ipynb", smaller, tmp_path)
    assert "Performer" in printed
    assert len(list((tmp_path / "out" / "tour" / "runs").glob("*/run.json"))) == 3
    assert printed.rstrip().splitlines()[-1].startswith(("positive", "negative"))


@pytest.mark.slow
def test_letters_are_classified_explained_and_exported(tmp_path: Path) -> None:
    printed = run("complaints.ipynb", ("LETTERS, SENTENCES = 1200, 20", "LETTERS, SENTENCES = 60, 5"), tmp_path)
    assert (tmp_path / "out" / "complaints" / "letters.onnx").exists()
    assert printed.rstrip().splitlines()[-1] in ("delivery", "billing", "quality")
