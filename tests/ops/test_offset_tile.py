"""Attention by offset with gradients on a processor, beside the softmax of all scores with their bias."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from longread.ops import eager, offset_tile, recomputed
from longread.ops.offsets import ExtraKeys, attend_by_offset
from longread.ops.relative_bias import along
from longread.ops.tile import Tile
from mechanisms import normal, relative_error


def reference(
    query: Tensor, key: Tensor, value: Tensor, vector: Tensor, tiles: list[Tile], extra: ExtraKeys | None = None
) -> Tensor:
    places, of_keys = torch.arange(query.shape[2])[:, None], torch.arange(key.shape[2])
    scores = query @ key.mT * query.shape[3] ** -0.5 + along(vector, of_keys - places)
    seen = torch.full((query.shape[0], 1, len(places), len(of_keys)), -torch.inf, dtype=query.dtype)
    for q0, q1, k0, k1, bias in tiles:
        seen[:, :, q0:q1, k0:k1] = 0.0 if bias is None else bias
    scores = scores + seen
    if extra is not None:
        beside = query @ extra.key.mT * query.shape[3] ** -0.5
        beside = beside + along(vector, extra.positions[:, None] - places).transpose(0, 1)
        scores = torch.cat([scores, beside if extra.bias is None else beside + extra.bias], 3)
        value = torch.cat([value, extra.value], 2)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def case(draw: random.Random) -> tuple[list[Tensor], dict[str, Any], list[Tile], tuple[Tensor, Tensor | None] | None]:
    """Inputs that want gradients, what else `attend_by_offset` is told, the tiles that it comes to, extra positions."""
    seed, rows, heads, keys = draw.randrange(10**6), draw.choice([1, 2, 3]), draw.choice([1, 2, 5]), draw.randint(1, 40)
    dim, queries = draw.choice([1, 3, 8]), draw.choice([1, keys, keys])
    shapes = [(rows, heads, queries, dim), (rows, heads, keys, dim), (rows, heads, keys, dim)]
    shapes.append((heads, 2 * draw.choice([1, 5, 60]) + 1))

    def masked(count: int, *shape: int) -> Tensor:
        bias = torch.where(normal(count, 1, *shape, seed=seed) > draw.choice([-1, 0, 2]), 0.0, -1e30)
        bias[..., draw.randrange(shape[-1])] = 0.0
        return bias.double()

    told: dict[str, Any] = {}
    tiles = [Tile(0, queries, 0, keys)]
    if draw.random() < 0.5:
        bias = masked(draw.choice([1, rows]), draw.choice([1, queries]), keys)
        told, tiles = {"bias": bias}, [Tile(0, queries, 0, keys, bias)]
    elif draw.random() < 0.7:
        step, side = draw.choice([3, 16]), draw.choice([2, 9])
        spans = [(q0, min(queries, q0 + step)) for q0 in range(0, queries, step)]
        tiles = [Tile(q0, q1, max(0, q0 - side), min(keys, q1 + side)) for q0, q1 in spans]
        tiles = [t._replace(bias=masked(draw.choice([1, rows]), t.q1 - t.q0, t.k1 - t.k0)) for t in tiles]
        told = {"tiles": tiles}
    extra = None
    if draw.random() < 0.5:
        count = draw.choice([1, 4])
        shapes += [(rows, heads, count, dim)] * 2
        positions = torch.randint(0, keys, (draw.choice([1, rows]), count))
        extra = positions, masked(rows, 1, count) if draw.random() < 0.7 else None
    inputs = [normal(*shape, seed=seed + place) for place, shape in enumerate(shapes)]
    if draw.random() < 0.3:  # the numbers of a token are not neighbours in memory
        inputs[:3] = [tensor.mT.contiguous().mT for tensor in inputs[:3]]
    return [tensor.requires_grad_() for tensor in inputs], told, tiles, extra


@pytest.mark.parametrize("seed", range(3))
def test_outputs_and_gradients_equal_the_references(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tiles of few queries, and buffers that hold several rows, one row or some heads of it."""
    monkeypatch.setattr(eager, "LONGEST_TRAINED", {})
    monkeypatch.setattr(offset_tile, "QUERIES_PER_TILE", 13)
    monkeypatch.setattr(offset_tile, "LARGEST_TILE", 300)
    draw = random.Random(seed)
    for number in range(20):
        monkeypatch.setattr(recomputed, "SCORES", draw.choice([100, 1_000, 10_000]))
        with torch.random.fork_rng():
            torch.manual_seed(number)
            inputs, told, tiles, positions = case(draw)
        extra = None if positions is None else ExtraKeys(inputs[4], inputs[5], *positions)
        out = attend_by_offset(*inputs[:4], extra=extra, **told)
        expected = reference(*inputs[:4], tiles, extra)
        assert "OffsetTile" in out.grad_fn.name() or "OffsetTile" in out.grad_fn.next_functions[0][0].name()
        weights = normal(*out.shape[::-1]).permute(3, 2, 1, 0)
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-11)
        found, wanted = (torch.autograd.grad(made, inputs, weights) for made in (out, expected))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("keys", "size", "numbers", "bound"), [
    (100, 0.5, 1.0, 0.008),  # eager products
    (300, 0.1, 0.0, 0.0045),  # even attention
    (300, 1.0, 1.0, 0.0065),
    (300, 6.0, 1.0, 0.015),  # scores near 200, with a bias whose bits are below theirs
])  # fmt: skip
def test_gradients_are_close_in_bfloat16(keys: int, size: float, numbers: float, bound: float) -> None:
    query, key = (normal(1, 4, keys, 64, seed=seed) * size for seed in (0, 1))
    given = [query.bfloat16(), key.bfloat16(), normal(1, 4, keys, 64, seed=2, dtype=torch.bfloat16)]
    vector = (normal(4, 7, seed=3) * numbers).bfloat16().float()
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in given]
        inputs.append(vector.to(torch.promote_types(dtype, torch.float32)).requires_grad_())
        attended = attend_by_offset if dtype == torch.bfloat16 else reference
        out = attended(*inputs, tiles=[Tile(0, keys, 0, keys)])
        weights = normal(*out.shape, seed=4, dtype=torch.bfloat16).to(dtype)
        found.append([out, *torch.autograd.grad(out, inputs, weights)])
    errors = [relative_error(low, exact) for low, exact in zip(*found, strict=True)]
    assert max(errors) < bound, errors


@pytest.mark.parametrize("keys", [60, 300])
def test_a_second_derivative_is_refused(keys: int) -> None:
    inputs = [normal(1, 2, keys, 8).requires_grad_() for _ in range(3)]
    out = attend_by_offset(*inputs, normal(2, 9))
    (first,) = torch.autograd.grad(out.square().sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()
