"""The short rows' explicit products against the tiled kernel: one function, two ways."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from longread.attention import Rows, bigbird, explicit, softmax
from longread.attention.softmax import Tile, attend
from mechanisms import SPARSE, label, layer


def results(shapes: list[tuple[int, ...]], limit: int, monkeypatch: pytest.MonkeyPatch, **more: torch.Tensor | tuple):
    """The output and all gradients with explicit products up to `limit` keys."""
    monkeypatch.setattr(explicit, "LONGEST_TRAINED", {torch.float64: limit})
    monkeypatch.setattr(softmax, "QUERIES_PER_TILE", 16)
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    names = ("extra_key", "extra_value")[: len(inputs) - 3]
    out = attend(*inputs[:3], **dict(zip(names, inputs[3:], strict=True)), **more)
    weights = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    return out.grad_fn.name(), [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


@pytest.mark.parametrize("queries", [1, 7, 40])
@pytest.mark.parametrize("case", ["plain", "padded", "band", "extra", "extra and padded"])
def test_explicit_products_are_the_tiled_attention(queries: int, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, extra = 33, 2
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 8)]
    more: dict = {}
    if case == "padded":
        more["bias"] = torch.where(torch.rand(2, 1, 1, keys, generator=generator) < 0.3, -1e30, 0.0).double()
    if case == "band":
        far = (torch.arange(queries)[:, None] - torch.arange(keys)).abs() > 20
        more["tiles"] = (Tile(0, queries, 0, keys, torch.where(far, -1e30, 0.0).double()[None, None]),)
    if "extra" in case:
        shapes += [(2, 3, extra, 8), (2, 3, extra, 8)]
        more["tiles"] = (Tile(0, queries, 1, keys, None),)
    if case == "extra and padded":
        more["extra_bias"] = torch.tensor([[0.0, -1e30], [0.0, 0.0]]).double()[:, None, None]
    short_name, short = results(shapes, 100, monkeypatch, **more)
    tiled_name, tiled = results(shapes, 0, monkeypatch, **more)
    assert short_name != tiled_name  # the two ways really are two
    for one, other in zip(short, tiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("options", SPARSE["bigbird"], ids=label)
def test_bigbirds_pattern_as_a_bias_is_the_gathered_one(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = layer("bigbird", options)
    rows = Rows((3, 29, 30, 31, 47, 60, 61, 90))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(sum(rows.lengths), 12, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    gathered = mock.Mock(side_effect=bigbird.attend_blocks)
    monkeypatch.setattr(bigbird, "attend_blocks", gathered)
    found = []
    for limit in (100, 0):
        monkeypatch.setattr(explicit, "LONGEST_TRAINED", {torch.float64: limit})
        out = attention(x, Rows(rows.lengths))
        found.append([out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *attention.parameters()])])
        assert gathered.called is (limit == 0)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
