"""Linear layers in int8: near the model, one text at a time, and refused where it cannot be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from test_padded import MODERN, sharp_model
from torch import nn

from longread.config import RunConfig
from longread.errors import UserError
from longread.models.int8 import to_int8
from longread.ops import int8
from longread.ops.int8 import Int8Linear, multiply
from longread.ops.packed import PackedBatch
from longread.training.resolve import resolve
from mechanisms import label, settings

EVERY = [
    *settings(),
    ("dense local", MODERN | {"local_window": 6}),
    *((name, {"relative_buckets": 12}) for name in ("bigbird", "linformer", "performer")),
]


def test_a_layer_is_as_near_as_its_rounding() -> None:
    """127 steps on each side of both factors, whose errors add up like a random walk: 1 % of a typical output."""
    generator = torch.Generator().manual_seed(0)
    for width, out, tokens in ((64, 48, 1), (64, 48, 30), (768, 768, 17), (40, 8, 300)):
        linear = nn.Linear(width, out)
        x = torch.randn(tokens, width, generator=generator) * torch.logspace(-3, 3, tokens)[:, None]  # each token's own
        exact, found = linear(x).detach(), Int8Linear(linear)(x)
        error = (found - exact).norm(dim=1) / exact.norm(dim=1)
        assert error.max() < 0.03, (width, out, tokens)
    assert torch.equal(Int8Linear(linear)(torch.zeros(3, 40)), linear.bias.detach().expand(3, -1))


def test_the_faster_product_and_inputs_rounded_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(300, 768, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 300)[:, None]
    layers = [Int8Linear(nn.Linear(768, out, bias=bias)) for out, bias in ((768, True), (96, False), (3072, True))]
    found = multiply(x, layers)
    assert all(torch.equal(layer(x), own) for layer, own in zip(layers, found, strict=True))
    copies = copy.deepcopy(layers)
    other = Int8Linear(nn.Linear(768, 96, bias=False))
    assert not torch.equal(other(x), found[1])
    other.load_state_dict(layers[1].state_dict())  # the weights that it had put in order are others now
    assert torch.equal(other(x), found[1])
    monkeypatch.setattr(int8, "onednn_has_int8", lambda: False)
    assert all(torch.equal(layer(x), own) for layer, own in zip(copies, found, strict=True))


@pytest.mark.parametrize(("attention", "options"), EVERY, ids=label)
@torch.inference_mode()
def test_answers_are_near_and_do_not_depend_on_the_batch(attention: str, options: dict[str, Any]) -> None:
    exact = sharp_model(attention, options, head_activation="tanh", hidden_size=32).float()
    model = to_int8(copy.deepcopy(exact))
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) >= 2 * 4 + 1
    lengths = (1, 40, 9, 97, 9)
    ids = torch.randint(4, 50, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    wanted, found = (m.encode(ids, PackedBatch(lengths)) for m in (exact, model))
    assert 1e-5 < (found - wanted).norm() / wanted.norm() < 0.2  # sharp weights turn a rounding into another choice
    alone = torch.cat([model.classify(part, PackedBatch((len(part),))) for part in ids.split(lengths)])
    torch.testing.assert_close(model.classify(ids, PackedBatch(lengths)), alone, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_weights_of_16_bits_are_rounded_as_float32_ones() -> None:
    half = sharp_model("dense", {}).bfloat16()
    batch = torch.arange(4, 44), PackedBatch((9, 31))
    assert torch.equal(to_int8(copy.deepcopy(half)).classify(*batch), to_int8(half.float()).classify(*batch))


def test_it_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--precision int8: on a processor alone, and the device is meta"):
        to_int8(sharp_model("dense", {}).to("meta"))
    with pytest.raises(UserError, match="--precision int8: for evaluate, predict and serve"):
        resolve(RunConfig(task="reviews", precision="int8", out=tmp_path))
