"""The padded form computes what the packed pass does, for every mechanism, wherever the padding lies."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longread import build
from longread.errors import UserError
from longread.models.classifier import Classifier
from longread.models.padded import PaddedClassifier
from mechanisms import label, settings

LENGTHS = (1, 2, 5, 13, 31, 64, 97)


def sharp_model(attention: str, options: dict[str, Any], **config: Any) -> Classifier:
    """Weights so large that attention is far from even."""
    shape: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 12,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "max_length": 97,
    }
    model = build(attention, **(shape | {"type_vocab_size": 2} | options | config)).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
            else:
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.2)
        if model.relative_bias is not None:  # zeros, as it begins
            torch.nn.init.normal_(model.relative_bias.weight, generator=generator)
    return model


MODERN: dict[str, Any] = {
    "position_kind": "rotary", "rotary_base": (40.0, 9.0), "gated": True, "first_attention_norm": False,
    "attention_bias": False, "norm_bias": False, "feed_forward_bias": False, "head_activation": "gelu",
    "head_norm": True, "head_bias": False,
}  # fmt: skip
SKELETONS: list[tuple[str, dict[str, Any]]] = [  # what families add to the one encoder
    ("dense", {"embedding_size": 7, "norm_position": "post"}),
    ("dense local", MODERN | {"local_window": 6}),
    ("bigbird longformer", MODERN | {"block_size": 3, "num_random_blocks": 1, "attention_window": 6}),
    ("dense local longformer", {"relative_buckets": 12, "local_window": 6, "attention_window": 8}),
    ("linformer performer", {"relative_buckets": 12, "projection_size": 9}),
    ("performer", MODERN | {"num_features": 9}),
    ("linformer local", MODERN | {"projection_size": 9, "local_window": 6}),
    ("linformer", MODERN | {"projection_size": 9, "attention_bias": True}),
]


@pytest.mark.parametrize(("attention", "options"), [*settings(), *SKELETONS], ids=label)
@pytest.mark.parametrize("pooling", ["mean", "first"])
@torch.inference_mode()
def test_padded_equals_packed(attention: str, options: dict[str, Any], pooling: str) -> None:
    model = sharp_model(attention, options, pooling=pooling)
    padded = PaddedClassifier(model)
    generator = torch.Generator().manual_seed(1)
    for length in LENGTHS:
        ids, types = (torch.randint(high, (4, length), generator=generator) for high in (50, 2))
        mask = torch.rand(4, length, generator=generator) < torch.rand(4, 1, generator=generator)  # holes, too
        mask[0], mask[1] = True, False
        torch.testing.assert_close(padded(ids, mask.long(), types), model(ids, mask, types), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(padded(ids, mask.long()), model(ids, mask), rtol=1e-10, atol=1e-10)


@torch.inference_mode()
def test_padded_equals_packed_where_a_bias_is_large() -> None:
    """Its largest number may belong to an offset that a row beside a longer one has not."""
    model = sharp_model("linformer performer", {"relative_buckets": 12, "projection_size": 9})
    torch.nn.init.normal_(model.relative_bias.weight, std=500.0, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(50, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(40) < torch.tensor([[40], [5], [1]])
    torch.testing.assert_close(PaddedClassifier(model)(ids, mask.long()), model(ids, mask), rtol=1e-9, atol=1e-9)


def test_what_has_no_padded_form_is_refused() -> None:
    with pytest.raises(UserError, match="first_text"):
        PaddedClassifier(build("longformer", global_tokens="first_text"))
    with pytest.raises(UserError, match="positions"):
        PaddedClassifier(build("dense", pooling="positions"))
    with pytest.raises(UserError, match="convert the dense checkpoint to Longformer"):  # a BigBird cannot become one
        PaddedClassifier(build("dense bigbird", relative_buckets=8))
