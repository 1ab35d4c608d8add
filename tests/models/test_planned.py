"""A pass over a planned batch asks the device for nothing: no number, no index whose size depends on numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longread.models.classifier import Classifier, build
from longread.ops.packed import PackedBatch
from mechanisms import label, settings

LENGTHS = (0, 1, 9, 9, 40, 17, 130, 300, 300, 290)
# What answers on the processor with a number, or with a tensor whose shape is one.
QUESTIONS = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero", "equal"}
FIRST_TEXT = {"attention_window": 6, "global_tokens": "first_text"}
ROTARY: dict[str, Any] = {"position_kind": "rotary", "num_attention_heads": 2, "local_window": 6, "gated": True}
RELATIVE: dict[str, Any] = {"relative_buckets": 8, "local_window": 6, "block_size": 4}
CASES = [
    *settings(),
    ("dense local bigbird", RELATIVE),
    ("linformer performer", {"relative_buckets": 8, "num_hidden_layers": 2, "projection_size": 5}),
    ("longformer", FIRST_TEXT),
    ("longformer local", ROTARY | {"attention_window": 6}),
]


class NoQuestions(TorchDispatchMode):
    """Refuses operators that ask the device, and copies from the processor to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        assert name not in QUESTIONS, f"{name} asks the device"
        if name.startswith("index") and len(args) > 1 and isinstance(args[1], list | tuple):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{name} by a bool tensor"
        out = func(*args, **(kwargs or {}))
        given, made = (
            {t.device.type for t in tree_leaves(tree) if isinstance(t, Tensor) and t.dim()} for tree in (args, out)
        )
        assert made <= given or not given, f"{name} copies from {given} to {made}"
        return out


@contextlib.contextmanager
def no_questions() -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a number was asked for, or a tensor made from a list")

    with contextlib.ExitStack() as stack:
        for name in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero"):
            stack.enter_context(mock.patch.object(Tensor, name, refuse))
        for name in ("tensor", "as_tensor"):
            stack.enter_context(mock.patch.object(torch, name, refuse))
        stack.enter_context(NoQuestions())
        yield


def small(name: str, options: dict[str, Any], **config: Any) -> Classifier:
    sizes = {"vocab_size": 50, "hidden_size": 12, "num_attention_heads": 3, "max_length": 400, "type_vocab_size": 2}
    return build(name, **(sizes | options | config))


def batch_on(device: str, lengths: tuple[int, ...] = LENGTHS) -> PackedBatch:
    return PackedBatch(lengths, torch.device(device), first_text_lengths=[n // 3 for n in lengths])


def run(model: Classifier, batch: PackedBatch, gradients: bool, autocast: bool) -> Tensor:
    device = batch.device
    tokens = torch.zeros(batch.num_tokens, dtype=torch.long, device=device)
    model.plan(batch, torch.bfloat16 if autocast else None, gradients)
    cast = torch.autocast("cpu", torch.bfloat16, autocast)
    with no_questions(), cast, torch.set_grad_enabled(gradients):
        logits = model.classify(tokens, batch, tokens)
        if gradients:
            logits.float().square().sum().backward()
    return logits


@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
@pytest.mark.parametrize("gradients", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_a_planned_pass_asks_for_nothing(name: str, options: dict[str, Any], gradients: bool, autocast: bool) -> None:
    model = small(name, options, attention_dropout=0.0 if "performer" in name else 0.1).train(gradients)
    assert run(model, batch_on("cpu"), gradients, autocast).shape == (len(LENGTHS), 2)


@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
@pytest.mark.parametrize("lengths", [(0, 1, 9, 9, 4, 17, 30), (0, 0)], ids=["short", "empty"])
def test_nor_does_one_over_short_sequences(name: str, options: dict[str, Any], lengths: tuple[int, ...]) -> None:
    model = small(name, options).eval()
    assert run(model, batch_on("cpu", lengths), False, True).shape == (len(lengths), 2)


@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
@pytest.mark.parametrize(("gradients", "pooling"), [(True, "mean"), (True, "positions"), (False, "first")])
def test_nor_does_it_on_a_device_that_has_no_answers(
    name: str, options: dict[str, Any], gradients: bool, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of the device "meta" have shapes and no numbers: the accelerator's operators, and nothing to ask."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # "meta" has none
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    model = small(name, options, pooling=pooling).to("meta").train(gradients)
    assert run(model, batch_on("meta"), gradients, autocast=False).shape == (len(LENGTHS), 2)


@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
def test_the_plan_is_the_one_that_is_used(name: str, options: dict[str, Any]) -> None:
    model, batch = small(name, options, dropout=0.0), batch_on("cpu")
    model.plan(batch, gradients=True)
    planned = made(batch)
    tokens = torch.zeros(batch.num_tokens, dtype=torch.long)
    logits = model.classify(tokens, batch, tokens)
    assert made(batch) == planned
    assert torch.equal(logits, model.classify(tokens, batch_on("cpu"), tokens))


def made(batch: PackedBatch) -> list[Any]:
    """Names of the tensors and plans that a batch and its groups have so far."""
    names: list[Any] = [*batch._plans]
    for part in (batch, *batch.groups):
        names += [
            (part.first if part is not batch else None, n) for n, v in vars(part).items() if isinstance(v, Tensor)
        ]
        names += vars(part).get("_biases", ())
    return names


def test_the_watch_sees_questions() -> None:
    numbers = torch.arange(3)
    for ask in (
        lambda: numbers[numbers > 1],
        lambda: float(numbers.sum()),
        lambda: numbers.sum().item(),
        lambda: bool(numbers[0] > 1),
        lambda: torch.nonzero(numbers),
        lambda: torch.tensor([1, 2]),
        lambda: numbers.to("meta"),
    ):
        with pytest.raises(AssertionError), no_questions():
            ask()
