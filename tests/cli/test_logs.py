"""What is said on stderr, and in what form."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from longread.cli import logs
from longread.cli import main as cli
from longread.records import load_runs
from longread.report import cells, summary_tables
from longread.training.signals import StopRequest

log = logging.getLogger("longread")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logs.set_up(logs.LogSettings())


def test_quiet_has_warnings_only_and_verbose_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logs.LogSettings(quiet=True))
    log.info("a note")
    log.warning("a warning [bold] :smile:")
    assert capsys.readouterr().err == "a warning [bold] :smile:\n"
    assert cli.main(["evaluate", "nowhere", "--quiet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["--verbose", "evaluate", "nowhere"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert cli.main(["tasks", "--quiet", "--verbose"]) == 2


def test_lines_of_json_and_a_file_that_is_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log.jsonl"
    for _ in range(2):
        assert cli.main(["evaluate", "nowhere", "--log-json", "--log-file", str(file)]) == 2
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [line["level"] for line in lines] == ["error", "error"]
    assert json.loads(capsys.readouterr().err.splitlines()[0]) == lines[0]
    assert "nowhere" in lines[0]["message"] and lines[0]["time"].endswith("+00:00")
    assert cli.main(["tasks", "--log-file", str(tmp_path)]) == 2
    assert "--log-file" in capsys.readouterr().err


def test_off_a_terminal_silence_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(logs, "SECONDS_OF_SILENCE", 0.05)
    for settings, said in ((logs.LogSettings(), True), (logs.LogSettings(quiet=True), False)):
        logs.set_up(settings)
        with logs.never_silent("train"):
            logs.status("step 3 of 9")
            time.sleep(0.3)
        assert ("train: step 3 of 9, since" in capsys.readouterr().err) == said


def test_a_table_without_units_has_no_line_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logs.LogSettings())
    for unit, lines in (("", 3), ("%", 4)):
        logs.table(cells.Table((cells.Column("Error", unit),), (cells.Row((cells.Cell("0.5"),)),)), apart=False)
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == lines and all(shown)


def test_a_command_that_is_stopped_while_torch_is_imported_says_nothing_of_torch() -> None:
    """torch sets the level of its own log when its import ends, and writes to it at exit."""
    command = (
        "import logging; from longread.cli import logs; logs.set_up(logs.LogSettings()); "
        "logging.getLogger('torch._subclasses.fake_tensor').info('FakeTensor cache stats:')"
    )
    assert not subprocess.run([sys.executable, "-c", command], capture_output=True, check=True).stderr


def test_the_first_ctrl_c_is_acknowledged_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logs.LogSettings())
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked and "Ctrl-C again" in capsys.readouterr().err


def test_a_command_with_log_json_writes_json_alone_and_its_texts_to_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"{word} film {n}", "label": word} for n in range(20) for word in ("good", "bad")]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)

    def stderr(*command: str) -> list[dict[str, Any]]:
        assert cli.main([*command, "--log-json", "--log-file", "log.jsonl"]) == 0
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    found = stderr("train", "t.jsonl", "--attention", "majority", "--out", "out")
    run = next(line["run"] for line in found if "run" in line)
    assert found[-1]["level"] == "result" and Path(run).is_dir()
    assert next(line["metrics"]["accuracy"] for line in found if "metrics" in line) == 0.5
    found = stderr("evaluate", run, "--mistakes", "1", "--out", "again")
    tables = {line["message"]: line["table"] for line in found if "table" in line}
    assert [row["Class"] for row in tables["class by class"]] == ["bad", "good"]
    assert any("film" in line["message"] for line in found), "the text of the mistake"
    assert "film" not in Path("log.jsonl").read_text()
    found = stderr("predict", run, "a film", "--out", "answers.csv")
    assert found[-1]["predictions"] == "answers.csv"
    shown = summary_tables(load_runs(Path("out")))
    logs.set_up(logs.LogSettings(log_json=True))
    logs.tables(shown)
    logs.drawn(Table("run", "about", title="plan"), "plan")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [len(line["table"]) for line in lines] == [1, 0]


def test_what_nobody_expected_is_json_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*given: object, **more: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "program", breaks)
    logs.set_up(logs.LogSettings())
    with pytest.raises(ZeroDivisionError):
        cli.main(["tasks"])
    monkeypatch.setattr(cli.logs, "now", lambda: logs.LogSettings(log_json=True))
    assert cli.main(["tasks"]) == 1
