"""How a run uses its machine: device, threads, allocator, precision, tokens in memory. Decided once, then recorded."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

import torch

from longread.errors import UserError
from longread.system.measure import has_fast_bfloat16

# Below this width casting should cost more than bf16 products save. A guess: no idle machine has measured it yet.
NARROWEST_FOR_BFLOAT16 = 256
# One hidden state of a micro-batch: the dozens of tensors of its size that a layer keeps for its gradient are then
# tens of megabytes. Larger ones were no faster (LOG.md, "token budget").
MICRO_BATCH_BYTES = 1024**2
FEWEST_TOKENS, MOST_TOKENS = 2048, 8192


def set_allocator() -> None:
    """Let glibc keep the large buffers it gets back.

    By default each tensor of some megabytes is mapped anew, and the kernel clears every page of it at every use; with
    activations that come and go in each layer that is up to half of the time of an attention layer. What lies free at
    the top of the heap is given back from a quarter of a gigabyte on, so that one long text does not stay in memory.
    """
    # oneDNN keeps the last 1,024 products it made code for, about .4 MB each, and every batch brings new shapes: a
    # gigabyte after some hundred steps. It reads this when it makes its first one.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, the highest that glibc's own adjustment would reach
        libc.mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass  # another C library: nothing to set


def pick_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@dataclass(frozen=True)
class Machine:
    """What a run was left to choose, decided: the fields have the names of the settings that they answer."""

    device: str
    precision: str
    tokens_per_micro_batch: int
    threads: int


def resolve_machine(
    hidden_size: int,
    *,
    device: str = "auto",
    precision: str = "auto",
    tokens_per_micro_batch: int | None = None,
    threads: int | None = None,
) -> Machine:
    """Settings of a run on a model of this width; what was given stays. UserError for a device that is not there."""
    chosen = pick_device(device)
    if precision == "auto":
        fast = has_fast_bfloat16(chosen) and hidden_size >= NARROWEST_FOR_BFLOAT16
        precision = "bfloat16" if fast else "float32"
    if tokens_per_micro_batch is None:
        tokens = MICRO_BATCH_BYTES // (4 * hidden_size)
        tokens_per_micro_batch = max(FEWEST_TOKENS, min(MOST_TOKENS, tokens)) * (8 if chosen.type == "cuda" else 1)
    return Machine(chosen.type, precision, tokens_per_micro_batch, threads or torch.get_num_threads())
