"""What a run takes of the machine, for its record."""

from __future__ import annotations

from typing import Any

import torch

from longread.records import Environment
from longread.system import processes
from longread.system.measure import PeakMemory, environment, foreign_load


class Meter:
    """Made before a run reads anything: memory counts above what the program took then."""

    def __init__(self, device: torch.device) -> None:
        self._load = foreign_load()
        self._memory = PeakMemory(device)

    def fields(self, device: torch.device, precision: str, **told: Any) -> dict[str, Any]:
        """Memory and environment, as a record has them, at the run's end. told: of the environment, what it was asked.

        precision: in which it computed.
        """
        memory = self._memory.bytes()
        seen = environment(device, precision) | {"processes": processes.count()} | told
        return {
            "peak_memory_bytes": memory,
            "memory_kind": self._memory.kind,
            "environment": Environment(**seen, load_at_start=self._load, load_at_end=foreign_load()),
        }
