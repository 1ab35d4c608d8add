"""The tour runs from its first cell to its last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tour_runs(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "notebooks" / "tour.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6
    # Fewer rows than a reader's; all else as it stands there.
    script = "\n".join(cells).replace('"train_rows": 5000, "eval_rows": 500', '"train_rows": 120, "eval_rows": 40')
    assert '"train_rows": 120' in script
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "Performer" in done.stdout
    assert len(list((tmp_path / "out" / "tour" / "runs").glob("*/run.json"))) == 3
    assert done.stdout.rstrip().splitlines()[-1].startswith(("positive", "negative"))
