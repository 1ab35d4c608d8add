"""A mechanism is one class: what it declares is enough for options, training, conversion, measuring and the report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import longread
from attention import test_contract as contract
from longread.attention import ATTENTIONS, SelfAttention
from longread.config import BASELINES, RunConfig
from longread.errors import UserError
from longread.models.classifier import build
from longread.models.convert import convert
from longread.records import load_runs
from longread.report import build_report, mechanisms
from longread.study.benchmark import BenchmarkConfig, benchmark, benchmarks
from longread.study.compare import compare, grid
from longread.training.optimize import make_optimizer
from toy_mechanism import ToyAttention

SHAPE: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2}
TINY: dict[str, Any] = SHAPE | {"train_rows": 32, "eval_rows": 16, "epochs": 1, "vocab_size": 300, "max_length": 64,
                                "threads": 1}  # fmt: skip


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(longread.ATTENTIONS, "toy", ToyAttention)


@pytest.mark.parametrize(
    "check",
    [
        contract.test_every_length_equals_its_reference,
        contract.test_large_inputs_equal_the_references,
        contract.test_one_seed_one_layer,
        lambda name, options: contract.test_float32_equals_the_references(name, options, "processor"),
        lambda name, options: contract.test_bfloat16_is_close_to_float32(name, options, large=True),
        lambda name, options: contract.test_large_inputs_stay_finite(name, options, torch.float32),
        lambda name, options: contract.test_no_tensor_of_tokens_times_tokens_and_linear_memory(name, torch.float32),
    ],
)
@pytest.mark.usefixtures("toy")
def test_the_contract_is_for_any_mechanism(check: Any) -> None:
    check("toy", {"own_weight": 0.3})


@pytest.mark.usefixtures("toy")
def test_a_mechanism_of_the_program_is_trained_in_a_process_of_its_own_loaded_measured_and_reported(
    tmp_path: Path,
) -> None:
    (run,) = compare([RunConfig(attention="toy", own_weight=0.3, out=tmp_path, **TINY)])
    assert run.record["status"] == "ok", run.record["error"]
    assert run.record["config"]["own_weight"] == 0.3
    assert run.record["mechanism"] == {"title": "Toy mean", "color": "#12ab34"}
    assert run.record["effective_attention"] == {"mean": 1.0}
    predictor = longread.load(run.directory)
    assert int(predictor.model.blocks[0].attention.steps_seen) == 1  # after_step was called, and the buffer kept
    assert predictor.predict(["a fine film"])[0].label in run.record["dataset"]["label_names"]
    base = BenchmarkConfig(attention="dense", lengths=(16, 32), seconds=0.0, threads=1, out=tmp_path, **SHAPE)
    for config in benchmarks(base, ["toy"], {}):
        assert benchmark(config).record["status"] == "ok"
    page = build_report(tmp_path).read_text()
    assert "Toy mean" in page and "#12ab34" in page
    assert "Toy mean" in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("toy")
def test_it_is_converted_from_dense_and_has_its_learning_rates() -> None:
    dense = build("dense", vocab_size=30, max_length=32, seed=1, **SHAPE)
    converted = convert(dense, "toy", 64, gate_rate=0.5)
    attention: Any = converted.blocks[0].attention
    assert torch.equal(attention.value.weight, dense.blocks[0].attention.value.weight)
    assert torch.equal(attention.gate, torch.zeros(2, 1))
    optimizer = make_optimizer(converted, RunConfig(new_weights_rate=10.0), 1e-2)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(attention.gate)] == pytest.approx(1e-2 * 10 * 0.5)
    with pytest.raises(UserError, match=r"own_weight is 2; it must be above 0 and below 1"):
        convert(dense, "toy", own_weight=2)


@pytest.mark.usefixtures("toy")
def test_a_grid_gives_options_to_those_that_have_them() -> None:
    base = RunConfig(own_weight=0.3, attention_window=8, attention_dropout=0.1)
    configs = grid(base, tasks=["reviews"], attentions=["longformer", "toy"], depths=[1], seeds=[0])
    assert [c.attention for c in configs[:-2]] == list(BASELINES)
    assert [dict(c.options) for c in configs] == [{}, {}, {}, {"attention_window": 8}, {"own_weight": 0.3}]
    assert [c.attention_dropout for c in configs[-2:]] == [0.1, 0.0]
    with pytest.raises(UserError, match="own_weight: dense attention has no such setting; it is for toy"):
        grid(base, tasks=["reviews"], attentions=["dense"], depths=[1], seeds=[0])
    with pytest.raises(UserError, match=r"own_wight: toy attention has no such .*; did you mean own_weight"):
        grid(RunConfig(own_wight=0.3), tasks=["reviews"], attentions=["toy"], depths=[1], seeds=[0])


def test_a_class_that_another_process_cannot_import_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Hidden(ToyAttention):
        pass

    monkeypatch.setitem(longread.ATTENTIONS, "hidden", Hidden)
    with pytest.raises(UserError, match="move Hidden to the top of a module"):
        compare([RunConfig(attention="hidden", out=tmp_path, **TINY)])


def test_an_installed_package_adds_one_to_the_commands(tmp_path: Path) -> None:
    """The package says its class in an entry point; the command has the class's options."""
    package = tmp_path / "site" / "toy-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[longread.attentions]\ntoy = toy_mechanism:ToyAttention\n")
    paths = [str(package.parent), str(Path(__file__).parent), str(Path(longread.__file__).parents[1])]
    options = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = ["train", "--attention", "toy", "--own-weight", "0.25", "--out", str(tmp_path), *options]
    done = subprocess.run(
        [sys.executable, "-m", "longread", *command], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = load_runs(tmp_path)
    assert (run.record["attention"], run.record["config"]["own_weight"]) == ("toy", 0.25)


@pytest.mark.parametrize("name", [name for name, look in mechanisms.LOOKS.items() if name in ATTENTIONS])
def test_records_of_earlier_versions_are_drawn_as_todays(name: str) -> None:
    mechanism: type[SelfAttention] = ATTENTIONS[name]
    assert mechanism.look() == {"title": mechanisms.title_of(name), "color": mechanisms.color_of(name)}
