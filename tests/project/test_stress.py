"""The stress run counts what holds and what does not; the parts themselves run in `make stress`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from stress import forked, kills, records, run  # noqa: E402


def test_every_part_is_found() -> None:
    assert {"records", "kills", "disk"} <= run.find_parts().keys()


def test_a_program_is_killed_at_the_moment_asked_for_and_what_differs_is_seen(tmp_path: Path) -> None:
    table, out = tmp_path / "data.csv", tmp_path / "out"
    table.write_text("text,label\n" + "good,a\nbad,b\n" * 20)
    order = ["train", str(table), "--attention", "majority", "--out", str(out)]
    assert forked.Program(order, out, forked.Kill("start")).run()[0] == -9
    assert forked.Program(order, out, forked.Kill("change", 3, None)).run()[0] == -9
    assert forked.Program(order, out).run()[0] == 0
    whole = kills.left_by(out)
    (record,) = [name for name in whole if name.endswith("/run.json")]
    content = json.loads((out / record).read_text())
    for changes, same in (({"train_seconds": 5.0}, True), ({"metrics": {"accuracy": 0.25}}, False)):
        (out / record).write_text(json.dumps(content | changes))
        assert (kills.left_by(out) == whole) is same


def test_concurrent_records_are_found_and_a_lost_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [case.outcome for case in records.concurrent_records(16, tmp_path / "all")] == ["found"] * 16
    monkeypatch.setattr(records, "write", lambda out, writer, count: None)
    assert [case.held for case in records.concurrent_records(16, tmp_path / "none")] == [False] * 16
