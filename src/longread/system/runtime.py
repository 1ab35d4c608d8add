"""How a run uses its machine: device, threads, precision, tokens in memory. Decided once, then recorded."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longread.errors import UserError
from longread.system.measure import has_fast_bfloat16

# Below this width casting should cost more than bf16 products save. A guess: no idle machine has measured it yet.
NARROWEST_FOR_BFLOAT16 = 256
# One hidden state of a micro-batch: the dozens of tensors of its size that a layer keeps for its gradient are then
# tens of megabytes. Larger ones were no faster (docs/log.md).
MICRO_BATCH_BYTES = 1024**2
FEWEST_TOKENS, MOST_TOKENS = 2048, 8192


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
