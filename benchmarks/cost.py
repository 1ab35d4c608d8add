"""What a pass or a training step of a model costs, from its configuration alone: operations, bytes moved, bytes sent.

Operations are those of products of matrices; a multiplication and an addition are two. Bytes are what has to pass
through memory at least once: weights, and what each layer reads and writes. `seconds` makes time of them: each part
takes what its operations take at the machine's rate, or its bytes, whichever is longer; parts follow one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from longread.models.classifier import Classifier, build

# What a training step does for each operation of a forward pass. The gradients of a product are two products; those of
# attention are two of each of its two, and the scores once more, which are not kept. Linformer's few are, and of
# Performer's two halves one multiplies by features that do not learn.
TRAINING_PRODUCTS = 3.0
TRAINING_MIXING = 3.5
OWN_TRAINING_MIXING = {"linformer": 3.0, "performer": 2.5}
TRAINING_BYTES = 3.0
ADAMW_BYTES = 28  # of a float32 parameter: it, its gradient and two moments read, all but the gradient written
GRADIENT_BYTES = 4  # gradients are added up in float32 whatever the precision


@dataclass(frozen=True)
class Part:
    """`rate`: which of a machine's rates its operations run at, "products" or the name of a mechanism."""

    name: str
    operations: float
    bytes: float
    rate: str = "products"

    def times(self, operations: float, moved: float) -> Part:
        return Part(self.name, self.operations * operations, self.bytes * moved, self.rate)


@dataclass(frozen=True)
class Machine:
    """rates: operations a second of products of matrices and of each mechanism's mixing; bandwidth: bytes a second."""

    rates: Mapping[str, float]
    bandwidth: float

    def seconds(self, part: Part) -> float:
        return max(part.operations / self.rates[part.rate], part.bytes / self.bandwidth)


@cache
def model_of(attention: str, **config: Any) -> Classifier:
    """The model without its numbers: its layers know what they compute and how large they are."""
    with torch.device("meta"):
        return build(attention, **config)


def inference(model: Classifier, lengths: Sequence[int], width: int = 4) -> list[Part]:
    """The parts of a pass over sequences of these lengths. width: bytes of a number, 2 in bfloat16."""
    return _forward(model, float(sum(lengths)), list(_mixing(model, lengths, width)), width)


def training(model: Classifier, lengths: Sequence[int], width: int = 4, optimizer: bool = True) -> list[Part]:
    """The parts of a step, forward and backward, and the optimizer's update of every parameter."""
    return trained(model, inference(model, lengths, width), 1 if optimizer else 0)


def trained(model: Classifier, parts: Sequence[Part], updates: int) -> list[Part]:
    """The parts of training from those of inference; `updates` of the optimizer."""
    found = []
    for part in parts:
        mixing = OWN_TRAINING_MIXING.get(part.rate, TRAINING_MIXING)
        found.append(part.times(mixing if part.name == "attention" else TRAINING_PRODUCTS, TRAINING_BYTES))
    update = Part("optimizer", 0.0, float(ADAMW_BYTES * model.num_parameters * updates))
    return [*found, update] if updates else found


def given_mixing(model: Classifier, tokens: float, mixing: float, width: int = 4) -> list[Part]:
    """The parts of a pass of which the operations of the mixing are known, and not each sequence's length."""
    rate = model.config.attention.split()[0]
    inner = model.config.num_attention_heads * model.config.width_of_head
    part = Part("attention", mixing, 4.0 * tokens * inner * width * len(model.blocks), rate)
    return _forward(model, tokens, [part], width)


def _forward(model: Classifier, tokens: float, mixing: Sequence[Part], width: int) -> list[Part]:
    config = model.config
    layers, hidden, wide = len(model.blocks), config.hidden_size, config.width_of_intermediate
    inner = config.num_attention_heads * config.width_of_head
    matrices = 3 if config.gated else 2  # of the feed-forward
    around = [
        Part("embedding", 0.0, 6.0 * tokens * hidden * width),
        Part(
            "projections",
            layers * 8.0 * tokens * hidden * inner,
            layers * width * (4.0 * hidden * inner + 4.0 * tokens * (hidden + inner)),
        ),
        Part(
            "feed-forward",
            layers * 2.0 * matrices * tokens * hidden * wide,
            layers * width * matrices * (hidden * wide + tokens * (hidden + wide)),
        ),
        # Two norms, two sums with the residual, one activation.
        Part("between", 0.0, layers * width * tokens * (10.0 * hidden + matrices * wide)),
    ]
    saved = sum(part.operations for part in mixing if part.name == "projections")
    merged = [part.times(1 + saved / part.operations, 1) if part.name == "projections" else part for part in around]
    return [*merged, *(part for part in mixing if part.name != "projections")]


def _mixing(model: Classifier, lengths: Sequence[int], width: int) -> Iterator[Part]:
    """By layer and sequence, as each runs at its own length; full attention at the rate of dense."""
    config = model.config
    inner = config.num_attention_heads * config.width_of_head
    counts = {length: lengths.count(length) for length in dict.fromkeys(lengths)}
    places = len(config.attention.split())
    for place in range(min(places, len(model.blocks))):
        layer: Any = model.blocks[place].attention
        layers = len(range(place, len(model.blocks), places))
        for length, count in counts.items():
            operations = float(layer.flops(length))
            # What Linformer's `flops` counts below zero: keys and values that are made of folded tokens alone.
            saved = 0.0
            if config.attention_of(place) == "linformer":
                size = min(length, layer.options.projection_size)
                saved = 4.0 * (length - size) * config.hidden_size * inner
                yield Part("projections", -saved * layers * count, 0.0)
            full = layer.coverage([length]).get("full", 0) == length
            rate = "dense" if full else config.attention_of(place)
            moved = 4.0 * length * inner * width
            yield Part("attention", (operations + saved) * layers * count, moved * layers * count, rate)


def of_first_tokens(model: Classifier, parts: Sequence[Part], tokens: float, count: float) -> list[Part]:
    """The same where the last block computes what `count` first tokens need, which is what pooling "first" reads."""
    layers, read = len(model.blocks), count / tokens
    last: Any = model.blocks[-1].attention
    queries = read if last.spares_queries else 1.0
    shares = {"projections": (2 + queries + read) / 4, "feed-forward": read, "between": read, "attention": queries}
    left = {name: (layers - 1 + share) / layers for name, share in shares.items()}
    return [part.times(left.get(part.name, 1.0), left.get(part.name, 1.0)) for part in parts]


def by_name(parts: Sequence[Part]) -> dict[str, tuple[float, float]]:
    """Operations and bytes of each part, in order; those of one name added up."""
    found: dict[str, tuple[float, float]] = {}
    for part in parts:
        operations, moved = found.get(part.name, (0.0, 0.0))
        found[part.name] = operations + part.operations, moved + part.bytes
    return found


def gradient_bytes(model: Classifier) -> float:
    """What a process sends at least once a step: the gradient of every parameter."""
    return float(GRADIENT_BYTES * model.num_parameters)


def all_reduce_bytes(model: Classifier, processes: int) -> float:
    """What each process sends to add gradients up in a ring (Patarasuk & Yuan 2009): 2 (n - 1) / n of them."""
    return 2.0 * (processes - 1) / processes * gradient_bytes(model)
