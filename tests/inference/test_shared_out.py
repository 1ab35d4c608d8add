"""evaluate and predict on several processes: the answers, order and record of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longread import records
from longread.cli.main import main
from longread.data import stream
from many import on_processes

TINY = ["--train-rows", "24", "--eval-rows", "20", "--epochs", "1", "--hidden-size", "16", "--num-attention-heads", "2",
        "--max-length", "64", "--threads", "1"]  # fmt: skip


def run(*command: str) -> int:
    stream.BLOCK = 4
    return main([*command])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    assert main(["train", "--task", "reviews", "--attention", "bigbird", *TINY, "--out", str(out)]) == 0
    (found,) = records.load_runs(out)
    return found.directory


def test_each_evaluation_row_is_answered_once_and_one_record_says_so(trained: Path, tmp_path: Path) -> None:
    found = []
    for count in (1, 3):
        out = tmp_path / str(count)
        command = ("evaluate", str(trained), "--eval-rows", "20", "--tokens-per-micro-batch", "100", "--out", str(out))
        ended = on_processes(count, out / "said", run, *command)
        assert [(one.code, one.result) for one in ended] == [(0, 0)] * count, ended[0].said
        assert [one.said.count("20 rows in") for one in ended] == [1] + [0] * (count - 1)
        found.append(records.load_runs(out))
    (one,), (shared,) = found
    assert (one.record["environment"]["processes"], shared.record["environment"]["processes"]) == (1, 3)
    for key in ("run_id", "metrics", "calibration", "by_length", "padded_fraction", "effective_attention"):
        assert one.record[key] == shared.record[key]
    for name, values in one.predictions().items():  # type: ignore[union-attr]
        np.testing.assert_array_equal(values, shared.predictions()[name])  # type: ignore[index]


def texts(count: int) -> list[dict[str, Any]]:
    lengths = np.random.default_rng(0).integers(0, 90, count).tolist()
    return [{"text": "good film " * length, "key": number} for number, length in enumerate(lengths)]


@pytest.mark.parametrize(("ending", "rows"), [("jsonl", 30), ("csv.gz", 1), ("parquet", 30)])
def test_predictions_are_one_file_in_the_order_of_the_input(
    ending: str, rows: int, trained: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in texts(rows)))
    written = []
    for count in (1, 3):
        out = tmp_path / str(count) / f"answers.{ending}"
        command = ("predict", str(trained), "--file", str(file), "--id-column", "key", "--out", str(out))
        ended = on_processes(count, tmp_path / f"said {count}", run, *command)
        assert [(one.code, one.result) for one in ended] == [(0, 0)] * count, ended[0].said
        assert ended[0].said.count("predictions: ") == 1
        written.append(out.read_bytes())
    assert written[0] == written[1]


def test_a_row_that_is_wrong_ends_all_with_its_one_line(trained: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "texts.jsonl", tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*texts(21), {"text": 3}, *texts(20)]))
    ended = on_processes(3, tmp_path / "said", run, "predict", str(trained), "--file", str(file), "--out", str(out))
    assert [one.result for one in ended] == [2] * 3
    (line,) = [line for line in ended[0].said.splitlines() if line.startswith("longread: ")]
    assert line == f"longread: {file}, line 22: column 'text' holds 3 where text is expected"
    assert not out.exists() and not list(tmp_path.glob(".answers*"))


def stopped_at(blocks: int, *command: str) -> int:
    from longread.inference import resuming

    write = resuming.Output.write

    def stops(self: resuming.Output, data: bytes, tally: Any) -> None:
        write(self, data, tally)
        if tally.blocks == blocks:
            raise KeyboardInterrupt

    resuming.Output.write = stops  # type: ignore[method-assign]
    return run(*command)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2)])
def test_a_stopped_output_goes_on_on_another_number_of_processes(
    before: int, after: int, trained: Path, tmp_path: Path
) -> None:
    file, whole, out = tmp_path / "texts.jsonl", tmp_path / "whole.csv", tmp_path / "answers.csv"
    file.write_text("".join(json.dumps(row) + "\n" for row in texts(30)))
    command = ("predict", str(trained), "--file", str(file), "--out")
    assert on_processes(1, tmp_path / "whole", run, *command, str(whole))[0].result == 0
    assert on_processes(before, tmp_path / "before", stopped_at, 3, *command, str(out))[0].result == 130
    ended = on_processes(after, tmp_path / "after", run, *command, str(out))
    assert [one.result for one in ended] == [0] * after
    assert "goes on behind 12 texts" in ended[0].said
    assert out.read_bytes() == whole.read_bytes()


def test_under_torchrun_predict_takes_a_file(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["predict", str(trained), "fine"]) == 2
    assert "predict under torchrun: give the texts as a --file" in capsys.readouterr().err
