"""The attention mechanisms. A new one is a file of its own and a line in ATTENTIONS.

Another package adds its own by an entry point in the group `longread.attentions`, a program by
`longread.ATTENTIONS["mine"] = Mine`.
"""

import importlib
import importlib.metadata
from typing import Any

from longread.attention.base import SelfAttention
from longread.attention.bigbird import BigBirdAttention
from longread.attention.dense import DenseAttention
from longread.attention.linformer import LinformerAttention
from longread.attention.local import LocalAttention
from longread.attention.longformer import LongformerAttention
from longread.attention.performer import PerformerAttention
from longread.errors import UserError

ATTENTIONS: dict[str, type[SelfAttention]] = {
    "dense": DenseAttention,
    "longformer": LongformerAttention,
    "bigbird": BigBirdAttention,
    "performer": PerformerAttention,
    "linformer": LinformerAttention,
    "local": LocalAttention,
}

for _entry in importlib.metadata.entry_points(group="longread.attentions"):
    ATTENTIONS.setdefault(_entry.name, _entry.load())


def place_of(name: str) -> str:
    """Where another process finds a mechanism's class, "module:class". UserError where it cannot."""
    mechanism = ATTENTIONS[name]
    if mechanism.__module__ == "__main__" or "<locals>" in mechanism.__qualname__:
        raise UserError(
            f"{name} attention is defined inside the program, where the process of a run does not find it; "
            f"move {mechanism.__name__} to the top of a module of its own and import it from there"
        )
    return f"{mechanism.__module__}:{mechanism.__qualname__}"


def register(name: str, place: str) -> None:
    """The inverse of `place_of`, in another process."""
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    ATTENTIONS[name] = found


__all__ = ["ATTENTIONS", "SelfAttention", "place_of", "register"]
