"""The cost model: its operations are those that torch counts, and its record is what it computes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

from longread.models.classifier import build
from longread.ops.packed import PackedBatch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import cost, cost_check, cost_predict

SHAPE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 100, "dropout": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "dense": {},
    "longformer": {"attention_window": 256},
    "bigbird": {"block_size": 32, "num_random_blocks": 2},
    "performer": {"num_features": 64},
    "linformer": {"projection_size": 128},
    "dense local local": {"local_window": 256, "gated": True, "intermediate_size": 96, "position_kind": "rotary"},
}
MOST = {"longformer": 1.25, "dense local local": 1.15}  # a window's tiles hold pairs outside it, which are masked
aten = torch.ops.aten
# What torch's counter leaves out.
COUNTED = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *given, **_: sdpa_backward_flop(*given[:4]),
    aten.addmm_: lambda out, a, b, *_, **__: 2 * a[0] * a[1] * b[1],
}  # fmt: skip


@pytest.mark.parametrize("attention", KINDS)
def test_operations_are_those_that_torch_counts(attention: str) -> None:
    lengths = [1024, 448, 448]  # whole blocks, as BigBird pads them
    model = build(attention, max_length=1024, **SHAPE, **KINDS[attention])
    tokens, batch = torch.randint(100, (sum(lengths),)), PackedBatch(tuple(lengths))
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as passed, torch.no_grad():
        model.eval().classify(tokens, batch)
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as trained:
        model.train().classify(tokens, batch).sum().backward()
    for counter, parts in ((passed, cost.inference(model, lengths)), (trained, cost.training(model, lengths))):
        modelled = sum(part.operations for part in parts)
        assert 0.998 * modelled <= counter.get_total_flops() <= MOST.get(attention, 1.005) * modelled


@pytest.mark.parametrize("attention", ["dense", "bigbird", "performer"])
def test_operations_of_first_tokens_are_those_that_torch_counts(attention: str) -> None:
    lengths = [1024, 448, 448]
    model = build(attention, max_length=1024, pooling="first", **SHAPE, **KINDS[attention]).eval()
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as passed, torch.no_grad():
        model.classify(torch.randint(100, (sum(lengths),)), PackedBatch(tuple(lengths)))
    parts = cost.of_first_tokens(model, cost.inference(model, lengths), sum(lengths), len(lengths))
    modelled = sum(part.operations for part in parts)
    assert 0.99 * modelled <= passed.get_total_flops() <= 1.01 * modelled


def test_a_part_takes_its_operations_or_its_bytes() -> None:
    machine = cost.Machine({"products": 100.0, "dense": 50.0}, 10.0)
    assert machine.seconds(cost.Part("projections", 1000.0, 20.0)) == 10.0
    assert machine.seconds(cost.Part("projections", 1000.0, 200.0)) == 20.0
    assert machine.seconds(cost.Part("attention", 1000.0, 20.0, "dense")) == 20.0


def test_work_of_several_sequences_is_that_of_each_but_for_the_weights() -> None:
    model = cost.model_of("longformer", max_length=1024, attention_window=64, **SHAPE)
    both, first, second = (cost.by_name(cost.inference(model, own)) for own in ([900, 300], [900], [300]))
    weights = {"projections": 3 * 4 * 64 * 64 * 4, "feed-forward": 3 * 2 * 64 * 256 * 4}
    for part, (operations, moved) in both.items():
        assert operations == first[part][0] + second[part][0]
        assert moved == first[part][1] + second[part][1] - weights.get(part, 0)


def test_gradients_go_around_the_ring_once_forth_and_once_back() -> None:
    model = cost.model_of("dense", max_length=64, **SHAPE)
    assert cost.all_reduce_bytes(model, 1) == 0
    assert cost.all_reduce_bytes(model, 2) == 4 * model.num_parameters
    assert cost.all_reduce_bytes(model, 4) == 6 * model.num_parameters


def test_more_cards_take_less_time_and_their_gradients_no_less() -> None:
    model = cost.model_of(**cost_predict.MODELS["Longformer-base"])
    steps = [cost_predict.training_step(model, 4096, gpus) for gpus in (8, 64, 1024)]
    assert steps[0].seconds > steps[1].seconds > steps[2].seconds
    assert [step.bottleneck for step in steps] == ["products", "products", "gradients"]
    one = cost_predict.document(model, 4096)
    assert one.bottleneck == "tokenizing" and one.seconds == one.together["tokenizing"]
    assert cost_predict.document(model, 4096, cores=2).seconds < one.seconds


def test_predictions_are_of_the_published_models() -> None:
    sizes = {name: cost.model_of(**config).num_parameters for name, config in cost_predict.MODELS.items()}
    assert sizes["ModernBERT-base"] == pytest.approx(149e6, rel=0.01)
    positions = (8192 - 4098) * 768  # Longformer-base has half as many
    assert sizes["Longformer-base"] - positions == pytest.approx(148.7e6, rel=0.01)


def test_the_record_is_what_the_model_computes() -> None:
    def differs(a: Any, b: Any, where: str = "") -> list[str]:
        if isinstance(a, dict):
            return [x for key in a.keys() | b.keys() for x in differs(a.get(key), b.get(key), f"{where}.{key}")]
        if isinstance(a, list):
            return [x for i in range(max(len(a), len(b))) for x in differs(a[i], b[i], f"{where}[{i}]")]
        near = math.isclose(a, b, rel_tol=0.01, abs_tol=0.002) if isinstance(a, float) else a == b
        return [] if near else [f"{where}: {a} != {b}"]

    kept = json.loads(cost_check.RECORD.read_text("utf-8"))
    kept["other_fits"] = []  # seconds of fitting, for one sentence
    assert differs(cost_check.record(others=()), kept) == [], "run `python -m benchmarks.cost_check`"
