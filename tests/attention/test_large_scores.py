"""Attention scores near 200 in 16 bits: outputs and gradients stay close to float64's, however they are computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from longread.ops.packed import PackedBatch
from longread.ops.tiled import Tile, attend
from mechanisms import label, layer, normal, relative_error, settings

# Performer forms no scores; Linformer's keys are sums, which 16 bits round before there are scores.
CASES = [case for case in settings() if case[0] not in ("performer", "linformer")]
ROUNDING = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
SCORE, DIM = 200, 16
BAND = (Tile(0, 200, 0, 300), Tile(200, 400, 100, 500), Tile(400, 600, 300, 600))
WHOLE = (Tile(0, 600, 0, 600),)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("tiles", [BAND, WHOLE], ids=["tiles", "one tile"])
@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize("largest", [2, 20, SCORE])
def test_gradients_over_tiles(dtype: torch.dtype, tiles: tuple[Tile, ...], extra: int, largest: float) -> None:
    """The inputs are numbers of 16 bits: what differs is rounded on the way."""
    made = [normal(1, 2, count, DIM, seed=seed) for seed, count in enumerate((600, 600, 600, extra, extra))]
    scale = (largest / float((made[0] @ made[1].mT).abs().max() * DIM**-0.5)) ** 0.5
    given = [t * scale if place in (0, 1, 3) else t for place, t in enumerate(made)]

    def run(wide: bool) -> tuple[torch.Tensor, ...]:
        query, key, value, *more = (t.to(dtype).to(torch.float64 if wide else dtype).requires_grad_() for t in given)
        beside = {"extra_key": more[0], "extra_value": more[1]} if extra else {}
        out = attend(query, key, value, tiles=tiles, **beside)
        wanted = [query, key, value, *(more if extra else ())]
        return out, *torch.autograd.grad(out, wanted, normal(*out.shape, seed=9).to(dtype).to(out.dtype))

    for narrow, exact in zip(run(wide=False), run(wide=True), strict=True):
        assert relative_error(narrow, exact) < (12 if largest == SCORE else 4) * ROUNDING[dtype]


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
def test_gradients_of_a_mechanism(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Projections that permute and multiply by powers of two are exact: nothing is rounded before the scores."""
    attention = layer(name, options, shape=(2 * DIM, 2, DIM), gain=1.0)
    order = torch.randperm(2 * DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for part, module in attention.named_modules():
            if isinstance(module, nn.Linear) and module.weight.shape == (2 * DIM, 2 * DIM):
                turned = torch.eye(2 * DIM)[order if part.startswith("key") else torch.arange(2 * DIM)]
                module.weight.copy_(turned * (16 if part.startswith("query") else 2 if part.startswith("key") else 1))
                module.bias.zero_()
    lengths = (1, 60, 60, 24, 300)
    x = normal(sum(lengths), 2 * DIM).to(dtype)

    def run(to: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        own, given = attention.to(to), x.to(to).requires_grad_()
        out = own(given, PackedBatch(lengths))
        return out, torch.autograd.grad(out, given, normal(*out.shape, seed=9).to(dtype).to(to))[0]

    exact, narrow = run(torch.float64), run(dtype)
    found = [relative_error(one, other) / ROUNDING[dtype] for one, other in zip(narrow, exact, strict=True)]
    assert max(found) < 8
