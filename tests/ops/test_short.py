"""Attention of short sequences in bfloat16 without gradients is that of the references, whoever lies beside whom."""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from longread.ops import short
from longread.ops.packed import PackedBatch
from mechanisms import layer, normal, relative_error, stacked_references

CASES: list[tuple[str, dict[str, Any]]] = [
    ("dense", {}),
    ("dense", {"relative": True}),
    ("dense", {"rotary_base": 30.0, "bias": False}),
    ("local", {"rotary_base": 30.0}),
    ("local", {"relative": True}),
]


def some_lengths(seed: int) -> list[int]:
    """Of a few sequences: equal, sorted and in any order."""
    draw = random.Random(seed)
    found = [draw.randint(1, 64) for _ in range(draw.randint(1, 9))] + [draw.randint(1, 64)] * draw.randint(0, 3)
    return sorted(found) if seed % 2 else found


@pytest.mark.parametrize(("name", "more"), CASES)
@pytest.mark.parametrize("gain", [0.7, 1.5], ids=["small", "large weights"])
def test_a_pass_without_gradients_is_the_reference(name: str, more: dict[str, Any], gain: float) -> None:
    """A rounding is 2^-9; some follow each other and partly cancel."""
    made: dict[str, Any] = {"shape": (32, 2, 16), "gain": gain, "dtype": torch.bfloat16, **more}
    half, exact = layer(name, {}, **made), layer(name, {}, **made).double()
    for seed in range(12):
        lengths = some_lengths(seed)
        x = normal(sum(lengths), 32, seed=seed, dtype=torch.bfloat16)
        with torch.no_grad(), mock.patch.object(short, "attend", side_effect=short.attend) as ran:
            out = half(x, PackedBatch(lengths))
            assert ran.call_count == 1
            assert relative_error(out.double(), stacked_references(exact, x.double(), lengths)) < 8 * 2**-8


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("lengths", [(40, 40, 40), (3, 9, 33, 40)], ids=["equal", "padded"])
def test_scores_are_not_rounded(lengths: tuple[int, ...], biased: bool, autocast: bool) -> None:
    """Of 8 bits, a score of 200 would be off by a half, and exp of it by as much."""
    batch, heads = PackedBatch(lengths), 2
    query, key, value = (normal(batch.num_tokens, heads, 16, seed=s).bfloat16() for s in range(3))
    query = query * 50
    few = {p.sequences * p.longest**2 <= short.FEW_PAIRS for p in short.planned(batch, heads)}
    assert few == {lengths[0] < 40}  # both kinds of the second product
    bias = normal(heads, 40, 40, seed=4).float() * 20 if biased else None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, autocast):
        out = short.attend(query, key, value, batch, bias)
    wide = [[t.double().transpose(0, 1) for t in part.split(lengths)] for part in (query, key, value)]
    largest = 0.0
    for q, k, v, found in zip(*wide, out.split(lengths), strict=True):
        n = q.shape[1]
        scores = q @ k.mT / 4 + (0 if bias is None else bias[:, :n, :n])
        largest = max(largest, float(scores.abs().max()))
        assert relative_error(found.double().transpose(0, 1), scores.softmax(-1) @ v) < 2 * 2**-8
    assert largest > 150


@pytest.mark.parametrize(("name", "more"), CASES)
def test_a_sequence_of_wrong_numbers_spoils_no_other(name: str, more: dict[str, Any]) -> None:
    half, lengths = layer(name, {}, shape=(32, 2, 16), dtype=torch.bfloat16, **more), (5, 9, 9, 11, 12)
    x = normal(sum(lengths), 32, dtype=torch.bfloat16)
    with torch.no_grad():
        right = half(x, PackedBatch(lengths)).split(lengths)
        for spoiled in range(len(lengths)):
            parts = list(x.split(lengths))
            parts[spoiled] = torch.full_like(parts[spoiled], torch.nan)
            found = half(torch.cat(parts), PackedBatch(lengths)).split(lengths)
            assert found[spoiled].isnan().all()
            assert all(torch.equal(found[i], right[i]) for i in range(len(lengths)) if i != spoiled)


def test_pieces_hold_every_token_once_and_little_padding() -> None:
    for seed in range(40):
        lengths, heads = some_lengths(seed) * (1 + seed % 5), 1 + seed % 3
        pieces = short.planned(PackedBatch(lengths), heads)
        rows = torch.arange(sum(lengths) * heads).split([piece.tokens * heads for piece in pieces])
        for piece, own in zip(pieces, rows, strict=True):
            assert torch.equal(piece.slots[piece.heads], own)
            slots = piece.sequences * piece.longest**2
            assert piece.sequences == 1 or slots <= short.PAIRS
            assert piece.slots.min() >= own[0] and piece.slots.max() <= own[-1]
        padding = sum(p.sequences * p.longest**2 for p in pieces) - sum(n * n for n in lengths)
        assert padding <= short.PADDED_PAIRS * len(pieces)


@pytest.mark.parametrize("why", ["gradients", "dropout", "float32", "long", "far"])
def test_others_are_computed_as_before(why: str) -> None:
    lengths = [3, short.LONGEST + 1] if why == "long" else [3, 90] if why == "far" else [3, 20]
    made = {"shape": (32, 2, 16), "dtype": torch.float32 if why == "float32" else torch.bfloat16}
    attention = layer("local" if why == "far" else "dense", {}, dropout=0.1 if why == "dropout" else 0.0, **made)
    x = normal(sum(lengths), 32).to(made["dtype"])
    with torch.set_grad_enabled(why == "gradients"), mock.patch.object(short, "attend") as ran:
        out: Tensor = attention(x, PackedBatch(lengths))
    assert out.shape == x.shape
    assert not ran.called
