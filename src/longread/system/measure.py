"""Seconds, bytes, and what machine they were measured on. Knows torch and the allocator, nothing else of us."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

from longread.ops.linear import mm
from longread.system.allocator import allocator

SECONDS_WATCHED = 0.4  # of what other programs do
MATMUL_SIZE, MATMUL_REPEATS = 2048, 7


def processor_flags() -> frozenset[str]:
    """What /proc/cpuinfo says the processor can do; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), ()))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bf16 products run in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "mps":
        return False
    return bool(processor_flags() & {"amx_bf16", "avx512_bf16"})


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass
class Stopwatch:
    """Wall-clock and processor seconds of the pieces that are timed with `with`; pieces add up."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        synchronise(self.device)
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        synchronise(self.device)
        self.seconds += time.perf_counter() - self._wall
        self.cpu_seconds += time.process_time() - self._cpu


class PeakMemory:
    """The highest memory since it was made, above what the loaded program took then.

    On a CPU the resident set's high-water mark (VmHWM), which Linux lets a process reset; `ru_maxrss` of a child
    would start at its parent's size.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.kind, self.base = "cuda_allocated", torch.cuda.memory_allocated(device)
            return
        self.kind = "rss_above_program"
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # not Linux, or not allowed: the mark then counts from the start of the process
            pass
        self.base = _status_bytes("VmRSS")

    def bytes(self) -> int:
        if self.device.type == "cuda":
            return max(0, torch.cuda.max_memory_allocated(self.device) - self.base)
        return max(0, _status_bytes("VmHWM") - self.base)


def _status_bytes(name: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import psutil

    return int(psutil.Process().memory_info().rss)


def foreign_load() -> float:
    """Cores that other programs keep busy, watched for a moment while this one sleeps.

    The load average would still remember the run before this one.
    """
    import psutil

    return round(psutil.cpu_percent(interval=SECONDS_WATCHED) / 100 * (psutil.cpu_count() or 1), 2)


def matmul_rate(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large matrix product: the best this machine does today."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(MATMUL_REPEATS):
        synchronise(device)
        start = time.perf_counter()
        mm(a, b)
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return 2.0 * MATMUL_SIZE**3 / median(seconds)


@cache
def _git(directory: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", directory, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """What a result depends on beside its configuration."""
    from longread import __version__

    here = str(Path(__file__).parent)
    tracked = _git(here, "ls-files", "--error-unmatch", __file__) is not None
    changes = _git(here, "status", "--porcelain", "--untracked-files=no") if tracked else None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name()
    return {
        "device": device.type,
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "allocator": allocator(),
        "precision": precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "longread": __version__,
        "commit": _git(here, "rev-parse", "HEAD") if tracked else None,
        "dirty": bool(changes) if tracked else None,
    }


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
