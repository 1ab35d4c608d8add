"""A model whose linear layers compute in int8, for inference on a processor (dynamic quantization).

Weights are rounded once, with a scale for each output; inputs as they come, with a middle and a scale for each token
(Dettmers et al. 2022, section 2), so that a text's answer does not depend on the texts beside it. Everything between
the linear layers, and the last one of the classifier, stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longread.attention import SelfAttention
from longread.errors import UserError
from longread.models.classifier import Classifier

HIGHEST = 127  # of int8; the lowest is its negative, so that both sides of the middle are alike
PIECE = 256  # tokens at once: what one pass over memory writes is still in a cache when the next one reads it


class Int8Linear(nn.Module):
    """`nn.Linear` in int8: x [..., in] -> [..., out], in the type of x. It has no gradients.

    A token is middle + scale * (whole numbers), and so its product with the weights is scale * (a product of whole
    numbers) + middle * (the sum of each output's weights).
    """

    scale: Tensor
    rounded: Tensor
    sums: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(weight.dtype).tiny).div_(HIGHEST)
        rounded = weight.div(scale).round_().to(torch.int8)
        self.register_buffer("rounded", rounded)  # [out, in]
        self.register_buffer("sums", (rounded.sum(1, dtype=torch.int32) * scale.flatten())[None])  # [1, out]
        self.register_buffer("scale", scale.flatten())  # [out]
        self.bias = linear.bias
        self.out_features = linear.out_features

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        out = tokens.new_empty(tokens.shape[0], self.rounded.shape[0])
        at_once = max(1, tokens.shape[0]) if torch.compiler.is_compiling() else PIECE
        for part, place in zip(tokens.split(at_once), out.split(at_once), strict=True):
            self._multiply(part, place)
        return out.view(*x.shape[:-1], self.out_features)

    def _multiply(self, tokens: Tensor, out: Tensor) -> None:
        """tokens [n, in] -> written to out [n, out]."""
        # `aminmax` says both in one pass, but takes far longer: it uses no vectors.
        high, low = tokens.amax(1, keepdim=True), tokens.amin(1, keepdim=True)
        middle = (high + low).div_(2)
        scale = (high - low).div_(2 * HIGHEST).clamp_(min=torch.finfo(tokens.dtype).tiny)
        rounded = tokens.sub(middle).div_(scale).round_().to(torch.int8)
        # The name has an underscore and is nevertheless what torchao computes with.
        torch.mul(torch._int_mm(rounded, self.rounded.t()), self.scale, out=out)
        out.mul_(scale).addcmul_(middle, self.sums)
        if self.bias is not None:
            out.add_(self.bias)


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
