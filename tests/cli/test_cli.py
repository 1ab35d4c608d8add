"""The commands as a person meets them."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shlex
import signal
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from checkpoints import save_with_tokenizer
from longread import records
from longread.cli import logs
from longread.cli import main as cli
from longread.config import BASELINES

TINY = ["--train-rows", "32", "--eval-rows", "16", "--epochs", "1", "--hidden-size", "16", "--num-attention-heads", "2",
        "--num-hidden-layers", "1", "--vocab-size", "300", "--max-length", "96", "--threads", "1"]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_line_for_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine a command would say where it is; here its own lines are counted."""
    monkeypatch.setattr(logs, "SECONDS_OF_SILENCE", 600.0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("tain", 'Unknown command "tain". Did you mean "train"?'),
        ("train --task imbd", "unknown task 'imbd': did you mean imdb?"),
        ("train --attention longfomer", "--attention 'longfomer': there is no such mechanism; there are dense"),
        ("train --attention 'dense lokal'", "--attention 'lokal': there is no such mechanism"),
        ("train --attention 'dense tfidf'", "tfidf is a model of its own, no part of a pattern"),
        (
            "compare --attention dense 'dense local local'",
            "a model of num_hidden_layers 1 has no room for it; add --num-hidden-layers 3",
        ),
        ("benchmark --attention 'dense local'", "is a pattern of 2 layers; a model of num_hidden_layers 1 has"),
        ("train --attention 'dense local' --num-hidden-layers 2 --block-size 8", "it is for bigbird"),
        ("train --task nowhere.csv", "nowhere.csv"),
        (
            "train --task bad.csv",
            "name it with --label-columns; the columns there are: words, stars (is the first line a header?)",
        ),
        ("train --task empty.csv", "empty.csv"),
        ("train empty.csv", "empty.csv: is empty"),
        ("train bad.csv --text-columns words stars --label-columns none", "there is no column 'none'"),
        (f"train --task {'x' * 300}", "unknown task"),
        (f"train --task {'x' * 300}.csv", "File name too long"),
        ("train --task caf\udce9.csv", "this name is not UTF-8; rename the file"),
        ("train --task half.jsonl", "half.jsonl, line 1: column 'text' holds half a character at position 5"),
        ("train --task one.csv", "one value only"),
        ("train --task numbers.csv", "holds a number where text is expected"),
        ("train --task imdb", "HF_HUB_OFFLINE"),
        ("train --dropout 1.5", "dropout is 1.5; it must be at least 0 and below 1"),
        ("train --epochs 0", "epochs is 0; it must be 1 or more"),
        ("train --epochs many", 'unable to convert "many" into int'),
        ("train --attention longformer --attention-window 7", "attention_window is 7; it must be an even number, 2"),
        ("train --hidden-size 10 --num-attention-heads 4", "hidden_size 10 is no multiple of num_attention_heads 4"),
        ("train --max-length 2", "--max-length 2"),
        ("train --attention dense --attention-window 8", "attention_window: dense attention has no such setting"),
        (
            "train --init here --attention dense --local-window 8",
            "it is for local; a checkpoint's local layers keep theirs unless named, as in 'dense local local'",
        ),
        ("train --attention tfidf --epochs 3", "--epochs: tfidf has no such setting"),
        ("train --attention performer --attention-dropout .1", "Performer has no attention probabilities to drop"),
        ("train --init somewhere --hidden-size 32", "--hidden-size: only from scratch; --init brings its own"),
        ("compare --attention dense performer --block-size 8", "has no such setting; it is for bigbird"),
        ("compare --init somewhere --num-hidden-layers 1 2", "--num-hidden-layers: only from scratch"),
        ("train a.csv b.csv", "too many arguments: b.csv; --help says what the command takes"),
        ("compare bad.csv", "too many arguments: bad.csv; give --task bad.csv"),
        ("train bad.csv --attention dense local", 'one value, in quotes: --attention "dense local"'),
        ("train 'none*.csv'", "none*.csv: no file matches this pattern; check it"),
        ("train one.csv --out bad.csv", "--out bad.csv: bad.csv is a file, where a folder is needed"),
        ("compare --out bad.csv/x", "--out bad.csv/x: bad.csv is a file, where a folder is needed"),
        ("evaluate nowhere --task one.csv --out bad.csv", "--out bad.csv: bad.csv is a file"),
        ("benchmark --out bad.csv", "--out bad.csv: bad.csv is a file"),
        ("train one.csv --data-dir .", "--data-dir .: only for imdb"),
        ("compare --task one.csv --data-dir .", "--data-dir .: only for imdb"),
        ("evaluate nowhere --task imbd", "unknown task 'imbd'"),
        ("predict nowhere --file nope.csv", "nope.csv: there is no such file"),
        ("predict nowhere --file 'no*.csv'", "no*.csv: is a pattern, and one file is read at a time"),
        ("tune --search learning_rate=high", "give LOW..HIGH or VALUE,VALUE"),
        ("evaluate somewhere --epochs 3", "Unknown option: --epochs"),
        ("predict somewhere text --epochs 3", "Unknown option: --epochs"),
        ("compare --seed", "--seed requires at least 1"),
        ("compare --attention dense nope", "'nope': there is no such mechanism"),
        ("compare --init nowhere --no-baselines", "nowhere: no such directory"),
        ("compare --task reviews imbd", "unknown task 'imbd'"),
        ("evaluate nowhere", "nowhere"),
        ("predict nowhere text", "nowhere"),
        ("report nowhere", "nowhere"),
        ("convert nowhere --attention performer --out made", "nowhere: no such directory"),
        ("convert package:no_such_package/model --attention performer --out made", "no package 'no_such_package'"),
        ("convert package:numpy/model --attention performer --out made", "the package has no model/config.json"),
        ("convert nowhere --attention performer --out bad.csv", "--out bad.csv: exists already; give a new folder"),
        ("benchmark --lengths 0", "--lengths: give one or more, each at least 1"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    arguments: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LONGREAD_DATA_DIR", raising=False)
    Path("bad.csv").write_text("words,stars\nfine,1\n")
    Path("empty.csv").write_text("")
    Path("half.jsonl").write_text('{"text": "one \\ud83d", "label": 1}\n{"text": "two", "label": 0}\n')
    Path("one.csv").write_text("text,label\n" + "fine film,good\n" * 20)
    Path("numbers.csv").write_text("text,label\n1,good\n2,bad\n3,good\n4,bad\n")
    assert cli.main(shlex.split(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert not Path("out/runs").exists()


def test_a_message_is_short_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--task", "\x1b[2J" + "x" * 5000]) == 2
    told = capsys.readouterr().err
    assert "\x1b" not in told and len(told) < 1100 and told.endswith("…\n")


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_what_the_system_refuses_is_one_line(
    number: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "out/runs")

    monkeypatch.setattr(cli, "app", refused)
    assert cli.main(["tasks"]) == status
    assert capsys.readouterr().err == f"longread: out/runs: {os.strerror(number)}\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        ImportError("_fblas.so: failed to map segment from shared object"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("a bug"),
    ],
    ids=str,
)
def test_too_little_memory_is_one_line_and_a_bug_is_not(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", refused)
    if str(error) == "a bug":
        with pytest.raises(RuntimeError, match="a bug"):
            cli.main(["tasks"])
        return
    assert cli.main(["tasks"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"longread: too little memory ({error}); ") and told.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_behind_the_training_is_told_and_lost_is_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def signalled(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    command = ["train", *TINY, "--save-seconds", "0", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr("longread.training.run.save_pretrained", signalled)
        assert cli.main(command) == 130
    assert "interrupted; the same command (train: with --resume) goes on from here" in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("WORLD_SIZE=two", "WORLD_SIZE=two: is no number of processes"),
        ("WORLD_SIZE=0", "WORLD_SIZE=0: is no number of processes"),
        ("WORLD_SIZE=2", "RANK=: of 2 processes each has a number from 0 to 1"),
        ("WORLD_SIZE=2 RANK=2", "RANK=2: of 2 processes"),
        ("WORLD_SIZE=2 RANK=1", "WORLD_SIZE=2 without MASTER_ADDR, where the processes meet"),
        ("WORLD_SIZE=2 RANK=0 MASTER_ADDR=localhost", "without MASTER_PORT"),
    ],
)
def test_processes_that_would_wait_for_ever_are_told(
    given: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (one.split("=") for one in given.split()):
        monkeypatch.setenv(name, value)
    assert cli.main(["train", "reviews"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and "start the processes with torchrun, or unset WORLD_SIZE and RANK" in line


@pytest.mark.parametrize("command", ["compare", "explain", "benchmark", "serve"])
def test_torchrun_starts_no_command_that_would_do_the_work_twice(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert cli.main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{command} does not run under torchrun; only train, convert, pretrain, evaluate, predict do" in line
    told = ChildFailedError("longread", {0: ProcessFailure(0, 1, 2, str(tmp_path / "error.json"))})
    assert str(told).splitlines()[-2] == f"  traceback : {line}", "torchrun's last lines have it too"


def test_train_evaluate_predict_and_report_on_a_file_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {"bug": "it crashes at once", "wish": "please add this", "praise": "works so well"}
    lines = [f"{text} number {i},{kind}" for i in range(30) for kind, text in kinds.items()]
    Path("mail.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    assert (
        cli.main(["train", "--task", "mail.csv", "--attention", "linformer", *TINY[4:], "--learning-rate", "3e-3"]) == 0
    )
    (run,) = records.load_runs(Path("out"))
    assert run.record["dataset"]["label_names"] == ["bug", "praise", "wish"]
    assert run.record["dataset"]["train"]["text_columns"] == ["text"]
    assert run.record["dataset"]["train"]["rows"] + run.record["dataset"]["eval"]["rows"] == 90
    capsys.readouterr()
    assert cli.main(["predict", str(run.directory), "it crashes at once", "works so well"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(answer["probabilities"]) for answer in answers] == [{"bug", "praise", "wish"}] * 2
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    Path("texts.txt").write_text("please add this\n\nworks so well\n")
    assert cli.main(["predict", str(run.directory), "--file", "texts.txt"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    Path("kinds.csv").write_text("kind\nbug\n")
    assert cli.main(["predict", str(run.directory), "--file", "kinds.csv"]) == 2
    assert "no column 'text', which the model was trained on" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run.directory), "--task", "mail.csv", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["dataset"]["eval"]["fingerprint"] == run.record["dataset"]["eval"]["fingerprint"]
    assert cli.main(["report"]) == 0
    assert "mail.csv" in Path("out/report.md").read_text()


def test_convert_says_what_it_chose_in_a_few_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save_with_tokenizer(tmp_path, "dense", {})
    assert cli.main(["convert", str(checkpoint), "--attention", "performer", "--out", str(tmp_path / "made")]) == 0
    told = dict(line.split(": ", 1) for line in capsys.readouterr().err.splitlines() if ": " in line)
    done = json.loads((tmp_path / "made" / "config.json").read_text())["longread_conversion"]
    assert done["redraw_steps"] is None and "redraw_steps" not in told and told["to"] == "performer"
    assert len(told["sharpness"]) <= 6 and float(told["sharpness"]) == pytest.approx(done["sharpness"], abs=1e-4)


def test_compare_runs_its_grid_in_processes_of_their_own_and_repeats_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny = ["2" if before == "--num-hidden-layers" else word for before, word in itertools.pairwise(["", *TINY])]
    command = ["compare", "--attention", "performer  local", "--no-benchmark", "--local-window", "8",
               "--out", str(tmp_path), *tiny]  # fmt: skip
    assert cli.main(command) == 0, capfd.readouterr().err
    assert {run.record["attention"] for run in records.load_runs(tmp_path)} == {*BASELINES, "performer local"}
    page = (tmp_path / "index.html").read_text()
    assert "Performer-Local" in page
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/run.json")}
    capfd.readouterr()
    assert cli.main(command) == 0
    assert capfd.readouterr().err.count("was done before") == 4
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/run.json")}
    assert (tmp_path / "index.html").read_text() == page


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_has_an_example_and_every_option_says_what_it_does(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert cli.main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"Example: longread {command}") for line in lines) or command in ("report", "tasks")
    options = [line.strip("│ ") for line in lines if line.startswith("│ --")]
    assert not [line for line in options if len(line.split("  ", 1)) == 1 or line.split("  ", 1)[1].lstrip()[0] == "["]


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "Usage: longread COMMAND" in capsys.readouterr().out


def test_compare_trains_the_mechanisms_that_stand_alone_and_the_readme_counts_them() -> None:
    from longread.cli.options import ALL

    assert ALL == ["dense", "longformer", "bigbird", "performer", "linformer"]
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert "five mechanisms, three baselines" in readme
