"""Functions on several processes that know each other as those of torchrun do, without its seconds of start."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Forked from a process that has loaded all of this and computed nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["longread.cli.main", "longread.cli.live", "longread.training.run", "longread.inference.answers", "pyarrow.parquet",
     "safetensors.torch", "sklearn.metrics", "scipy.stats", "torch._dynamo", "torch.distributed.fsdp"]
)  # fmt: skip
SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal that killed it), what it returned, what it said."""

    code: int
    result: Any
    said: str


def on_processes(count: int, folder: Path, work: Callable[..., Any], *given: Any, **environment: str) -> list[Ended]:
    """`work(*given)` on each of `count` processes; their files are in `folder`. What is given can be pickled."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(count):
        own = shared | {"RANK": rank, "LOCAL_RANK": rank} if count > 1 else {}
        own = {name: str(value) for name, value in own.items()} | environment
        process = PROCESSES.Process(target=_run, args=(folder / str(rank), own, work, given))
        process.start()
        started.append(process)
    ended = []
    for rank, process in enumerate(started):
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        result = folder / f"{rank}.result"
        said = (folder / f"{rank}.said").read_text()
        assert process.exitcode is not None
        ended.append(Ended(process.exitcode, pickle.loads(result.read_bytes()) if result.exists() else None, said))
    return ended


def _run(place: Path, environment: dict[str, str], work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    with place.with_suffix(".said").open("w", buffering=1) as said:
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = said
        try:
            result = work(*given)
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None
    place.with_suffix(".result").write_bytes(pickle.dumps(result))
