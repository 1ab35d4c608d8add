"""One run on many processes, as torchrun starts them: who this one is, and sums and messages over all of them.

The processes of a run hold the same weights. Each computes a share of every batch, the gradients are added up, and each
makes the same update; nothing else has to be sent. Alone, every function here does nothing.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from longread.errors import ProcessLost, UserError, first_line

# Gradients are sent so many bytes at a time: fewer messages, and no second copy of the whole model.
BUCKET_BYTES = 25 * 1024**2
# The processes of a run start together; loading the program may take a while where cores are few.
PATIENCE_AT_START = timedelta(minutes=10)
# One process may read and tokenize for long while the others wait. A process that died is noticed at once.
PATIENCE = timedelta(hours=12)
# A process that ended closes its connections some moments before the system calls it ended.
SECONDS_TO_SEE_AN_END = 2.0


@dataclass(frozen=True)
class _Others:
    """Where the processes of this run are: their machines' names and their numbers there, by rank."""

    store: PrefixStore
    places: tuple[tuple[str, int], ...]


_others: _Others | None = None


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """0 for the process that writes files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    return rank() == 0


def started_by_torchrun() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def restarted_by_torchrun() -> bool:
    """Whether processes of this run died and torchrun (--max-restarts) has begun them again."""
    return _restarts() > 0


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def local_rank() -> int:
    """Among the processes of this machine: which of its accelerators is this one's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that torchrun started know each other; without torchrun nothing happens."""
    if not started_by_torchrun() or dist.is_initialized():
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank())
    store, own, size = _met()
    # torchrun's store outlives its processes: those of a restart must not find the addresses of the dead ones.
    store = PrefixStore(f"start {_restarts()}", store)
    # Messages and counts are tensors of the processor's, also where gradients are an accelerator's.
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=own, world_size=size, timeout=PATIENCE)
    global _others
    here = (socket.gethostname(), os.getpid())
    _others = _Others(store, tuple((name, number) for name, number in everyones(here)))
    try:
        yield
    except KeyboardInterrupt:  # torchrun sends this signal, too, when a process has ended
        if (lost := lost_process(0.2)) is not None:
            raise lost from None
        _say("left", own)
        raise
    except BaseException:
        _say("left", own)
        raise
    finally:
        _others = None
        dist.destroy_process_group()


def _met() -> tuple[Store, int, int]:
    """The store of this run's processes, this one's number, and how many there are. UserError where some stay away."""
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, own, size = next(rendezvous("env://", timeout=PATIENCE_AT_START))
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the {os.environ['WORLD_SIZE']} processes of this run did not meet at {where} within "
            f"{PATIENCE_AT_START.total_seconds() / 60:.0f} minutes; start as many as WORLD_SIZE says, with torchrun"
        ) from error
    store.set_timeout(PATIENCE)
    return store, own, size


def lost_process(seconds: float = SECONDS_TO_SEE_AN_END) -> ProcessLost | None:
    """What is to be raised where a process of this run was killed or crashed; it is looked for so long.

    Each process sees those of its machine and tells the others in the store.
    """
    if _others is None:
        return None
    until = time.monotonic() + seconds
    while not (gone := [one for one in range(count()) if _has_ended(one)]) and time.monotonic() < until:
        time.sleep(0.02)
    if not gone:
        return None
    for one in gone:
        _say("ended", one)
    whose = f"process {gone[0]}" if len(gone) == 1 else f"processes {', '.join(map(str, gone))}"
    lost = ProcessLost(f"{whose} of {count()} {'has' if len(gone) == 1 else 'have'} ended (killed or crashed)")
    lost.speaks = all(other in gone for other in range(rank()))
    return lost


def _has_ended(one: int) -> bool:
    """Without having said that it leaves."""
    assert _others is not None
    host, number = _others.places[one]
    if host != socket.gethostname():
        return _said("ended", one)
    try:
        ended = psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        ended = True
    return ended and not _said("left", one)


def _say(what: str, one: int) -> None:
    assert _others is not None
    try:
        _others.store.set(f"{what} {one}", "")
    except (dist.DistError, RuntimeError):
        pass  # the process that kept the store is gone


def _said(what: str, one: int) -> bool:
    assert _others is not None
    try:
        return bool(_others.store.check([f"{what} {one}"]))
    except (dist.DistError, RuntimeError):
        return False


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """The first process does what is inside, then the others: they find in a cache what it has made."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def wait() -> None:
    """Until all processes are here. ProcessLost."""
    if count() > 1:
        with _losses_told():
            dist.barrier()


def add_up(tensors: Sequence[Tensor]) -> None:
    """Each becomes, in place, the sum of this tensor over all processes. ProcessLost.

    All processes give tensors of the same shapes in the same order.
    """
    if count() == 1:
        return
    with _losses_told():
        for bucket in _buckets(tensors):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                dist.all_reduce(bucket[0])
                continue
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type together, while they are small."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        own = tensor.numel() * tensor.element_size()
        unlike = bucket and (bucket[0].dtype, bucket[0].device) != (tensor.dtype, tensor.device)
        if bucket and (unlike or size + own > BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += own
    if bucket:
        yield bucket


def all_of(rows: Tensor) -> Tensor:
    """int64 [n] of each process, any n -> those of all processes together, each once and sorted."""
    if count() == 1:
        return rows
    with _losses_told():
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(count())]
        dist.all_gather(sizes, torch.tensor([len(rows)]))
        longest = max(int(size) for size in sizes)
        own = rows.new_zeros(longest)
        own[: len(rows)] = rows
        found = [torch.empty_like(own) for _ in range(count())]
        dist.all_gather(found, own)
    return torch.unique(torch.cat([part[: int(size)] for part, size in zip(found, sizes, strict=True)]))


def tell(value: Any) -> Any:
    """The first process's `value`, for all: plain data that JSON can hold. ProcessLost."""
    return everyones(value if is_first() else None)[0]


def everyones(value: Any) -> list[Any]:
    """Each process's `value`, by rank, for all: plain data that JSON can hold. ProcessLost."""
    if count() == 1:
        return [value]
    data = json.dumps(value).encode()
    with _losses_told():
        sizes = _sizes(data)
        found = [torch.empty(max(sizes), dtype=torch.uint8) for _ in sizes]
        dist.all_gather(found, _padded(data, max(sizes)))
    return [json.loads(part.numpy().tobytes()[:size]) for part, size in zip(found, sizes, strict=True)]


def to_first(data: bytes) -> list[bytes]:
    """Each process's `data`, by rank, for the first one; for the others an empty list. ProcessLost."""
    if count() == 1:
        return [data]
    with _losses_told():
        sizes = _sizes(data)
        found = [torch.empty(max(sizes), dtype=torch.uint8) for _ in sizes] if is_first() else None
        dist.gather(_padded(data, max(sizes)), found, 0)
    return [part.numpy().tobytes()[:size] for part, size in zip(found or [], sizes if found else [], strict=True)]


def _sizes(data: bytes) -> list[int]:
    sizes = [torch.zeros(1, dtype=torch.long) for _ in range(count())]
    dist.all_gather(sizes, torch.tensor([len(data)]))
    return [int(size) for size in sizes]


def _padded(data: bytes, size: int) -> Tensor:
    return torch.frombuffer(bytearray(data.ljust(max(size, 1), b"\0")), dtype=torch.uint8)[:size]


@contextmanager
def _losses_told() -> Iterator[None]:
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        lost = lost_process()
        if lost is None:  # it left with a message of its own, or is on a machine that is gone
            lost = ProcessLost(f"another process of this run has ended ({first_line(error)})")
            lost.speaks = is_first()
        raise lost from error
