"""A pass over one long text makes no copy that it could do without: memory traffic is time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longread.models.classifier import build
from longread.models.config import ACTIVATIONS


class Operators(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("attention", ["dense", "performer"])
def test_one_sequence_is_never_put_together_from_parts(attention: str) -> None:
    model = build(attention, hidden_size=16, num_attention_heads=2, vocab_size=20, max_length=300).train()
    with Operators() as operators:
        model(torch.arange(300)[None] % 20).sum().backward()
    assert operators.calls["mm"] > 10  # the backward pass was watched too
    assert operators.calls["cat"] == 0


@pytest.mark.parametrize("hidden_act", ACTIVATIONS)
def test_inference_activates_in_place_and_answers_as_training_does(hidden_act: str) -> None:
    model = build(hidden_act=hidden_act, hidden_size=16, num_attention_heads=2, vocab_size=20, max_length=30).eval()
    ids = torch.arange(30)[None] % 20
    expected = model(ids).detach()
    with torch.inference_mode(), Operators() as operators:
        found = model(ids)
    assert torch.equal(found, expected)
    name = hidden_act.removesuffix("_tanh")
    assert operators.calls[f"{name}_"] == 2
    assert operators.calls[name] == 0
