"""One function, several ways: eager products for short sequences, the tiled kernel, and both with attention dropout."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from longread.attention import bigbird
from longread.ops import by_head, dropout, eager, recomputed, tiled
from longread.ops.packed import PackedBatch
from longread.ops.tiled import Tile, attend, one_tile
from mechanisms import SPARSE, assert_equal, label, layer, normal, settings, with_gradients


def results(shapes: list[tuple[int, ...]], limit: int, monkeypatch: pytest.MonkeyPatch, **more: torch.Tensor | tuple):
    """The output and all gradients with eager products up to `limit` keys."""
    monkeypatch.setattr(eager, "LONGEST_TRAINED", {torch.float64: limit})
    monkeypatch.setattr(tiled, "QUERIES_PER_TILE", 16)
    monkeypatch.setattr(recomputed, "QUERIES_PER_TILE", 16)
    monkeypatch.setattr(recomputed, "SCORES", 1_200)  # two heads, or one, of some queries
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    names = ("extra_key", "extra_value")[: len(inputs) - 3]
    out = attend(*inputs[:3], **dict(zip(names, inputs[3:], strict=True)), **more)
    weights = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    return out.grad_fn.name(), [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


@pytest.mark.parametrize("queries", [1, 7, 40])
@pytest.mark.parametrize("case", ["plain", "padded", "band", "extra", "extra and padded"])
def test_eager_products_are_the_tiled_attention(queries: int, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("wanted", range(5))
def test_a_gradient_may_be_wanted_of_one_input_alone(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where attention without gradients goes another way."""
    monkeypatch.setattr(by_head, "is_faster", lambda *_: True)
    monkeypatch.setattr(tiled, "is_short", lambda *_: False)
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(2, 3, n, 8, generator=generator) for n in (30, 40, 40, 2, 2)]

    def gradients(*of: int) -> tuple[torch.Tensor, ...]:
        given = [t.clone().requires_grad_(place in of) for place, t in enumerate(inputs)]
        tiles = (Tile(0, 30, 1, 40, None),)
        out = attend(*given[:3], tiles=tiles, extra_key=given[3], extra_value=given[4])
        return torch.autograd.grad(out.square().sum(), [given[place] for place in of])

    torch.testing.assert_close(gradients(wanted)[0], gradients(*range(5))[wanted])


@pytest.mark.parametrize("options", SPARSE["bigbird"], ids=label)
def test_bigbirds_pattern_as_a_bias_is_the_gathered_one(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = layer("bigbird", options)
    batch = PackedBatch((3, 29, 30, 31, 47, 60, 61, 90))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(sum(batch.lengths), 12, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    gathered = mock.Mock(side_effect=bigbird.attend_blocks)
    monkeypatch.setattr(bigbird, "attend_blocks", gathered)
    found = []
    for limit in (100, 0):
        monkeypatch.setattr(eager, "LONGEST_TRAINED", {torch.float64: limit})
        out = attention(x, PackedBatch(batch.lengths))
        found.append([out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *attention.parameters()])])
        assert gathered.called is (limit == 0)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


BATCH = PackedBatch((1, 3, 29, 30, 47, 61, 90, 180))
DROPS = [(name, options) for name, options in settings() if name != "performer"]


@pytest.mark.parametrize(("name", "options"), DROPS, ids=label)
@pytest.mark.parametrize("limit", [0, 100])
def test_every_probability_is_multiplied_once(
    name: str, options: dict, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All factors 2 instead of 0 or more: twice what is mixed and twice the gradients, by every way there is."""
    monkeypatch.setattr(eager, "LONGEST_TRAINED", {torch.float64: limit})
    monkeypatch.setattr(tiled, "QUERIES_PER_TILE", 16)
    monkeypatch.setattr(recomputed, "QUERIES_PER_TILE", 16)
    for module in (dropout, eager):
        monkeypatch.setattr(module, "factors_like", lambda x, rate: torch.full_like(x, 2.0))
    attention = layer(name, options, dropout=0.3)
    attention.output = torch.nn.Identity()
    x = normal(sum(BATCH.lengths), 12).requires_grad_()
    plain = with_gradients(attention.eval(), x, attention(x, PackedBatch(BATCH.lengths)))
    dropped = with_gradients(attention.train(), x, attention(x, PackedBatch(BATCH.lengths)))
    assert_equal(dropped, {key: 2 * tensor for key, tensor in plain.items()}, 1e-9)


@pytest.mark.parametrize("queries", [1, 5, 33])
@pytest.mark.parametrize("kept", [True, False])
def test_gradients_are_those_of_the_probabilities_that_were_left(
    queries: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "LONGEST_TRAINED", {torch.float64: 100 if kept else 0})
    monkeypatch.setattr(tiled, "QUERIES_PER_TILE", 16)
    monkeypatch.setattr(recomputed, "QUERIES_PER_TILE", 16)
    query, key, value = (normal(2, 3, n, 4, seed=n).requires_grad_() for n in (queries, 13, 13))
    bias = normal(2, 1, queries, 13)

    def mixed(*inputs: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return one_tile(*inputs, bias, 0.4)

    assert torch.autograd.gradcheck(mixed, (query, key, value), fast_mode=True)
    # With a value of its own for each key, what comes out are the probabilities: four in ten are gone, the rest larger.
    eye = torch.eye(13, dtype=torch.float64).expand(2, 3, 13, 13)
    wide = torch.nn.functional.pad(query, (0, 9)), torch.nn.functional.pad(key, (0, 9)), eye
    probabilities, left = one_tile(*wide, bias, 0.0), mixed(*wide)
    gone = left == 0
    assert 0.3 < gone.double().mean() < 0.5 or queries == 1
    torch.testing.assert_close(left, torch.where(gone, 0.0, probabilities / 0.6), rtol=1e-3, atol=0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [1.0, 4.0, 6.0])
def test_large_scores_keep_their_gradients_in_bfloat16(size: float, masked: bool) -> None:
    """Scores of 20 to 200: rounded to 8 bits as they are, their gradients would be off by several percent."""
    torch.manual_seed(0)
    given = [(torch.randn(1, 8, 96, 64) * factor).bfloat16() for factor in (size, size, 1, 1)]
    hidden = torch.zeros(1, 1, 1, 96).masked_fill(torch.arange(96) >= 70, -torch.inf) if masked else None
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        query, key, value = (tensor.detach().to(dtype).requires_grad_() for tensor in given[:3])
        bias = None if hidden is None else hidden.to(dtype)
        out = eager.EagerAttention.apply(query, key, value, bias)
        out.backward(given[3].to(dtype).transpose(1, 2))
        found.append([out.detach(), query.grad, key.grad, value.grad])
    for low, exact in zip(*found, strict=True):
        assert ((low.double() - exact).norm() / exact.norm()).item() < 0.01


@pytest.mark.parametrize("size", [1.0, 4.0, 6.0])
@pytest.mark.parametrize("case", ["dense", "band", "extra"])
def test_large_scores_keep_their_gradients_where_they_are_made_anew(
    size: float, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "LONGEST_TRAINED", {})
    torch.manual_seed(0)
    extra = 3 if case == "extra" else 0
    given = [(torch.randn(2, 4, n, 64) * f).bfloat16() for n, f in ((300, size), (300 + extra, size), (300 + extra, 1))]
    weights = torch.randn(2, 300, 4, 64).bfloat16()
    near = (torch.arange(300)[:, None] - torch.arange(300)).abs() <= 40
    lowest = torch.finfo(torch.bfloat16).min / 4
    edges = (
        [(0, 300, 0, 300)]
        if case == "dense"
        else [(q, q + 100, max(0, q - 40), min(300, q + 140)) for q in (0, 100, 200)]
    )
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        query, key, value = (t.detach().to(dtype).requires_grad_() for t in given)
        bias = torch.zeros(near.shape, dtype=dtype).masked_fill(~near & (case != "dense"), lowest)[None, None]
        if dtype == torch.float64:
            every = torch.nn.functional.pad(bias, (0, extra))
            out = torch.softmax(query @ key.mT / 8 + every, -1) @ value
            out = out.transpose(1, 2)
        else:
            tiles = [Tile(*e, bias[:, :, e[0] : e[1], e[2] : e[3]]) for e in edges]
            beside = {"extra_key": key[:, :, 300:], "extra_value": value[:, :, 300:]} if extra else {}
            out = attend(query, key[:, :, :300], value[:, :, :300], tiles=tiles, **beside)
        out.backward(weights.to(dtype))
        found.append([query.grad, key.grad, value.grad])
    for low, exact in zip(*found, strict=True):
        assert ((low.double() - exact).norm() / exact.norm()).item() < 0.01


@pytest.mark.parametrize("far", [-20.0, 20.0])
@pytest.mark.parametrize("tiles", [1, 2])
def test_even_attention_to_scores_far_from_0_keeps_its_gradients(
    far: float, tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that all scores of a query have in common is no part of their softmax, and costs it no bits."""
    monkeypatch.setattr(eager, "LONGEST_TRAINED", {})
    torch.manual_seed(0)
    given = [torch.randn(1, 2, n, 64).bfloat16() for n in (64, 300, 300)]
    given[0][..., 0], given[1][..., 0] = 16.0, far / 2
    weights = torch.randn(1, 64, 2, 64).bfloat16()
    query, key, value = (t.detach().requires_grad_() for t in given)
    step = 64 // tiles
    attend(query, key, value, tiles=[Tile(q, q + step, 0, 300) for q in range(0, 64, step)]).backward(weights)
    exact = [t.double().requires_grad_() for t in given]
    out = torch.softmax(exact[0] @ exact[1].mT / 8, -1) @ exact[2]
    out.transpose(1, 2).backward(weights.double())
    for low, other in zip((query, key, value), exact, strict=True):
        assert ((low.grad.double() - other.grad).norm() / other.grad.norm()).item() < 0.006


def test_one_tile_may_leave_out_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "LONGEST_TRAINED", {})
    query, key, value = (normal(2, 3, n, 8, seed=n, dtype=torch.float32).requires_grad_() for n in (30, 41, 42))
    key, value = key[:, :, :40], value[:, :, :40]
    found = []
    for k, v, tile in ((key, value, Tile(0, 30, 3, 35)), (key[:, :, 3:35], value[:, :, 3:35], Tile(0, 30, 0, 32))):
        out = attend(query, k, v, tiles=(tile,))
        found.append([out, *torch.autograd.grad(out.square().sum(), [query, key, value])])
    torch.testing.assert_close(*found)
