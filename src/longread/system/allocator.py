"""glibc's allocator: keep the large buffers it gets back, or give all that is free to the system."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

# mallopt's numbers for its settings, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

# How many pieces of code oneDNN keeps, one for each shape. In bfloat16 a layer has up to a hundred shapes. In float32 a
# batch brings GELU's and those of three products (`ops.linear`), and in training those of their gradients: what is kept
# longer only lies between the buffers of later batches, and the heap grows with their number.
KEPT, KEPT_IN_FLOAT32, KEPT_IN_TRAINING = 128, 8, 32
CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
# Beside them torch keeps the descriptions of the last 1,024 shapes, .3 MB each, in every thread that computes. They
# save time only where the code is gone.
DESCRIPTIONS, KEPT_DESCRIPTIONS = "LRU_CACHE_CAPACITY", 32

_tuned = False
_chosen_here = False  # how many, and not by who started the program


def tune_allocator(precision: str = "auto") -> None:
    """Let glibc keep the large buffers it gets back: the commands call it, and a Python program may. Once is enough.

    By default each tensor of some megabytes is mapped anew, and the kernel clears every page of it at every use; with
    activations that come and go in each layer that is up to half of the time of an attention layer. What lies free at
    the top of the heap is given back from a quarter of a gigabyte on, so that one long text does not stay in memory.
    It holds for the whole process, which is why importing a package does not do it. Elsewhere than on Linux with
    glibc it does nothing.

    precision: "float32" where all is computed in it; memory then stays flat over any number of batches.
    """
    global _tuned, _chosen_here
    # oneDNN keeps the last 1,024 products it made code for, about .4 MB each, and every batch brings new shapes: a
    # gigabyte after some hundred steps. It reads this when it makes its first one.
    if CAPACITY not in os.environ or _chosen_here:
        os.environ[CAPACITY] = str(KEPT_IN_FLOAT32 if precision == "float32" and _is_x86() else KEPT)
        _chosen_here = True
    os.environ.setdefault(DESCRIPTIONS, str(KEPT_DESCRIPTIONS))
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the highest that glibc's own adjustment would reach
        libc.mallopt(M_TRIM_THRESHOLD, 256 << 20)
        _tuned = True


def tune_for_training(precision: str, eval_precision: str = "float32") -> None:
    """In a tuned process, before its first product: what training in these precisions needs, and no more."""
    if _chosen_here and {precision, eval_precision} == {"float32"} and _is_x86():
        os.environ[CAPACITY] = str(KEPT_IN_TRAINING)


def _is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


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
