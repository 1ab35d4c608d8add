"""What is said on stderr, and in what form."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longread.cli import logs
from longread.cli import main as cli
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


def test_the_first_ctrl_c_is_acknowledged_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logs.LogSettings())
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked and "Ctrl-C again" in capsys.readouterr().err
