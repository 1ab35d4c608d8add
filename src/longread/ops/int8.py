"""Linear layers in int8, for inference on a processor (dynamic quantization).

Weights are rounded once, with a scale for each output; inputs as they come, with a middle and a scale for each token
(Dettmers et al. 2022, section 2), so that a text's answer does not depend on the texts beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

HIGHEST = 127  # of int8; the lowest is its negative, so that both sides of the middle are alike
PIECE = 256  # tokens at once: what one pass over memory writes is still in a cache when the next one reads it
HALF = 128  # of uint8's range


class Int8Linear(nn.Module):
    """`nn.Linear` in int8: x [..., in] -> [..., out], in the type of x. It has no gradients.

    A token is middle + scale * (whole numbers), and so its product with the weights is scale * (a product of whole
    numbers) + middle * (the sum of each output's weights).
    """

    scale: Tensor
    rounded: Tensor
    sums: Tensor
    # `rounded` as oneDNN reads it, and what it was made of: no part of the state, and no copy has it.
    _ordered: tuple[Any, Tensor] | None = None

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
        if self.rounded.device.type == "cpu" and onednn_has_int8():
            self._in_order()  # here, as several threads may meet in the first pass

    def forward(self, x: Tensor) -> Tensor:
        return multiply(x, [self])[0]

    def product(self, rounded: Tensor) -> Tensor:
        """rounded int8 [n, in] -> float32 [n, out], the weights' scale in it."""
        if torch.compiler.is_compiling() or rounded.device.type != "cpu" or not onednn_has_int8():
            # The name has an underscore and is nevertheless what torchao computes with.
            return torch._int_mm(rounded, self.rounded.t()) * self.scale
        # The operator that torch's own compiler puts in the place of a quantized layer: it scales its sums before it
        # writes them. For inputs with a sign it is a thousand times slower, so half the range is added to them.
        unsigned = rounded.view(torch.uint8).bitwise_xor(HALF)
        weights = self._in_order(), self.scale.float(), torch.zeros_like(self.scale, dtype=torch.int64)
        plain: tuple[Any, ...] = None, 1.0, 0, torch.float32, "none", [], ""
        made: Tensor = torch.ops.onednn.qlinear_pointwise(unsigned, 1.0, HALF, *weights, *plain)
        return made

    def _in_order(self) -> Tensor:
        written = self.rounded.data_ptr(), None if self.rounded.is_inference() else self.rounded._version
        if self._ordered is None or self._ordered[0] != written:
            self._ordered = written, torch.ops.onednn.qlinear_prepack(self.rounded, None)
        return self._ordered[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_ordered"}


@torch.no_grad()
def multiply(x: Tensor, layers: Sequence[Int8Linear]) -> list[Tensor]:
    """What each layer makes of x [..., in], which is rounded once for all of them."""
    tokens = x.reshape(-1, x.shape[-1])
    made = [tokens.new_empty(tokens.shape[0], layer.out_features) for layer in layers]
    at_once = max(1, tokens.shape[0]) if torch.compiler.is_compiling() else PIECE
    for part, *places in zip(tokens.split(at_once), *(out.split(at_once) for out in made), strict=True):
        # `aminmax` says both in one pass, but takes far longer: it uses no vectors.
        high, low = part.amax(1, keepdim=True), part.amin(1, keepdim=True)
        middle = (high + low).div_(2)
        scale = (high - low).div_(2 * HIGHEST).clamp_(min=torch.finfo(part.dtype).tiny)
        rounded = part.sub(middle).div_(scale).round_().to(torch.int8)
        for layer, out in zip(layers, places, strict=True):
            torch.mul(layer.product(rounded), scale, out=out).addcmul_(middle, layer.sums)
            if layer.bias is not None:
                out.add_(layer.bias)
    return [out.view(*x.shape[:-1], out.shape[-1]) for out in made]


def through(x: Tensor, *layers: nn.Module) -> list[Tensor]:
    """What each layer makes of x: in int8 as `multiply`, otherwise one after the other."""
    rounding = [layer for layer in layers if isinstance(layer, Int8Linear)]
    return multiply(x, rounding) if len(rounding) == len(layers) else [layer(x) for layer in layers]


@cache
def onednn_has_int8() -> bool:
    """Whether oneDNN has fast code for uint8 times int8 on this processor."""
    return torch.backends.mkldnn.is_available() and bool(torch.cpu.get_capabilities().get("avx512_vnni"))
