"""A model whose linear layers compute in int8, for inference on a processor (dynamic quantization).

Weights are rounded once, with a scale for each output; inputs as they come, with a scale for each token (Dettmers et
al. 2022, section 2), so that a text's answer does not depend on the texts beside it. Everything between the linear
layers, and the last one of the classifier, stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longread.attention import SelfAttention
from longread.errors import UserError
from longread.models.classifier import Classifier

HIGHEST = 127  # of int8, on both sides


class Int8Linear(nn.Module):
    """`nn.Linear` in int8: x [..., in] -> [..., out], in the type of x. It has no gradients."""

    scale: Tensor
    rounded: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        rounded, scale = _rounded(linear.weight.detach())
        self.register_buffer("rounded", rounded)  # int8 [out, in]
        self.register_buffer("scale", scale.flatten())  # [out]
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        rounded, scale = _rounded(x.reshape(-1, x.shape[-1]))
        # The name has an underscore and is nevertheless what torchao computes with.
        out = torch._int_mm(rounded, self.rounded.t()).to(x.dtype).mul_(scale).mul_(self.scale)
        return (out if self.bias is None else out.add_(self.bias)).view(*x.shape[:-1], -1)


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[n, m] -> int8 [n, m] and what each row of it is to be multiplied with, [n, 1]."""
    scale = rows.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(rows.dtype).tiny).div_(HIGHEST)
    return rows.div(scale).round_().to(torch.int8), scale


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
