"""What a stopped run needs to go on to bit-identical weights: one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longread.models.classifier import Classifier
from longread.records import write_atomically

FILE = "state.safetensors"


def save_state(
    directory: Path,
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor] | None,
    mean: dict[str, Tensor] | None,
    position: dict[str, Any],
) -> None:
    """`best`: the chosen epoch's weights; `mean`: the running mean; `position`: plain values, kept as JSON."""
    from safetensors.torch import save

    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (best or {}).items()}
    tensors |= {f"mean.{name}": tensor for name, tensor in (mean or {}).items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(directory / FILE, save(packed, metadata={"position": json.dumps(position)}))


def load_state(
    directory: Path, model: Classifier, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor] | None, dict[str, Tensor], dict[str, Any]]:
    """Puts everything back; returns the best weights so far, the running mean's and the position."""
    from safetensors import safe_open

    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}, "mean": {}, "random": {}}
    with safe_open(directory / FILE, framework="pt") as file:
        position: dict[str, Any] = json.loads(file.metadata()["position"])
        for key in file.keys():
            group, _, name = key.partition(".")
            groups[group][name] = file.get_tensor(key)
    model.load_state_dict(groups["model"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in groups["optimizer"].items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(groups["random"]["cpu"])
    if "cuda" in groups["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(groups["random"]["cuda"])
    return groups["best"] or None, groups["mean"], position


def read_position(directory: Path) -> dict[str, Any] | None:
    """The plain values of a saved state, or None where there is none."""
    from safetensors import SafetensorError, safe_open

    if not (directory / FILE).is_file():
        return None
    try:
        with safe_open(directory / FILE, framework="pt") as file:
            position: dict[str, Any] = json.loads(file.metadata()["position"])
            return position
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
