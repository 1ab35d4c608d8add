"""Small layers and settings of every mechanism: what the contract and the encoder's tests run over."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longread.attention import ATTENTIONS, SelfAttention
from longread.ops import tiled
from longread.ops.packed import PackedBatch
from longread.ops.relative_bias import RelativeBias

# Settings under which a sequence of a few dozen tokens is far from full attention. A mechanism that is not named
# here is tested with its defaults alone.
SPARSE: dict[str, tuple[dict[str, Any], ...]] = {
    "longformer": ({"attention_window": 6}, {"attention_window": 2}),
    "bigbird": (
        {"block_size": 4, "num_random_blocks": 1},
        {"block_size": 3, "num_random_blocks": 2},
        {"block_size": 3, "num_random_blocks": 2, "random_block_plan": "huggingface"},
        {"block_size": 5, "num_random_blocks": 0},
        {"block_size": 1, "num_random_blocks": 1},
    ),
    "performer": (
        {"num_features": 7},
        {"num_features": 40},
        {"num_features": 7, "centred": True, "sharpness": 0.5},
        {"num_features": 7, "learned_features": True},
        {"num_features": 40, "centred": True, "learned_features": True},
    ),
    "linformer": ({"projection_size": 5}, {"projection_size": 1}),
    "local": ({"local_window": 6}, {"local_window": 2}),
}
SHAPES = ((12, 2, 6), (12, 3, 5), (7, 1, 8))  # hidden_size, heads, head_dim


def settings() -> list[tuple[str, dict[str, Any]]]:
    """Every mechanism with its defaults and with its sparse settings."""
    return [(name, options) for name in ATTENTIONS for options in ({}, *SPARSE.get(name, ()))]


def sparse_settings() -> list[tuple[str, dict[str, Any]]]:
    """Every mechanism once: under its first sparse settings, or its defaults where it has none."""
    return [(name, SPARSE.get(name, ({},))[0]) for name in ATTENTIONS]


def label(value: Any) -> str | None:
    """pytest's name of a parameter that is a dict of options."""
    return "-".join(str(v) for v in value.values()) or "defaults" if isinstance(value, dict) else None


def layer(
    name: str,
    options: dict[str, Any],
    *,
    shape: tuple[int, int, int] = SHAPES[1],
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    gain: float = 1.5,
    max_length: int = 800,
    dropout: float = 0.0,
    query_bias: float = 0.5,
    bias: bool = True,
    rotary_base: float | None = None,
    relative: bool = False,
    relative_std: float = 2.0,
) -> SelfAttention:
    """One attention layer with weights so large that its attention is far from even, and with biases."""
    hidden, heads, dim = shape
    kind = ATTENTIONS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        table = RelativeBias(12, heads, 40).to(dtype) if relative else None
        if table is not None:
            nn.init.normal_(table.weight, std=relative_std)
        own: dict[str, Any] = {
            "relative": table,
            "layer": 1,
            "seed": seed,
            "dropout": dropout,
            "bias": bias,
            "rotary_base": rotary_base,
        }
        made = kind(hidden, heads, dim, max_length, kind.Options(**options), **own)
        for part, module in made.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=gain * hidden**-0.5)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.normal_(module.bias, std=query_bias if part.startswith("query") else 0.5)
    if table is not None:
        made.table = table  # a part of the layer here, so that its gradient is compared with the others
    return made.to(dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def stacked_references(
    attention: SelfAttention,
    x: Tensor,
    lengths: Sequence[int],
    global_positions: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """What `forward` of a packed batch must be: the specification, sequence by sequence."""
    parts = x.split(list(lengths))
    if global_positions is None:
        return torch.cat([attention.reference(part)[0] for part in parts])
    chosen = zip(parts, global_positions, strict=True)
    return torch.cat([attention.reference(part, places)[0] for part, places in chosen])  # type: ignore[call-arg]


def with_gradients(module: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of x and of every parameter for a fixed random gradient of the output."""
    wanted = {"x": x, **dict(module.named_parameters())}
    grads = torch.autograd.grad(
        out, list(wanted.values()), normal(*out.shape, seed=99, dtype=out.dtype), allow_unused=True
    )
    found = {
        name: torch.zeros_like(tensor) if grad is None else grad
        for (name, tensor), grad in zip(wanted.items(), grads, strict=True)
    }
    return {"output": out.detach()} | found


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Each tensor within `tolerance` of the largest number in its counterpart (of 1 if smaller)."""
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        error = (actual[name].double() - wanted.double()).abs().max().item()
        bound = tolerance * max(1.0, wanted.abs().max().item())
        assert error <= bound, f"{name} is off by {error:.2e}, more than {bound:.2e}"


def relative_error(actual: Tensor, expected: Tensor) -> float:
    wanted = expected.detach().double()
    return float((actual.detach().double() - wanted).norm() / wanted.norm())


def accelerator_operators() -> AbstractContextManager[Any]:
    """Softmax attention by the operators that run on an accelerator, here on the processor."""
    return mock.patch.object(tiled, "_TiledAttention", SimpleNamespace(apply=tiled._attend_anywhere))


class Allocations(TorchDispatchMode):
    """Elements of the largest tensor that an operator made, bytes of all, and the operators' names."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.total_bytes = 0
        self.operators: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in known:
                size = tensor.untyped_storage().nbytes()
                self.largest = max(self.largest, size // tensor.element_size())
                self.total_bytes += size
        self.operators.add(func.__name__.split(".")[0])
        return out


def allocations(attention: SelfAttention, length: int, dtype: torch.dtype) -> tuple[Allocations, Allocations]:
    """What a sequence of `length` tokens allocates forward, and backward."""
    x = normal(length, attention.query.in_features, dtype=dtype).requires_grad_()
    with Allocations() as forward:
        out = attention(x, PackedBatch((length,)))
    with Allocations() as backward:
        out.sum().backward()
    return forward, backward
