"""What a stopped run needs to go on to bit-identical weights: a safetensors file, written whole or not at all.

The file's name carries its step and the SHA-256 of its content. Two are kept: if the newest is damaged, by a fault of
the disk or by hand, the run goes on from the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longread.errors import UserError
from longread.records import write_atomically
from longread.system import sharding

log = logging.getLogger("longread")

KEPT = 2
PATTERN = "state-*.safetensors"
NAME = re.compile(r"state-\d{10}-[0-9a-f]{64}\.safetensors")


@dataclass
class State:
    """Of a run, or of one of its components: tensors, and plain values that JSON can hold."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, part: State) -> None:
        """A component's state under its name."""
        self.tensors |= {f"{name}.{key}": tensor for key, tensor in part.tensors.items()}
        self.values[name] = part.values

    def part(self, name: str) -> State:
        """The inverse of `add`."""
        begin = f"{name}."
        tensors = {key.removeprefix(begin): t for key, t in self.tensors.items() if key.startswith(begin)}
        return State(tensors, self.values.get(name, {}))


def save_state(directory: Path, state: State, step: int) -> None:
    """`directory`/state-STEP-SHA256.safetensors; of older states the newest is kept."""
    from safetensors.torch import save

    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    content = save(packed, metadata={"values": json.dumps(state.values, allow_nan=False)})
    name = f"state-{step:010}-{hashlib.sha256(content).hexdigest()}.safetensors"
    write_atomically(directory / name, content)
    for old in state_files(directory)[KEPT:]:
        old.unlink(missing_ok=True)


def state_files(directory: Path) -> list[Path]:
    """Newest first. What only looks like one (a folder, a link to a device) is none."""
    found = (file for file in directory.glob(PATTERN) if NAME.fullmatch(file.name) and file.is_file())
    return sorted(found, reverse=True)


def step_of(file: Path) -> int:
    return int(file.name.split("-")[1])


def read_values(directory: Path) -> dict[str, Any] | None:
    """The plain values of the newest state that is whole, or None: for finding a run, not for going on with it."""
    whole = next((file for file in state_files(directory) if _problem(file) is None), None)
    return None if whole is None else _read(whole).values


def delete_states(directory: Path) -> None:
    for file in state_files(directory):
        file.unlink(missing_ok=True)


def load_state(directory: Path) -> State | None:
    """The newest state that is whole; None where there is none at all.

    A damaged one is warned of. UserError where all are.
    """
    files = state_files(directory)
    for file in files:
        problem = _problem(file)
        if problem is None:
            return _read(file)
        log.warning("%s: %s; the state before it is used", file, problem)
    if files:
        raise UserError(
            f"{directory}: no saved state of this run is whole; --restart (or deleting the folder) begins anew"
        )
    return None


def _problem(file: Path) -> str | None:
    """Why a state cannot be used."""
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if file.stem.endswith(f"-{digest}") else "is damaged: its content is not what was saved"


def _read(file: Path) -> State:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as content:
        values = json.loads(content.metadata()["values"])
        return State({name: content.get_tensor(name) for name in content.keys()}, values)


def whole(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Shards put together, one after the other; where they are not kept, other processes' are given to them."""
    found = {}
    for name, tensor in tensors.items():
        full = sharding.whole(tensor.detach())
        if keep:
            found[name] = full.cpu()
    return found


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    found = State()
    for index, values in optimizer.state_dict()["state"].items():
        found.tensors |= {f"{index}.{name}": tensor for name, tensor in values.items()}
    return found


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: State) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.tensors.items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = sharding.like(tensor, parameters[int(index)])
    if len({frozenset(own) for own in moments.values()}) > 1:  # would be found in the next step only
        raise ValueError("the optimizer's moments are not the same for all parameters")
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state() -> State:
    """torch's generators; the order of rows and token dropout are functions of the seed and need none."""
    found = State({"cpu": torch.get_rng_state()})
    if torch.cuda.is_available():
        found.tensors["cuda"] = torch.cuda.get_rng_state()
    return found


def load_random_state(state: State) -> None:
    torch.set_rng_state(state.tensors["cpu"])
    if "cuda" in state.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.tensors["cuda"])
