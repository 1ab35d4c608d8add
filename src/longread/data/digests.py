"""What the bytes of a file were when its rows were read: by them it is known again, wherever it lies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from longread.data.shards import Shard
from longread.data.sources import told


@dataclass(frozen=True)
class Digest:
    """Size and SHA-256 of a file."""

    size: int
    sha256: str

    def is_of(self, shard: Shard) -> bool:
        """Whether the file has these bytes; one of another size is not read."""
        return isinstance(shard.place, Path) and shard.size == self.size and digest_of(shard) == self


@dataclass(frozen=True)
class ReadFile:
    """One of the files that a table was read from, and how many of its rows are that file's."""

    shard: Shard
    rows: int
    digest: Digest | None


def digest_of(shard: Shard) -> Digest | None:
    """None for a file behind a URL: it would be fetched twice."""
    if not isinstance(shard.place, Path):
        return None
    with told(shard.source), shard.place.open("rb") as file:
        return Digest(shard.size, hashlib.file_digest(file, "sha256").hexdigest())
