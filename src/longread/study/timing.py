"""The work of one length, timed: an inference, a training step, or the mixing of one layer alone."""

from __future__ import annotations

import copy
import functools
import time
from typing import Any

import torch

from longread.attention import SelfAttention
from longread.models.classifier import Classifier
from longread.models.config import ClassifierConfig
from longread.ops.packed import PackedBatch
from longread.system.allocator import give_back_memory
from longread.system.measure import PeakMemory, synchronise

FEWEST_REPEATS, MOST_REPEATS = 3, 25


def measure(model: Classifier, length: int, phase: str, precision: str, enough: float) -> dict[str, Any]:
    """Seconds of each repeat, until `enough` seconds and FEWEST_REPEATS, and the peak memory above the program's.

    One text of `length` random tokens. phase: "forward" (inference), "training" (forward and backward) or "mixing"
    (of a pattern the mean of its layers).
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(model.config.vocab_size, (length,), generator=generator).to(device)
    cast = torch.autocast(device.type, torch.bfloat16, precision == "bfloat16")

    ran: set[str] = set()

    def text() -> PackedBatch:
        batch = PackedBatch((length,), device, first_text_lengths=(0,))
        batch.kernels = ran
        return batch

    def forward() -> None:
        with torch.inference_mode(), cast:
            model.classify(tokens, text())

    def training() -> None:
        with cast:
            loss = model.classify(tokens, text()).float().logsumexp(1).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    def mixing() -> None:
        with torch.inference_mode(), cast:
            for attention in layers:
                attention.mix(x, text())

    model.train(phase == "training")
    work = {"forward": forward, "training": training, "mixing": mixing}[phase]
    if phase == "mixing":
        with torch.inference_mode(), cast:
            x = torch.randn(length, model.config.hidden_size, generator=generator).to(device)
            x = x.bfloat16() if precision == "bfloat16" else x
            layers = [_projected(block.attention, x) for block in pattern_of(model)]  # type: ignore[arg-type]
    work()  # warm up: what it loads once is no part of the work
    give_back_memory()
    memory = PeakMemory(device)
    seconds: list[float] = []
    while len(seconds) < FEWEST_REPEATS or (sum(seconds) < enough and len(seconds) < MOST_REPEATS):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        seconds.append((time.perf_counter() - start) / (len(layers) if phase == "mixing" else 1))
    kernels = {"kernels": sorted(ran)} if ran else {}  # torch's for packed sequences; none on a processor
    return {"seconds": seconds, "peak_memory_bytes": memory.bytes(), **kernels}


def _projected(attention: torch.nn.Module, x: torch.Tensor) -> Any:
    """A copy whose projections of all tokens answer at once: what is left is the mixing.

    Linformer projects the folded keys and values, not the tokens: there, that stays part of it.
    """
    attention = copy.deepcopy(attention).eval()
    for name in ("query", "key", "value"):
        linear = getattr(attention, name)
        linear.forward = functools.partial(_answer, linear(x))
    return attention


def _answer(given: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return given


def pattern_of(model: Classifier) -> list[torch.nn.Module]:
    """One layer of each place in the model's pattern of mechanisms."""
    return list(model.blocks[: len(model.config.attention.split())])


def floor_flops(model: Classifier, length: int, phase: str) -> float:
    """Floating-point operations of the products of one phase."""
    if phase == "mixing":
        layers = pattern_of(model)
        return sum(block.attention.flops(length) for block in layers) / len(layers)  # type: ignore[operator, union-attr]
    return model_flops(model, length) * (3 if phase == "training" else 1)


def model_flops(model: Classifier, length: int) -> float:
    """Of one text, forward: products only, which is where the time goes. Embedding and head are not counted."""
    config: ClassifierConfig = model.config
    first = config.pooling == "first"  # the last block then computes what the first token needs
    return sum(_block_flops(block, config, length, first and block is model.blocks[-1]) for block in model.blocks)


def _block_flops(block: torch.nn.Module, config: ClassifierConfig, length: int, first: bool) -> float:
    attention: SelfAttention = block.attention  # type: ignore[assignment]
    read = 1 if first else length  # tokens whose output is read
    queries = read if attention.spares_queries else length
    of_projection = 2.0 * config.hidden_size * config.num_attention_heads * config.width_of_head
    of_feed_forward = 2.0 * (3 if config.gated else 2) * config.hidden_size * config.width_of_intermediate
    mixing = attention.flops(length) * queries / length
    return of_projection * (2 * length + queries + read) + of_feed_forward * read + mixing
