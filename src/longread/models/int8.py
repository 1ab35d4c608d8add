"""A model whose linear layers compute in int8, for inference on a processor (dynamic quantization)."""

from __future__ import annotations

import torch

from longread.attention import SelfAttention
from longread.errors import UserError
from longread.models.classifier import Classifier
from longread.ops.int8 import Int8Linear


@torch.no_grad()
def to_int8(model: Classifier) -> Classifier:
    """The model itself, in float32, its linear layers replaced. UserError for one that is on no processor."""
    device = model.embeddings.word.weight.device
    if device.type != "cpu":
        raise UserError(f"--precision int8: on a processor alone, and the device is {device}; give --device cpu")
    model.float()  # scales of 16 bits would move every weight
    for block in model.blocks:
        attention: SelfAttention = block.attention  # type: ignore[assignment]
        for owner, names in ((attention, attention.int8_layers), (block, ("up", "down"))):
            for name in names:
                setattr(owner, name, Int8Linear(getattr(owner, name)))
    if model.head.dense is not None:
        model.head.dense = Int8Linear(model.head.dense)  # type: ignore[assignment]
    return model.eval()
