"""How much is read of a file, which anybody may have made: so much, and no endless line, bomb or device beyond it."""

from __future__ import annotations

from pathlib import Path

from longread.errors import UserError

LONGEST_TEXT = 2**27  # characters of a line or a cell
# A compressed file is taken for a bomb where it unpacks to more than both. Text packs to a third, logs to a fiftieth.
UNPACKED_BYTES, UNPACKED_TIMES = 2**30, 200
CHECK_BYTES = 8 * 2**20  # of a table that is held in memory, between two looks at how much memory is left
KEPT_FREE = 0.05  # of all memory, for what follows the reading

CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def check_unpacked(source: str, path: Path, read: int) -> None:
    """UserError where `read` bytes of a compressed file are more than a text would give."""
    if read > UNPACKED_BYTES and read > UNPACKED_TIMES * path.stat().st_size:
        raise UserError(
            f"{source}: unpacks to more than {UNPACKED_BYTES >> 30} GiB, over {UNPACKED_TIMES} times its size, "
            "which no text does; unpack it, and give that file if it is meant"
        )


class Holding:
    """What is being held of a file in memory. UserError before it is all the memory there is."""

    def __init__(self, source: str) -> None:
        self._source, self._rows, self._since = source, 0, 0

    def add(self, size: int) -> None:
        """One row more, of so many bytes or characters."""
        self._rows, self._since = self._rows + 1, self._since + size + 64
        if self._since > CHECK_BYTES:
            self._since = 0
            total, free = memory()
            if free < KEPT_FREE * total:
                raise UserError(
                    f"{self._source}: memory is full after {self._rows:,} rows ({free / 2**30:.1f} GiB of "
                    f"{total / 2**30:.1f} are free); give a part of the file"
                )


def memory() -> tuple[int, int]:
    """Bytes that this process may have, all in all and still: of the machine, or of its container."""
    import psutil

    found = psutil.virtual_memory()
    total, free = int(found.total), int(found.available)
    for limit, used, cache in CGROUPS:
        try:
            most, now = int(Path(limit).read_text()), int(Path(used).read_text())
            stat = dict(line.split() for line in Path(limit).with_name("memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # none, or none set
            continue
        if most < total:
            total, free = most, min(free, most - now + int(stat.get(cache, 0)))
    return total, free
