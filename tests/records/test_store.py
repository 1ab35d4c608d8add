"""Runs in a folder each, and compact: the same records, the same results, the same report."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longread.errors import UserError
from longread.records import find_run, load_runs, write_json
from longread.records.compact import compact
from longread.records.predictions import read_shared, write_shared
from longread.report import build_report
from report_records import attention_map, record, write_everything, write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folders")
    write_everything(out)
    return out


def test_a_compact_study_says_what_the_folders_said(folders: Path, tmp_path: Path) -> None:
    compact(folders, tmp_path / "kept", maps=True)
    kept, own = load_runs(tmp_path / "kept"), load_runs(folders)
    assert [run.record for run in kept] == [run.record for run in own]
    assert [run.history() for run in kept] == [run.history() for run in own]
    assert [run.attention_map() for run in kept] == [run.attention_map() for run in own]
    for a, b in zip(kept, own, strict=True):
        first, second = a.predictions(), b.predictions()
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            order = np.argsort(second["row"])
            for name in ("row", "label", "predicted"):
                assert (first[name] == second[name][order]).all()
            np.testing.assert_allclose(first["probabilities"], second["probabilities"][order], rtol=0, atol=2**-13)
    build_report(folders, tmp_path / "a")
    build_report(tmp_path / "kept", tmp_path / "b")
    for name in ("report.md", "index.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    files = {path.name.split("-")[0] for path in (tmp_path / "kept").iterdir()}
    assert files == {"runs.jsonl", "predictions", "attention_maps.json"}


def test_a_compact_study_grows_and_a_runs_own_folder_counts(tmp_path: Path) -> None:
    first, second = record("reviews", "dense", 0, 50), record("reviews", "dense", 1, 50)
    write_run(tmp_path, first, 0.8, 2)
    compact(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    assert (found := find_run(tmp_path, first["run_id"])) is not None and len(found.history()) == 2
    assert find_run(tmp_path, second["run_id"]) is None
    write_run(tmp_path, second, 0.7, 3)
    write_run(tmp_path, first | {"chosen_epoch": 1}, 0.6, 1)
    for _ in range(2):  # what is there already is written as it is
        runs = compact(tmp_path)
        assert [(run.record["seed"], run.record["chosen_epoch"], len(run.history())) for run in runs] == [
            (0, 1, 1), (1, 6, 3),
        ]  # fmt: skip
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)


def test_a_checkpoint_of_the_study_is_named_by_its_place_there(tmp_path: Path) -> None:
    for number, init in enumerate([str(tmp_path / "runs" / "a" / "checkpoint"), "scratch", "/elsewhere/runs/a"]):
        write_run(tmp_path, record("reviews", "dense", number, 50, init=init), 0.8)
    for _ in range(2):
        found = [(run.record["init"], run.record["seed"]) for run in compact(tmp_path, tmp_path / "kept")]
        assert found == [("runs/a/checkpoint", 0), ("scratch", 1), ("/elsewhere/runs/a", 2)]


def test_an_attention_map_of_each_mechanism_is_kept_on_request(tmp_path: Path) -> None:
    for attention in ("dense", "performer"):
        for seed in (0, 1):
            folder = write_run(tmp_path / "runs-of", record("reviews", attention, seed, 50), 0.8)
            write_json(folder / "attention_map.json", attention_map(attention, 4))
    for maps, count in ((False, 0), (True, 2), (False, 2)):  # once kept, they stay
        runs = compact(tmp_path / "runs-of", tmp_path, maps=maps)
        assert sum(run.attention_map() is not None for run in runs) == count


def test_predictions_come_back_exactly_enough(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = np.exp(rng.standard_normal((200, 3)) * 8)
    three = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    three[0] = (0.4, 0.4, 0.2)  # a tie: the first is the predicted one
    several = rng.random((200, 4)).astype(np.float32)  # of several labels each: they do not sum to 1
    several[5] = np.nan
    rows, labels = np.arange(200) * 3, rng.integers(0, 3, 200)
    given = {
        name: {"row": rows, "label": labels, "predicted": np.nan_to_num(found).argmax(1), "probabilities": found}
        for name, found in (("three", three), ("several", several))
    }
    write_shared(tmp_path / "shared.parquet", given)
    for name, values in given.items():
        found = read_shared(tmp_path / "shared.parquet", name)
        assert found is not None
        for column in ("row", "label", "predicted"):
            np.testing.assert_array_equal(found[column], values[column])
        np.testing.assert_allclose(found["probabilities"], values["probabilities"], rtol=2**-11, atol=0)
    np.testing.assert_allclose(found["probabilities"], several, rtol=2**-12, atol=0)
    kept = (tmp_path / "shared.parquet").read_bytes()
    again = {name: found for name in given if (found := read_shared(tmp_path / "shared.parquet", name))}
    write_shared(tmp_path / "shared.parquet", again)
    assert (tmp_path / "shared.parquet").read_bytes() == kept, "a file that is written anew from itself changed"
    assert read_shared(tmp_path / "shared.parquet", "thre") is None


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "half a record": lambda folder: halve(folder / "run.json"),
    "an empty record": lambda folder: (folder / "run.json").write_bytes(b""),
    "another status": lambda folder: edit(folder / "run.json", status="fine"),
    "no configuration": lambda folder: edit(folder / "run.json", config=None),
    "half the predictions": lambda folder: halve(folder / "predictions.parquet"),
    "half a history": lambda folder: halve(folder / "history.jsonl"),
    "half a map": lambda folder: (folder / "attention_map.json").write_text('{"heads": [[['),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_named_and_the_report_is_made_of_the_others(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [write_run(tmp_path, record("reviews", "dense", seed, 50), 0.8, 3) for seed in range(2)]
    DAMAGES[damage](folders[1])
    with caplog.at_level(logging.WARNING):
        build_report(tmp_path, figures=False)
    assert "left out, because damaged" in caplog.text and folders[1].name in caplog.text
    text = (tmp_path / "report.md").read_text()
    assert "1 run on reviews: Dense. Left out, because damaged: " in text and folders[1].name in text
    with pytest.raises(UserError, match=rf"{folders[1].name}.*mend or delete it"):
        compact(tmp_path)
    assert not (tmp_path / "runs.jsonl").exists()


def test_a_damaged_line_of_a_compact_study_is_named(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / "out", record("reviews", "dense", seed, 50), 0.8)
    compact(tmp_path / "out", tmp_path)
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    (tmp_path / "runs.jsonl").write_text("\n".join([lines[0], lines[1][:100], lines[2]]))
    build_report(tmp_path, figures=False)
    text = (tmp_path / "report.md").read_text()
    assert "2 runs on reviews: Dense. Left out, because damaged: runs.jsonl, line 2: " in text
    halve(next(tmp_path.glob("*.parquet")))
    with pytest.raises(UserError, match=r"every run record is damaged; the first: runs.jsonl, line 1 \("):
        build_report(tmp_path)


def test_runs_that_disagree_about_a_set_of_rows_are_not_put_together(tmp_path: Path) -> None:
    write_run(tmp_path, record("reviews", "dense", 0, 50), 0.8)
    other = record("reviews", "dense", 1, 60)
    other["dataset"]["eval"]["fingerprint"] = record("reviews", "dense", 0, 50)["dataset"]["eval"]["fingerprint"]
    folder = write_run(tmp_path, other, 0.8)
    with pytest.raises(UserError, match=rf"{folder.name}: its rows are not those of other runs"):
        compact(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads in /proc")
def test_reading_parquet_starts_no_thread(folders: Path, tmp_path: Path) -> None:
    """Under a small limit of memory a thread cannot start, and Arrow waits for it for ever."""
    predictions = next(folders.glob("runs/*/predictions.parquet"))
    texts = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": ["one", "two"], "label": ["a", "b"]}), texts)
    program = (
        "import os, sys, pathlib, pyarrow.parquet\n"
        "from longread.data.sources import read_table\n"
        "from longread.data.stream import blocks_of_file\n"
        "from longread.records.predictions import read_predictions\n"
        "predictions, texts = map(pathlib.Path, sys.argv[1:])\n"
        "def threads(): return len(os.listdir('/proc/self/task'))\n"
        "before = threads()\n"
        "assert len(read_predictions(predictions)['row']) and len(read_table(texts)) == 2\n"
        "assert len(list(blocks_of_file(texts))) == 1\n"
        "print(threads() - before)"
    )
    command = [sys.executable, "-c", program, str(predictions), str(texts)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*run\.json"):
        write_json(tmp_path / "run.json", {})
    assert not list(tmp_path.iterdir())
