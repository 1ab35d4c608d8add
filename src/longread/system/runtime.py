"""How a run uses its machine: device, threads, precision, tokens in memory. Decided once, then recorded."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longread.errors import UserError
from longread.system.measure import has_fast_bfloat16
from longread.system.memory import memory_bytes

# Below this width casting should cost more than bf16 products save. A guess: no idle machine has measured it yet.
NARROWEST_FOR_BFLOAT16 = 256
# One hidden state of a micro-batch: the dozens of tensors of its size that a layer keeps for its gradient are then
# tens of megabytes. Larger ones were no faster (docs/log.md).
MICRO_BATCH_BYTES = 1024**2
FEWEST_TOKENS, MOST_TOKENS = 2048, 8192
# Hidden states' worth of memory that a layer keeps for its gradient, about; and the part of all memory for them.
STATES_PER_LAYER, PART_OF_MEMORY = 40, 1 / 4


def pick_device(name: str) -> torch.device:
    """ "auto" is a GPU where torch sees one; "mps" is Apple's. UserError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    known = name in ("cpu", "cuda", "mps") or (kind == "cuda" and number.isdecimal())
    if not known:
        raise UserError(f"--device {name}: there is no such device; give auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch sees no CUDA device here; use --device cpu")
    if number and int(number) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: torch sees {torch.cuda.device_count()} here, counted from cuda:0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: torch sees no Apple GPU here; use --device cpu")
    return torch.device(name)


def pick_precision(precision: str, device: torch.device, hidden_size: int) -> str:
    """ "auto": bfloat16 where products of this width are faster in it."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_fast_bfloat16(device) and hidden_size >= NARROWEST_FOR_BFLOAT16 else "float32"


@dataclass(frozen=True)
class Machine:
    """What a run was left to choose, decided: the fields have the names of the settings that they answer."""

    device: str
    precision: str
    tokens_per_micro_batch: int
    threads: int


def tokens_for(device: torch.device, hidden_size: int, num_hidden_layers: int) -> int:
    """Tokens of a micro-batch, by the width of the model, and fewer where there is little memory."""
    tokens = max(FEWEST_TOKENS, min(MOST_TOKENS, MICRO_BATCH_BYTES // (4 * hidden_size)))
    tokens *= 8 if device.type == "cuda" else 1
    bytes_of_token = 4 * hidden_size * STATES_PER_LAYER * max(1, num_hidden_layers)
    fitting = max(1, int(memory_bytes(device) * PART_OF_MEMORY) // bytes_of_token)
    return min(tokens, 1 << (fitting.bit_length() - 1))


def resolve_machine(
    hidden_size: int,
    *,
    num_hidden_layers: int = 1,
    device: str = "auto",
    precision: str = "auto",
    tokens_per_micro_batch: int | None = None,
    threads: int | None = None,
) -> Machine:
    """Settings of a run on a model of this width and, where it is trained, this depth; what was given stays.

    UserError for a device that is not there.
    """
    chosen = pick_device(device)
    precision = pick_precision(precision, chosen, hidden_size)
    if tokens_per_micro_batch is None:
        tokens_per_micro_batch = tokens_for(chosen, hidden_size, num_hidden_layers)
    return Machine(str(chosen), precision, tokens_per_micro_batch, threads or torch.get_num_threads())
