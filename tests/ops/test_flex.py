"""What FlexAttention is asked for. Its kernel runs on CUDA alone: torch's plain form of it answers here.

That has no gradients on a processor, so a stand-in gives those; and both take the function and not the blocks that are
listed for the kernel, which are held against the function.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from test_varlen import by_definition
from torch import Tensor
from torch.nn.attention import varlen as torchs
from torch.nn.attention.flex_attention import create_mask

from longread.inference.collate import Usage
from longread.models.classifier import build
from longread.ops import flex, varlen
from longread.ops.packed import PackedBatch
from mechanisms import assert_equal, label, layer, normal, with_gradients

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("longformer", {"attention_window": 6}),
    ("longformer", {"attention_window": 40}),
    ("bigbird", {"block_size": 3, "num_random_blocks": 2}),
    ("bigbird", {"block_size": 3, "num_random_blocks": 2, "random_block_plan": "huggingface"}),
    ("bigbird", {"block_size": 5, "num_random_blocks": 0}),
]
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=5)


def by_its_functions(query: Tensor, key: Tensor, value: Tensor, *, score_mod: Any, block_mask: Any) -> Tensor:
    """torch.nn.attention.flex_attention.flex_attention, as its documentation says it: [1, H, T, D] each."""
    place = torch.arange(query.shape[2])
    where = torch.zeros(1, dtype=torch.long), torch.arange(query.shape[1])[:, None, None], place[:, None], place
    scores = query[0] @ key[0].mT / query.shape[3] ** 0.5
    scores = scores if score_mod is None else score_mod(scores, *where)
    return (torch.softmax(scores.masked_fill(~block_mask.mask_mod(*where), -torch.inf), dim=-1) @ value[0])[None]


@pytest.mark.parametrize("rotary", [None, 100.0])
@pytest.mark.parametrize(("name", "options"), KINDS, ids=label)
def test_the_kernel_is_asked_for_what_the_groups_compute(
    name: str, options: dict[str, Any], rotary: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = layer(name, options, shape=(12, 2, 6), rotary_base=rotary)
    pattern_is_plain = options.get("random_block_plan") != "huggingface"

    def both(lengths: tuple[int, ...], chosen: Any = None) -> None:
        x = normal(sum(lengths), 12).requires_grad_()
        grouped = with_gradients(attention, x, attention(x, PackedBatch(lengths, global_positions=chosen)))
        with monkeypatch.context() as patched:
            patched.setattr(flex, "has_kernel", lambda device, dtype, head_dim, dropout: True)
            patched.setattr(torchs, "varlen_attn", by_definition)
            with torch.no_grad():
                plain = attention(x, PackedBatch(lengths, global_positions=chosen))
            patched.setattr(flex, "_plain", lambda: by_its_functions)
            packed = with_gradients(attention, x, attention(x, PackedBatch(lengths, global_positions=chosen)))
        near = 1e-10 if pattern_is_plain else 1e-6  # the logarithm of how often a block counts is a float32
        assert_equal(packed, grouped, near)
        assert (plain - grouped["output"]).abs().max() < near

    both((1, 3, 3, 17, 40, 41, 150))
    both((2, 4))  # every sequence has full attention
    if name == "longformer":
        both((50, 30, 60), [(0, 7, 49), (), (59,)])


@pytest.mark.parametrize(("name", "options"), KINDS, ids=label)
@given(lengths=LENGTHS, block=st.sampled_from([4, 16, 128]))
@budget(max_examples=12, derandomize=True, deadline=None, database=None)
def test_the_blocks_listed_are_those_where_the_pattern_lies(
    name: str, options: dict[str, Any], lengths: list[int], block: int
) -> None:
    batch, attention = PackedBatch(lengths), layer(name, options, shape=(12, 2, 6))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flex, "BLOCK", block)
        if name == "longformer":
            chosen = [(length // 2, length - 1) for length in lengths]
            pattern = flex.window_and_global(batch, attention.side, chosen)  # type: ignore[arg-type]
        else:
            pattern = flex.by_blocks(batch, attention.options.block_size, attention.pattern.times)  # type: ignore[arg-type]
    listed = pattern.blocks.to_dense().bool()
    total = batch.num_tokens
    seen = create_mask(pattern.blocks.mask_mod, 1, listed.shape[1], total, total, "cpu")
    missing = (-total) % block
    tiles = torch.nn.functional.pad(seen, (0, missing, 0, missing)).unflatten(3, (-1, block)).unflatten(2, (-1, block))
    assert torch.equal(listed, tiles.any(-1).any(3))


def test_the_kernel_is_left_alone_where_it_does_not_exist_or_does_not_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not flex.has_kernel(torch.device("cpu"), torch.bfloat16, 64, 0.0)
    monkeypatch.setattr(varlen, "is_there", lambda device, dtype, head_dim, dropout: True)
    monkeypatch.setattr(flex.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(flex, "_plain", lambda: by_its_functions)
    kernels = {
        torch.float32: lambda *given, **more: 2 * by_its_functions(*given, **more),
        torch.float64: by_its_functions,
    }
    for dtype, kernel in kernels.items():
        monkeypatch.setattr(flex, "_compiled", lambda kernel=kernel: kernel)
        assert flex.has_kernel(torch.device("cpu"), dtype, 64, 0.0) == (kernel is by_its_functions)
    assert "FlexAttention does not work here" in caplog.text
    flex._is_right.cache_clear()


def test_a_record_says_which_kernels_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "has_kernel", lambda device, dtype, head_dim, dropout: True)
    monkeypatch.setattr(flex, "_plain", lambda: by_its_functions)
    batch, usage = PackedBatch((300,)), Usage()
    model = build("longformer", attention_window=16, hidden_size=16, num_attention_heads=2, max_length=300).eval()
    model.classify(torch.zeros(300, dtype=torch.long), batch)
    usage.add(model, batch)
    assert usage.kernels == usage.copy().kernels == {"flex_attention"}
