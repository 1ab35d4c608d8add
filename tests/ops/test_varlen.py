"""What a variable-length kernel is asked for. The kernel itself runs on CUDA alone: a plain stand-in answers here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen as torchs

from longread.ops import varlen
from longread.ops.packed import PackedBatch, to_device
from mechanisms import assert_equal, layer, normal, with_gradients

LENGTHS = (1, 3, 3, 17, 40, 41)


def by_definition(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int, *,
    window_size: tuple[int, int] = (-1, -1), **more: Any,
) -> Tensor:  # fmt: skip
    """torch.nn.attention.varlen.varlen_attn, as its documentation says it."""
    assert not more and cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    parts = []
    for begin, end in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        assert 0 < end - begin <= min(max_q, max_k)
        q, k, v = (t[begin:end].transpose(0, 1) for t in (query, key, value))
        offset = torch.arange(end - begin) - torch.arange(end - begin)[:, None]
        left, right = (side if side >= 0 else end for side in window_size)
        seen = (offset >= -left) & (offset <= right)
        parts.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(0, 1))
    assert cu_seq_q[-1] == len(query)
    return torch.cat(parts)


@pytest.mark.parametrize("rotary", [None, 100.0])
@pytest.mark.parametrize(("name", "options"), [("dense", {}), ("local", {"local_window": 6})])
def test_the_kernel_is_asked_for_what_the_groups_compute(
    name: str, options: dict[str, Any], rotary: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention, x = layer(name, options, shape=(12, 2, 6), rotary_base=rotary), normal(sum(LENGTHS), 12).requires_grad_()
    grouped = with_gradients(attention, x, attention(x, PackedBatch(LENGTHS)))
    monkeypatch.setattr(varlen, "has_kernel", lambda query, dropout: True)
    monkeypatch.setattr(torchs, "varlen_attn", by_definition)
    assert_equal(with_gradients(attention, x, attention(x, PackedBatch(LENGTHS))), grouped, 1e-11)


def test_the_kernel_is_left_alone_where_it_does_not_exist() -> None:
    query = torch.zeros(4, 2, 8, dtype=torch.bfloat16)
    assert not varlen.has_kernel(query, 0.0)
    import inspect

    taken = inspect.signature(torchs.varlen_attn).parameters
    given = inspect.signature(by_definition).parameters
    assert list(taken)[:7] == list(given)[:7] and "window_size" in taken


def test_what_a_card_needs_is_pinned_and_copied_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: (done.append("pinned"), self)[1])
    monkeypatch.setattr(Tensor, "to", lambda self, *to, **how: (done.append((*map(str, to), how)), self)[1])
    to_device(torch.zeros(3), torch.device("cuda"))
    assert done == ["pinned", ("cuda", {"non_blocking": True})]
