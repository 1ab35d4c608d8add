"""What a Ray cluster sets aside for each run. No torch, no Ray."""

from __future__ import annotations

from dataclasses import dataclass, replace

from longread.config import RunConfig
from longread.errors import UserError, option_name


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which cluster, and what it sets aside for each run.

    Parameters
    ----------
    address:
        Of a Ray cluster, HOST:PORT or ray://HOST:PORT. Default: RAY_ADDRESS, a cluster on this machine, or a new one.
    run_cpus:
        Processor cores for each run; default --threads, or 1. A run without --threads has as many threads.
    run_memory:
        Gigabytes of memory for each run.
    run_gpus:
        GPUs for each run; 0.5 puts two on one. Leave --device at auto.
    run_retries:
        How often a run begins again whose worker was lost; it goes on from its last state.
    store:
        Where runs are kept if --out is no folder that all machines share: a folder of theirs or an fsspec URL, such as
        s3://BUCKET/FOLDER. Records are then copied to --out; checkpoints stay there.
    """

    address: str | None = None
    run_cpus: int | None = None
    run_memory: float = 2.0
    run_gpus: float = 0.0
    run_retries: int = 3
    store: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("run_cpus", 1), ("run_memory", 0), ("run_gpus", 0), ("run_retries", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{option_name(name)} {value}: must be {least} or more")

    def settled(self, config: RunConfig) -> RunConfig:
        """A run takes the threads that are set aside for it."""
        return replace(config, threads=config.threads or self.cores(config))

    def cores(self, config: RunConfig) -> int:
        return self.run_cpus or config.threads or 1
