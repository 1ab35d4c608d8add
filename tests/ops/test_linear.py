"""`ops.linear` is `nn.functional.linear`, whichever library computes it."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from longread.ops import linear as module
from longread.ops.linear import Linear, keep_bfloat16, linear, mm

OPERATOR = "mkldnn::_linear_pointwise"


@pytest.fixture(autouse=True)
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN for every shape, on any processor."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)


def operators(function: object) -> set[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function()  # type: ignore[operator]
    return {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("shape", [(1,), (7,), (130,), (3, 11)])
@pytest.mark.parametrize("layout", ["plain", "every second", "turned"])
def test_it_is_the_same_product_with_the_same_gradients(shape: tuple[int, ...], layout: str) -> None:
    torch.manual_seed(len(shape))
    for (inner, outer), has_bias in itertools.product(((5, 3), (64, 192), (1, 1)), (True, False)):
        x = {
            "plain": torch.randn(*shape, inner),
            "every second": torch.randn(*shape, 2 * inner)[..., ::2],
            "turned": torch.randn(inner, *shape).movedim(0, -1),
        }[layout].requires_grad_()
        weight = torch.randn(outer, inner, requires_grad=True)
        bias = torch.randn(outer, requires_grad=True) if has_bias else None
        inputs = [t for t in (x, weight, bias) if t is not None]
        ours, theirs = linear(x, weight, bias), nn.functional.linear(x, weight, bias)
        assert ours.grad_fn is not None and "_Product" in type(ours.grad_fn).__name__
        for grad in (torch.randn_like(theirs), torch.randn(*shape, 1).expand_as(theirs)):
            found = torch.autograd.grad(ours, inputs, grad, retain_graph=True)
            wanted = torch.autograd.grad(theirs, inputs, grad, retain_graph=True)
            torch.testing.assert_close((ours, *found), (theirs, *wanted), rtol=1e-5, atol=1e-4)


class Weights(TorchDispatchMode):
    """The weights that oneDNN gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "_linear_pointwise":
            self.seen.append(args[1])
        return func(*args, **(kwargs or {}))


def test_onednn_gets_no_slice_of_a_wider_matrix_as_weights() -> None:
    """It would take thousands of times as long."""
    wide, own = torch.randn(9, 16), torch.randn(6, 8, requires_grad=True)
    with Weights() as weights:
        linear(wide[:, :8], own).sum().backward()  # for the weights' gradient x itself is the second factor
        mm(wide[:, ::2], wide[:8, 3:])
        linear(own, wide[:1, :8].expand(5, 8))
    assert len(weights.seen) == 4
    for weight in weights.seen:
        assert weight.is_contiguous() or weight.t().is_contiguous()


def test_gradients_may_be_differentiated_again() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(6, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)

    def penalty(function: object) -> tuple[torch.Tensor, ...]:
        (grad,) = torch.autograd.grad(function(x, weight).tanh().sum(), x, create_graph=True)  # type: ignore[operator]
        return torch.autograd.grad(grad.square().sum(), (x, weight))

    torch.testing.assert_close(penalty(linear), penalty(nn.functional.linear))


def test_only_products_that_gain_go_to_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Linear(8, 8), torch.randn(4, 8)
    with torch.no_grad():
        assert OPERATOR in operators(lambda: layer(x))
        assert OPERATOR not in operators(lambda: Linear(8, 8).double()(x.double()))
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        monkeypatch.setattr(module, "LEAST", 4 * 8 * 8 + 1)
        assert OPERATOR not in operators(lambda: layer(x))
        monkeypatch.setattr(module, "LEAST", 1)
        monkeypatch.setattr(module, "onednn_is_faster", lambda: False)
        assert OPERATOR not in operators(lambda: layer(x))


def test_an_exported_graph_has_the_operator_that_every_runtime_knows() -> None:
    graph = torch.export.export(Linear(8, 8), (torch.randn(4, 8),)).graph
    called = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert called == {"aten.linear.default"}


def bfloat16(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        out: torch.Tensor = layer(x)
    return out.float()


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 in oneDNN here")
@pytest.mark.parametrize("has_bias", [True, False])
def test_weights_kept_in_bfloat16_are_those_of_autocast(has_bias: bool) -> None:
    torch.manual_seed(0)
    plain, kept = Linear(48, 32, bias=has_bias), Linear(48, 32, bias=has_bias)
    kept.load_state_dict(plain.state_dict())
    keep_bfloat16(nn.Sequential(kept))
    for shape in ((1, 48), (7, 48), (3, 50, 48)):
        x = torch.randn(shape)
        torch.testing.assert_close(bfloat16(kept, x), bfloat16(plain, x), rtol=1e-2, atol=1e-2)
    x = torch.randn(7, 48)
    assert "aten::copy_" in operators(lambda: bfloat16(plain, x.bfloat16()))
    assert OPERATOR in operators(lambda: bfloat16(kept, x))
    assert OPERATOR not in operators(lambda: bfloat16(copy.deepcopy(kept), x))
    assert set(kept.state_dict()) == set(plain.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert kept(x.requires_grad_()).grad_fn is not None
    with torch.no_grad():
        kept.weight.mul_(2)  # what was kept is of the weights before
        plain.weight.mul_(2)
    torch.testing.assert_close(bfloat16(kept, x), bfloat16(plain, x), rtol=0, atol=0)


def test_torchs_counter_counts_it() -> None:
    a, b = torch.randn(6, 5), torch.randn(5, 4)
    with FlopCounterMode(display=False) as counter:
        torch.testing.assert_close(mm(a, b), a @ b)
    assert counter.get_total_flops() == 2 * (2 * 6 * 5 * 4)


def test_who_made_the_processor_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    for name, wide, wanted in (("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel(R) Xeon(R)", True, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda n=name, w=wide: {"cpu_name": n, "avx512_f": w})
        assert module.onednn_is_faster.__wrapped__() == wanted
