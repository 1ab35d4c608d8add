"""The stress run counts what holds and what does not; the parts themselves run in `make stress`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from stress import records, run  # noqa: E402


def test_every_part_is_found() -> None:
    assert {"records"} <= run.find_parts().keys()


def test_concurrent_records_are_found_and_a_lost_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [case.outcome for case in records.concurrent_records(16, tmp_path / "all")] == ["found"] * 16
    monkeypatch.setattr(records, "write", lambda out, writer, count: None)
    assert [case.held for case in records.concurrent_records(16, tmp_path / "none")] == [False] * 16
