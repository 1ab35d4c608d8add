"""Arrays that are larger than memory: a folder of files, written whole or not at all and read as memory maps.

What stands beside them (`about`) has the size, the SHA-256 and the times of each file. A folder whose files have these
sizes and times is believed; one whose times differ (copied, edited) is read through once, and made anew if it changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from longread.records import write_atomically
from longread.records.files import remove_leftovers, temporary_folder

log = logging.getLogger("longread")

ABOUT = "about.json"
# Rows that are read at random places before the maps let go of their pages: the system keeps the pages while memory is
# free, but they would be counted as this process's. Reading one maps up to 64 KiB around it.
ROWS_BETWEEN_RELEASES = 256


class Writer:
    """One file of an array, appended to; its checksum is made on the way."""

    def __init__(self, file: BinaryIO, dtype: npt.DTypeLike) -> None:
        self.file, self.dtype = file, np.dtype(dtype)
        self.digest, self.count = hashlib.sha256(), 0

    def append(self, values: npt.ArrayLike) -> None:
        array = np.ascontiguousarray(values, dtype=self.dtype)
        self.write(array.data.cast("B") if array.size else b"")
        self.count += len(array)

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self.digest.update(data)


class NewFolder:
    """A folder that is being written. `about`: plain values to be kept with it."""

    def __init__(self, place: Path) -> None:
        self.place, self.about = place, dict[str, Any]()
        self._writers: dict[str, Writer] = {}
        self._widths: dict[str, int | None] = {}
        self._files: dict[str, dict[str, Any]] = {}

    def array(self, name: str, dtype: npt.DTypeLike, width: int | None = None) -> Writer:
        """width: of an array [R, width]."""
        self._writers[name] = Writer((self.place / name).open("wb"), dtype)
        self._widths[name] = width
        return self._writers[name]

    def close(self) -> dict[str, str]:
        """The arrays are on disk; name -> SHA-256 of each."""
        files = self._files
        for name, writer in self._writers.items():
            writer.file.flush()
            os.fsync(writer.file.fileno())
            writer.file.close()
            path = self.place / name
            files[name] = {
                "dtype": writer.dtype.str,
                "size": path.stat().st_size,
                "sha256": writer.digest.hexdigest(),
                "times": _times(path),
            }
        self._writers = {}
        return {name: str(file["sha256"]) for name, file in files.items()}

    def seal(self) -> None:
        """`about` is on disk: from here on the folder is whole."""
        _write_about(self.place, {"values": self.about, "widths": self._widths, "files": self._files})

    def abandon(self) -> None:
        for writer in self._writers.values():
            with suppress(OSError):  # a full disk takes the last bytes no more than the others
                writer.file.close()
        shutil.rmtree(self.place, ignore_errors=True)


@contextmanager
def new_folder(path: Path) -> Iterator[NewFolder]:
    """Beside `path`, deleted at the end unless it was moved (`move_to`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    descriptor, temporary = temporary_folder(path)
    folder = NewFolder(Path(temporary))
    try:
        yield folder
    except OSError as error:
        if error.filename is None:  # a full disk: which one?
            error.filename = str(path.parent)
        raise
    finally:
        folder.abandon()
        os.close(descriptor)


def move_to(folder: NewFolder, path: Path) -> None:
    """A closed folder to its place; another process may have put the same there."""
    os.chmod(folder.place, 0o755)
    try:
        os.rename(folder.place, path)
    except OSError:
        if not path.is_dir():
            raise


@dataclass(frozen=True)
class Maps:
    """Arrays of one folder, read only, and what was kept about them."""

    folder: Path
    about: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]
    _maps: list[mmap.mmap] = field(default_factory=list, repr=False)
    _rows: list[int] = field(default_factory=lambda: [0], repr=False)

    def used(self, rows: int) -> None:
        """To be told of reading so many rows: the pages that they are on are let go from time to time."""
        self._rows[0] += rows
        if self._rows[0] >= ROWS_BETWEEN_RELEASES:
            self._rows[0] = 0
            self.release()

    def release(self) -> None:
        for own in self._maps:
            own.madvise(mmap.MADV_DONTNEED)


def open_folder(path: Path) -> Maps | None:
    """None where there is nothing, or it is not what was written (which is logged): it is then deleted."""
    if not path.is_dir():
        return None
    about = _read_about(path)
    problem = "has no whole description" if about is None else _problem(path, about)
    if problem is not None:
        log.warning("%s: %s; made anew", path, problem)
        shutil.rmtree(path, ignore_errors=True)
        return None
    assert about is not None
    arrays, maps = {}, []
    for name, file in about["files"].items():
        width = about["widths"][name]
        if not file["size"]:
            arrays[name] = np.zeros((0,) if width is None else (0, width), dtype=file["dtype"])
            continue
        with (path / name).open("rb") as content:
            maps.append(mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ))
        array = np.frombuffer(maps[-1], dtype=file["dtype"])
        arrays[name] = array if width is None else array.reshape(-1, width)
    return Maps(path, about["values"], arrays, maps)


def _problem(path: Path, about: Mapping[str, Any]) -> str | None:
    """Why the files are not the ones that were written."""
    other_times = False
    for name, file in about["files"].items():
        try:
            size = (path / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if size != file["size"]:
            return f"{name} has {size:,} bytes where {file['size']:,} were written"
        other_times = other_times or _times(path / name) != file["times"]
    if not other_times:
        return None
    for name, file in about["files"].items():
        with (path / name).open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file["sha256"]:
                return f"{name} is not what was written"
    files = {name: file | {"times": _times(path / name)} for name, file in about["files"].items()}
    try:
        _write_about(path, {**about, "files": files})
    except OSError:  # of somebody else: it is read through each time
        pass
    return None


def _times(path: Path) -> list[int]:
    """What the system changes whenever a file is written to or replaced."""
    stat = path.stat()
    return [stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _write_about(place: Path, about: Mapping[str, Any]) -> None:
    text = json.dumps(about)
    seal = hashlib.sha256(text.encode()).hexdigest()
    write_atomically(place / ABOUT, f"{seal}\n{text}\n")


def _read_about(path: Path) -> dict[str, Any] | None:
    try:
        seal, text = (path / ABOUT).read_text("utf-8").split("\n", 1)
    except (OSError, ValueError):
        return None
    text = text.removesuffix("\n")
    if hashlib.sha256(text.encode()).hexdigest() != seal:
        return None
    found: dict[str, Any] = json.loads(text)
    return found
