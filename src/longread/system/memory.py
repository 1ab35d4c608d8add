"""How much memory there is for a run, and what a failed allocation looks like."""

from __future__ import annotations

from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def memory_bytes(device: torch.device) -> int:
    """The device's memory; of a processor's the machine's, or what a container or a scheduler allows of it (cgroups,
    both versions). Not what is free just now: a run's settings, and with them its name, would depend on the moment."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return min([int(psutil.virtual_memory().total), *_limits()])


def _limits() -> list[int]:
    """Of this process's group and of each above it: a limit holds for all groups below."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return []
    found: list[int | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        group = root / path.lstrip("/")  # a container may see its own group as the root
        found += [_limit(place / name) for place in (group, *group.parents) if place.is_relative_to(root)]
    return [limit for limit in found if limit is not None]


def _limit(file: Path) -> int | None:
    """None for "max", and where there is no such file."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def is_failed_allocation(error: BaseException) -> bool:
    """torch has a class for it on a GPU alone; on a CPU its allocator raises a RuntimeError with this text."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
