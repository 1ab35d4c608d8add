"""A linear layer that takes the faster of torch's two libraries for products in float32, and keeps what it casts.

torch computes `nn.functional.linear` in float32 with MKL, which on processors of other makers than Intel leaves half of
a vector of 512 bits unused. oneDNN, which torch has too and uses in bfloat16, does not: about twice as fast there, the
forward pass and both gradients. Both compute the same sums in another order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

# oneDNN makes code for each shape, half a millisecond: below so many multiplications a shape is not worth it.
LEAST = 1 << 22
# What oneDNN computes behind a product, by our names of activations: its name and the formula.
FUSED: dict[str | None, tuple[str, str]] = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "tanh": ("tanh", ""),
}


class Linear(nn.Linear):
    """`nn.Linear`: the same parameters and the same function, x [..., in] -> [..., out]."""

    parts = 1  # in which its outputs are used, equal ones
    _kept: tuple[Any, list[tuple[Tensor, Tensor | None]]] | None = None

    def forward(self, input: Tensor) -> Tensor:
        found = self.kept_parts(input)
        if found is None:
            return linear(input, self.weight, self.bias)
        return found[0] if len(found) == 1 else torch.cat(found, -1)

    def kept_parts(self, x: Tensor, activation: str | None = None) -> list[Tensor] | None:
        """The outputs in parts, each a tensor of its own, from weights that were kept; None where they are not used.

        activation: of the first part, before it is rounded; one of FUSED.
        """
        if self._kept is None or not _in_bfloat16_without_gradients() or self._kept[0] != self._written():
            return None
        x, attributes = x.to(torch.bfloat16), [FUSED[activation]] + [FUSED[None]] * (self.parts - 1)
        return [product(x, *own, *fused) for own, fused in zip(self._kept[1], attributes, strict=True)]

    def keep_bfloat16(self) -> None:
        """Holds a copy of the weights in bfloat16 and in the order in which oneDNN reads them.

        A pass without gradients under autocast then casts and orders nothing. Weights that are changed later are used
        as they are then. It is no part of the state, and no copy of the layer has it.
        """
        weights = self.weight.detach().bfloat16().chunk(self.parts)
        biases = [None] * self.parts if self.bias is None else self.bias.detach().bfloat16().chunk(self.parts)
        ordered = [torch.ops.mkldnn._reorder_linear_weight(weight) for weight in weights]
        self._kept = (self._written(), list(zip(ordered, biases, strict=True)))

    def _written(self) -> tuple[int, ...]:
        """Another one after each change of the parameters."""
        return tuple(n for p in self.parameters() for n in (p.data_ptr(), p._version))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}


def keep_bfloat16(model: nn.Module) -> None:
    """`Linear.keep_bfloat16` of each layer, on processors where oneDNN computes in bfloat16; elsewhere nothing.

    For a model that only answers: half as much memory again as the weights of its linear layers.
    """
    wide = torch.backends.mkldnn.is_available() and torch.cpu.get_capabilities().get("avx512_f")
    if not wide or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    for layer in model.modules():
        if isinstance(layer, Linear) and layer.weight.device.type == "cpu" and not layer.weight.is_inference():
            layer.keep_bfloat16()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., in], weight [out, in], bias [out] -> [..., out], as `nn.functional.linear`."""
    if not _for_onednn(x, weight):
        return nn.functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Product.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]
    return product(x, weight, bias)


def mm(a: Tensor, b: Tensor) -> Tensor:
    """a [n, m] @ b [m, p] -> [n, p], under the same choice; views of any strides."""
    return linear(a, b.t())


def _in_bfloat16_without_gradients() -> bool:
    if torch.is_grad_enabled() or not torch.is_autocast_enabled("cpu"):
        return False
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and not torch.compiler.is_compiling()


def _for_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # a graph has the operator that every runtime knows, at every size
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= LEAST
        and x.device.type == weight.device.type == "cpu"
        and onednn_is_faster()
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def onednn_is_faster() -> bool:
    """Whether this processor has vectors of 512 bits that MKL does not use: it asks who made the processor."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    described = torch.cpu.get_capabilities()
    return bool(described.get("avx512_f")) and "intel" not in str(described.get("cpu_name")).lower()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, fused: str = "none", formula: str = "") -> Tensor:
    """oneDNN's, whatever is faster: x [..., in], weight [out, in] -> [..., out]."""
    # A slice of a wider matrix would take thousands of times as long: oneDNN has no fast code for such weights.
    if not (weight.is_mkldnn or weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()
    # The operator that torch's own compiler puts in the place of a linear layer; it has no public name.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, fused, [], formula)  # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    """The same with gradients, which are themselves products and may be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            linear(grad, weight.t()) if of_x else None,
            linear(rows.t(), x.flatten(0, -2).t()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


if torch.backends.mkldnn.is_available():

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)  # type: ignore[untyped-decorator]
    def _operations(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        """Of these shapes, for torch's counter."""
        return 2 * math.prod(x) * weight[0]
