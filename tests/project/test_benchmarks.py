"""The benchmark beside the peers, on a model small enough for a test: same outputs, both sides measured, one table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import parts, run
from benchmarks.table import keep, markdown, ratios

TINY = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(("attention", "phase"), [("dense", "training"), ("bigbird", "inference")])
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
    (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / name / "run.json").write_text(json.dumps(record))
    assert "| tiny" in markdown(tmp_path)
    keep(tmp_path, tmp_path / "kept")
    keep(tmp_path / "kept", tmp_path / "kept")  # what is kept stays
    assert markdown(tmp_path / "kept") == markdown(tmp_path)


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
