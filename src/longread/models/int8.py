"""A model whose linear layers compute in int8, for inference on a processor (dynamic quantization).

Weights are rounded once, with a scale for each output; inputs as they come, with a scale and a zero point for each
token (Dettmers et al. 2022, section 2), so that a text's answer does not depend on the texts beside it. Everything
between the linear layers, and the last one of the classifier, stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longread.attention import SelfAttention
from longread.errors import UserError
from longread.models.classifier import Classifier

LOWEST, HIGHEST = -128, 127  # of int8


class Int8Linear(nn.Module):
    """`nn.Linear` in int8: x [..., in] -> [..., out], in the type of x. It has no gradients."""

    scale: Tensor
    rounded: Tensor
    sums: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(weight.dtype).tiny).div_(HIGHEST)
        rounded = weight.div(scale).round_().to(torch.int8)
        self.register_buffer("rounded", rounded)  # [out, in]
        self.register_buffer("sums", rounded.sum(1, dtype=torch.int32))  # [out]: what a zero point of 1 adds
        self.register_buffer("scale", scale.flatten())  # [out]
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        low, high = tokens.aminmax(dim=1, keepdim=True)
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = ((high - low) / (HIGHEST - LOWEST)).clamp_(min=torch.finfo(x.dtype).tiny)
        zero = LOWEST - (low / scale).round_()
        rounded = (tokens / scale).add_(zero).round_().clamp_(LOWEST, HIGHEST).to(torch.int8)
        # The name has an underscore and is nevertheless what torchao computes with.
        whole = torch._int_mm(rounded, self.rounded.t()).sub_(zero.int() * self.sums)
        out = whole.to(x.dtype).mul_(scale).mul_(self.scale)
        return (out if self.bias is None else out.add_(self.bias)).view(*x.shape[:-1], -1)


@torch.no_grad()
def to_int8(model: Classifier) -> Classifier:
    """The model itself, its linear layers replaced. UserError for one that is on no processor."""
    device = model.embeddings.word.weight.device
    if device.type != "cpu":
        raise UserError(f"--precision int8: on a processor alone, and the device is {device}; give --device cpu")
    for block in model.blocks:
        attention: SelfAttention = block.attention  # type: ignore[assignment]
        for owner, names in ((attention, attention.int8_layers), (block, ("up", "down"))):
            for name in names:
                setattr(owner, name, Int8Linear(getattr(owner, name)))
    if model.head.dense is not None:
        model.head.dense = Int8Linear(model.head.dense)  # type: ignore[assignment]
    return model.eval()
