"""The benchmarks of exports and predictions, on models small enough for a test, and what their tables say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "results")]

import exported  # noqa: E402
from benchmarks import export, predict_memory, predict_throughput  # noqa: E402

import longread  # noqa: E402
from longread.data.tokenizer import train_tokenizer  # noqa: E402

TURN = {"load_at_start": 0.0, "load_at_end": 0.0}


def test_a_graph_is_compared_with_its_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    words = train_tokenizer(["one two three"] * 3, 300, True)
    model = longread.build("longformer", attention_window=8, vocab_size=300, hidden_size=16, num_attention_heads=2,
                           num_labels=2, max_length=64, num_hidden_layers=1)  # fmt: skip
    longread.save_pretrained(model, tmp_path / "model", tokenizer=words)
    checkpoint = longread.load(tmp_path / "model")
    from longread.models.export import export as write

    graph = longread.load(write(checkpoint.model, tmp_path / "model.onnx"))
    tokens = np.arange(5, 105, dtype=np.int32)
    for length in (4, 8, 9, 64):
        found = export.compared(checkpoint, graph, tokens, length)
        assert found["largest_difference"] < 1e-4
        assert {len(seconds) for seconds in found["seconds"].values()} == {export.TURNS["lengths"]}
    tokens[2] = 7
    assert export.compared(checkpoint, longread.load(tmp_path / "model"), tokens, 8)["largest_difference"] == 0


def test_lines_are_all_answered_and_memory_is_measured(tmp_path: Path) -> None:
    model = predict_memory.make_checkpoint(tmp_path)
    predict_memory.write_lines(tmp_path / "lines.txt", 20)
    assert len(set((tmp_path / "lines.txt").read_text().splitlines())) == 20
    peak, seconds = predict_memory.predict(model, tmp_path / "lines.txt", tmp_path / "out.jsonl")
    assert peak > 50 * 2**20 and seconds > 0


def test_outputs_that_differ_are_no_comparison() -> None:
    one, other = [{"a": 0.5, "b": 0.5}], [{"a": 0.4, "b": 0.6}]
    assert predict_throughput.difference(one, other) == pytest.approx(0.1)


def test_a_table_says_ratios_turn_by_turn_and_marks_a_busy_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "RESULTS", tmp_path)
    machine = {"processor": "P", "threads": 2, "allocator": "tuned", "torch": "2", "commit": "0123456789"}
    turns = [TURN | {side: {"seconds": seconds} for side, seconds in (("longread", 2.0), ("pipeline", 8.0),
             ("sorted", 6.0))} | {"environment": machine}]  # fmt: skip
    for name in exported.THROUGHPUT:
        (tmp_path / "predict").mkdir(exist_ok=True)
        told = {"reviews": 10, "positions": 512, "largest_difference": 1e-6, "turns": turns}
        (tmp_path / "predict" / f"{name}.json").write_text(json.dumps(told))
    line = exported.throughput("").splitlines()[2]
    assert [cell.strip() for cell in line.split("|")[2:9]] == ["10", "5.00", "1.25", "1.67", "4.0", "3.0", "1e-06"]
    turns[0]["load_at_end"] = 1.0
    (tmp_path / "predict" / "dense.json").write_text(
        json.dumps({"reviews": 10, "positions": 512, "largest_difference": 1e-6, "turns": turns})
    )
    assert "†" in exported.throughput("").splitlines()[2]
    with pytest.raises(exported.NoSuchRowError, match="is not there"):
        exported.memory("")
