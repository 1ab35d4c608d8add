"""Optimizers and the course of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from longread.attention import SelfAttention
from longread.config import RunConfig
from longread.errors import UserError
from longread.models.classifier import Classifier

LAST_LAYER = ("head.classifier.weight", "head.classifier.bias")


def make_optimizer(
    model: Classifier, config: RunConfig, learning_rate: float, spread: float = 1.0
) -> torch.optim.Optimizer:
    """AdamW, or Adam with L2; vectors (norms, biases) are not decayed.

    Lower layers learn slower by `layer_decay`, weights without pretraining faster by `new_weights_rate`, and those
    that a mechanism names by its own factor. spread: of the numbers that a regression predicts (training/numbers.py).
    """
    depth = len(model.blocks)
    if config.frozen_layers > depth:
        raise UserError(f"--frozen-layers {config.frozen_layers}: the model has {depth} layers")
    own_rates = _own_rates(model, config)
    for name in LAST_LAYER:
        own_rates[name] *= spread
    groups: dict[tuple[int, bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        level = _level(name, depth)
        if level <= config.frozen_layers and config.frozen_layers > 0:
            parameter.requires_grad_(False)
            continue
        # The student study's Adam decays all alike.
        decayed = parameter.dim() > 1 or config.optimizer == "adam"
        # Decay is a part of the rate: where the rate is the numbers' spread, it is to stay as it was.
        decay = (config.weight_decay if decayed else 0.0) / (spread if name in LAST_LAYER else 1.0)
        groups.setdefault((level, decayed, own_rates.get(name, 1.0), decay), []).append(parameter)
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": learning_rate * config.layer_decay ** (depth + 1 - level) * own_rate,
            "weight_decay": decay,
        }
        for (level, _, own_rate, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(described, fused=True)


def _own_rates(model: Classifier, config: RunConfig) -> dict[str, float]:
    """Factors of the learning rate: those of a new head and of what a mechanism has that dense attention has not."""
    new = {*LAST_LAYER, *(model.loading.initialised if model.loading else ())}
    rates = dict.fromkeys(new, config.new_weights_rate)
    for place, layer in model.named_modules():
        if isinstance(layer, SelfAttention):
            rates |= {f"{place}.{name}": config.new_weights_rate for name in layer.new_parameters}
            for name, factor in layer.learning_rate_factors().items():
                rates[f"{place}.{name}"] = rates.get(f"{place}.{name}", 1.0) * factor
    return rates


def _level(name: str, depth: int) -> int:
    """0 for the embedding, 1 … depth for the layers, depth + 1 for the head."""
    parts = name.split(".")
    if parts[0] in ("embeddings", "relative_bias"):  # below all layers
        return 0
    return int(parts[1]) + 1 if parts[0] == "blocks" else depth + 1


def rate_at(step: int, steps: int, config: RunConfig) -> float:
    """Factor of the learning rate at `step` of `steps` (from 0): a linear rise, then the schedule."""
    warm = round(config.warmup_fraction * steps)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    done = (step - warm) / max(1, steps - warm)
    return 1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
