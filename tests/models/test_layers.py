"""A block without gradients: fewer tensors than with them, the same numbers."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from longread.models import layers
from longread.models.classifier import Classifier, build
from longread.models.config import ACTIVATIONS
from longread.ops import linear
from longread.ops.linear import keep_bfloat16
from longread.ops.packed import PackedBatch
from mechanisms import relative_error

LENGTHS = (1, 5, 9, 9, 30)


def encoder(**config: Any) -> Classifier:
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
    model = build("dense", max_length=64, dropout=0.0, initializer_range=0.3, **sizes, **config).eval()
    with torch.no_grad():  # a bias that is left out would show
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model


def states(model: Classifier, gradients: bool = False, autocast: bool = False) -> list[Tensor]:
    tokens = torch.arange(sum(LENGTHS)) % 50
    with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16, autocast):
        return model.hidden_states(tokens, PackedBatch(LENGTHS))


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tokens", [1, 7, 1000])
def test_no_state_is_written_over(
    norm_position: str, gated: bool, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tokens the feed-forward layers take at once."""
    model = encoder(norm_position=norm_position, gated=gated)
    monkeypatch.setattr(layers, "PIECE", tokens * model.blocks[0].up.out_features)
    for without, with_gradients in zip(states(model), states(model, gradients=True), strict=True):
        assert relative_error(without, with_gradients) < 2e-6


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 in oneDNN here")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gated", [False, True])
def test_activations_behind_kept_weights_are_torchs(activation: str, gated: bool) -> None:
    """Rounded once where they were rounded twice: three layers of a rounding of 2^-9 each are within 8 * 2^-8."""
    for bias in (True, False):
        model = encoder(norm_position="pre", gated=gated, hidden_act=activation, feed_forward_bias=bias)
        exact, plain = states(model)[-1], states(model, autocast=True)[-1]
        keep_bfloat16(model)
        product = mock.Mock(side_effect=linear.product)
        with mock.patch.object(linear, "product", product):
            kept = states(model, autocast=True)[-1]
        fused = [call.args[3] for call in product.call_args_list if len(call.args) > 3 and call.args[3] != "none"]
        assert fused == [linear.FUSED[activation][0]] * 3
        assert relative_error(kept, exact) < max(8 * 2**-8, 1.2 * relative_error(plain, exact))
        tokens = torch.randn(7, 32)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # the layer itself gives all of its outputs
            whole = model.blocks[0].up(tokens)
        torch.testing.assert_close(whole.float(), model.blocks[0].up(tokens), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("inside", [False, True])
def test_dropout_that_is_switched_on_by_itself_drops(inside: bool) -> None:
    """As Monte Carlo dropout does: a model that answers, with its dropout training."""
    model = encoder(dropout_inside=inside)
    for block in model.blocks:
        for part in (block.dropout, block.inner_dropout):
            part.rate = 0.5
            part.train()
    assert not torch.equal(states(model)[-1], states(model)[-1])
