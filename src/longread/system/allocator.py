"""glibc's allocator: keep the large buffers it gets back, or give all that is free to the system."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

# mallopt's numbers for its settings, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

# How many pieces of code oneDNN keeps, one for each shape. In bfloat16 a layer has up to a hundred shapes. In float32 a
# batch brings GELU's and those of three products (`ops.linear`): what is kept longer only lies between the buffers of
# later batches, and the heap grows with their number.
KEPT, KEPT_IN_FLOAT32 = 128, 8

_tuned = False


def tune_allocator(precision: str = "auto") -> None:
    """Let glibc keep the large buffers it gets back: the commands call it, and a Python program may. Once is enough.

    By default each tensor of some megabytes is mapped anew, and the kernel clears every page of it at every use; with
    activations that come and go in each layer that is up to half of the time of an attention layer. What lies free at
    the top of the heap is given back from a quarter of a gigabyte on, so that one long text does not stay in memory.
    It holds for the whole process, which is why importing a package does not do it. Elsewhere than on Linux with
    glibc it does nothing.

    precision: "float32" where all is computed in it; memory then stays flat over any number of batches.
    """
    global _tuned
    # oneDNN keeps the last 1,024 products it made code for, about .4 MB each, and every batch brings new shapes: a
    # gigabyte after some hundred steps. It reads this when it makes its first one.
    few = precision == "float32" and platform.machine() in ("x86_64", "AMD64")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_IN_FLOAT32 if few else KEPT))
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the highest that glibc's own adjustment would reach
        libc.mallopt(M_TRIM_THRESHOLD, 256 << 20)
        _tuned = True


def allocator() -> str:
    """Which allocator this process has, for its records: "default", "tuned", or what the environment asks for."""
    others = ("GLIBC_TUNABLES", "LD_PRELOAD")
    asked = [name for name in sorted(os.environ) if name.startswith("MALLOC_") or name in others]
    return ("tuned" if _tuned else "default") + "".join(f", {name}={os.environ[name]}" for name in asked)


def give_back_memory() -> None:
    """What was freed before goes back to the system, so that the next peak is not hidden in it."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library: nothing to set
        return None
    return libc if hasattr(libc, "mallopt") else None
