"""Where the output goes may be full, closed or gone: one line or none, and an exit status that says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import save_with_tokenizer
from longread.cli import main as cli
from report_records import record, write_run

FULL = Path("/dev/full")
COMMANDS = ("tasks", "tasks --json", "runs --out {out}", "runs --out {out} --json", "predict {model} film",
            "predict {model} --file {texts}", "explain {model} film", "--version", "train --help")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stdout")
    write_run(folder / "out", record("reviews", "dense", 0, 40), 0.9)
    (folder / "texts.txt").write_text("a long film\n" * 5000)
    return {
        "out": folder / "out",
        "texts": folder / "texts.txt",
        "model": save_with_tokenizer(folder, "dense", {}, max_length=16),
    }


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_behind_stdout_is_one_line(
    command: str, place: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(command.format(**place).split()) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("longread: ")]
    assert len(said) == 1 and said[0].endswith("No space left on device")


@pytest.mark.parametrize("command", COMMANDS[:-2])
def test_a_reader_that_leaves_is_no_error(
    command: str, place: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(command.format(**place).split()) == 0
    assert "longread: " not in capsys.readouterr().err


def test_without_stdout_a_program_does_its_work() -> None:
    """What is opened next would otherwise be taken for it."""
    code = (
        "import os, sys; os.close(1); sys.stdout = None; from longread.cli.main import main; "
        "sys.exit(main(['tasks']) or os.fstat(1).st_rdev != os.stat(os.devnull).st_rdev)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


TRAIN, REPORT = "train {table} --attention tfidf --out", "report {out} --out"
MEASURE = "benchmark --attention dense --lengths 8 --seconds 0 --out"


@pytest.mark.parametrize(
    ("command", "out", "said"),
    [
        (TRAIN, "file", "file is a file, where a folder is needed"),
        (TRAIN, "file/in", "file is a file, where a folder is needed"),
        (TRAIN, "link", "link: is a link to"),
        (REPORT, "file", "file: is a file, where a folder is needed"),
        (REPORT, "link", "link: is a link to"),
        (MEASURE, "file", "file is a file, where a folder is needed"),
    ],
)
def test_an_out_that_is_no_folder_is_named(
    command: str, out: str, said: str, place: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("text,label\n" + "good,a\nbad,b\n" * 20)
    file, dangling = tmp_path / "file", tmp_path / "link"
    file.write_text("mine")
    dangling.symlink_to(tmp_path / "gone" / "deep")
    assert cli.main([*command.format(**place | {"table": table}).split(), str(tmp_path / out)]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("longread: ")]
    assert said in line
    assert file.read_text() == "mine" and dangling.is_symlink() and not dangling.exists()
