"""Weights, gradients and the optimizer's moments in shards, one a process: torch's fully_shard (FSDP2).

A shard is a DTensor. What gathers the shards is called by all processes of the run at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def shard(model: nn.Module, layers: Iterable[nn.Module], entrances: Iterable[str], device: torch.device) -> None:
    """In place: each of `layers` and what is left of `model` is gathered when it computes, and let go of afterwards.

    entrances: the methods of `model` that are called. Gradients are sums over the processes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # else a multiplication in the sum, which gloo has not
    for name in entrances:
        register_fsdp_forward_method(model, name)


def is_sharded(model: nn.Module) -> bool:
    return any(_is_shard(parameter) for parameter in model.parameters())


def _is_shard(tensor: Any) -> bool:
    """By what a DTensor can do: its module takes a second to load, and most runs need none of it."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Tensor:
    """Of a shard, what all processes have of it together; any other tensor is whole."""
    return tensor.full_tensor() if _is_shard(tensor) else tensor


def like(full: Tensor, other: Any) -> Tensor:
    """`full`, which each process has whole, sharded as `other` is where that is."""
    if not _is_shard(other) or full.shape != other.shape:
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
