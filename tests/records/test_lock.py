"""Locks that end with their process, and temporary files of processes that were killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from longread.records import locked, write_atomically

HOLD = """
import sys, time
from pathlib import Path
from longread.records import locked
from longread.records.files import temporary_file
folder = Path(sys.argv[1])
with locked(folder):
    temporary_file(folder / "half")
    print("there", flush=True)
    time.sleep(60)
"""


def test_locks_and_temporary_files_last_as_long_as_their_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"there\n"
        write_atomically(folder / "half", "whole")
        assert len(list(folder.glob(".half.*"))) == 1  # somebody is writing it
        threading.Timer(0.2, other.kill).start()
        with locked(folder) as waited:
            assert waited and other.wait(10) is not None  # its lock goes a moment before it can be waited for
    assert f"process {other.pid} has this run; waiting" in caplog.text
    write_atomically(folder / "half", "whole again")
    assert [path.name for path in folder.iterdir()] == ["half"]


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "run") as waited:
            assert not waited
    assert not (tmp_path / "run").exists()
