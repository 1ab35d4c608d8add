"""A benchmark by length: at which sizes it measures, and what makes two measurements one record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longread.cli import logs
from longread.cli.lengths import LengthsView
from longread.config import RunConfig
from longread.errors import UserError
from longread.records import load_runs
from longread.study import benchmark as module
from longread.study.benchmark import BenchmarkConfig, benchmark, benchmarks, benchmarks_of


@pytest.fixture(autouse=True)
def _no_large_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine does at best takes seconds to find; here it is a column of the table."""
    monkeypatch.setattr(module, "matmul_rate", lambda device, precision: 1e10)


EFFICIENT = ["longformer", "bigbird", "performer", "linformer"]
PUBLISHED = {
    "dense": {},
    "longformer": {"attention_window": 512},
    "bigbird": {"block_size": 64, "num_random_blocks": 3},
    "performer": {"num_features": 266},  # 64 ln 64
    "linformer": {"projection_size": 256},
}
TINY = BenchmarkConfig(
    attention="dense", lengths=(8, 24), hidden_size=8, num_attention_heads=2, seconds=0.0, threads=1, device="cpu"
)


def test_the_command_measures_published_sizes() -> None:
    configs = benchmarks(BenchmarkConfig(attention="dense"), EFFICIENT, {})
    assert {config.attention: dict(config.options) for config in configs} == PUBLISHED
    assert {config.sizes for config in configs} == {"published"}


def test_sizes_given_by_hand_replace_published_ones_and_are_named_so() -> None:
    configs = benchmarks(TINY, EFFICIENT, {"attention_window": 64})
    assert dict(configs[1].options) == {"attention_window": 64}
    assert {config.sizes for config in configs} == {"given"}


@pytest.mark.parametrize(
    ("attentions", "given", "words"),
    [
        (["longformer"], {"projection_size": 8}, "--projection-size: no setting of dense, longformer"),
        (["longformer"], {"attention_window": 7}, "attention_window is 7"),
        (["convolution"], {}, "--attention 'convolution': there is no such mechanism"),
    ],
)
def test_what_cannot_be_measured_is_refused(attentions: list[str], given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        benchmarks(TINY, attentions, given)


def test_a_comparison_measures_its_own_sizes() -> None:
    """The generated task suggests smaller ones than the published."""
    configs = {c.attention: c for c in benchmarks_of(RunConfig(num_features=32), EFFICIENT, [64, 8])}
    assert dict(configs["longformer"].options) == {"attention_window": 64}
    assert dict(configs["performer"].options) == {"num_features": 32}
    assert {(c.sizes, c.lengths, c.hidden_size) for c in configs.values()} == {("own", (8, 64), 64)}


def test_another_machine_torch_or_commit_is_another_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {
        "processor": "a", "torch": "2", "commit": "c", "dirty": False, "allocator": "tuned",
        "device": "cpu", "precision": "float32", "threads": 1,
    }  # fmt: skip
    monkeypatch.setattr(module, "environment", lambda device, precision: dict(machine))
    config = replace(TINY, out=tmp_path)
    first = benchmark(config)
    again = benchmark(config)
    assert again.record["run_id"] == first.record["run_id"]
    assert again.record["samples"][: len(first.record["samples"])] == first.record["samples"]
    assert len(again.record["samples"]) == 2 * len(first.record["samples"]) == 12
    for part in ("processor", "torch", "commit", "dirty", "allocator"):
        machine[part] = "other"
        benchmark(config)
    assert len(load_runs(tmp_path)) == 6


def test_both_directions_are_printed_with_sizes_and_crossovers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patterns = ["longformer", "dense local local", "dense  local local dense local local"]
    configs = benchmarks(replace(TINY, out=tmp_path, num_hidden_layers=3), patterns, {})
    assert [config.attention for config in configs] == ["dense", "longformer", "dense local local"]
    logs.set_up(logs.LogSettings())
    with LengthsView(configs) as view:
        view.console.width = 200
        view.table([benchmark(config) for config in configs])
    said = capsys.readouterr().err
    assert "at published sizes" in said
    inference, training = said[said.index("inference, median") :].split("training step")
    for table in (inference, training):
        assert "Longformer (attention window 512)" in table
        assert "Dense-Local-Local (local window 128)" in table
        assert "faster than dense" in table
