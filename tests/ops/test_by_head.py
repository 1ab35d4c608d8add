"""Attention head by head through oneDNN: the tiled attention of torch's kernel, whatever is asked for at once."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch

from longread.attention import ATTENTIONS
from longread.ops import by_head, offsets, tiled
from longread.ops.packed import PackedBatch
from longread.ops.tile import Tile
from mechanisms import label, layer, normal, relative_error, settings

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN here")

TILES = {
    "one": [Tile(0, 40, 0, 60)],
    "band": [Tile(0, 10, 2, 30), Tile(10, 25, 2, 44), Tile(25, 40, 20, 60)],
    "not in order": [Tile(25, 40, 20, 60), Tile(0, 25, 2, 44)],
}
CASES = [(name, options, relative) for name, options in settings() for relative in (False, True)]
CASES = [case for case in CASES if not case[2] or ATTENTIONS[case[0]].supports_relative_bias]


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_it_is_the_tiled_attention(
    tiles: str, extra: int, biased: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        normal(2, 3, count, 8, seed=seed).mul(2).to(dtype) for seed, count in enumerate((40, 60, 60, extra, extra))
    ]
    parts = TILES[tiles]
    beside: dict[str, Any] = {"extra_key": given[3], "extra_value": given[4]} if extra else {}
    if biased:
        parts = [
            t._replace(bias=torch.where(normal(2, 1, 1 + place % 2 * (t.q1 - t.q0 - 1), t.k1 - t.k0) < -1, -1e30, 0.0))
            for place, t in enumerate(parts)
        ]
    if extra and biased:
        beside["extra_bias"] = torch.where(normal(2, 1, 1, extra, seed=7) < 0, -1e30, 0.0)
    wide = {name: t.double() for name, t in beside.items()}
    exact = tiled.attend(*(t.double() for t in given[:3]), tiles=_doubled(parts), **wide)
    for scores in (1, 500, 1 << 20):  # one query, some, all of a tile at once
        monkeypatch.setattr(by_head, "SCORES", scores)
        found = by_head.attend(*given[:3], parts, **beside)
        assert found.dtype == dtype
        assert relative_error(found, exact) < (3e-7 if dtype == torch.float32 else 2**-7)


def _doubled(tiles: list[Tile]) -> list[Tile]:
    return [tile._replace(bias=None if tile.bias is None else tile.bias.double()) for tile in tiles]


@pytest.mark.parametrize(("name", "options", "relative"), CASES, ids=label)
def test_a_mechanism_is_the_same(
    name: str, options: dict[str, Any], relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this is faster, what has tiles is computed so; nothing with gradients is."""
    attention = layer(name, options, relative=relative).float().eval()
    lengths = (1, 3, 29, 30, 47, 61, 90, 180)
    x = normal(sum(lengths), 12).float()
    with_gradients = attention(x, PackedBatch(lengths))
    used = mock.Mock(side_effect=by_head.attend)
    monkeypatch.setattr(by_head, "FEWEST", 1)
    monkeypatch.setattr(by_head, "FEWEST_QUERIES", 1)
    monkeypatch.setattr(by_head, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(by_head, "attend", used)
    for module in (tiled, offsets):
        monkeypatch.setattr(module, "is_short", lambda *_: False)
    attention(x.clone().requires_grad_(), PackedBatch(lengths))
    assert not used.called
    with torch.no_grad():
        found = attention(x, PackedBatch(lengths))
    assert used.called or name in ("performer", "bigbird")
    assert relative_error(found, with_gradients.detach()) < 1e-6


@torch.no_grad()
def test_torchs_defaults_decide_nothing() -> None:
    given, tiles = [normal(1, 2, 40, 8, seed=seed).float() for seed in range(3)], [Tile(0, 40, 0, 40)]
    exact = by_head.attend(*given, tiles)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("meta"):
            assert torch.equal(by_head.attend(*given, tiles), exact)
    finally:
        torch.set_default_dtype(before)


def test_few_queries_and_compilers_keep_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_head, "onednn_is_faster", lambda: True)
    query = torch.zeros(1, 2, by_head.FEWEST_QUERIES, 8)
    assert by_head.is_faster(query, by_head.FEWEST) and by_head.is_faster(query.bfloat16(), by_head.FEWEST)
    assert not by_head.is_faster(query, by_head.FEWEST - 1)
    assert not by_head.is_faster(query[:, :, 1:], 10 * by_head.FEWEST)  # all keys are copied for them
    assert not by_head.is_faster(query.double(), by_head.FEWEST)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not by_head.is_faster(query, by_head.FEWEST)
