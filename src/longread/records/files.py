"""Fingerprints, and files that appear whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from longread.records.lock import is_still, try_lock

TEMPORARY = ".tmp"  # at the end of the names of half-written files, which begin with a dot


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one value, one text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(*parts: str | bytes) -> str:
    """SHA-256 of the parts, 16 hexadecimal characters; the boundaries between parts count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def write_atomically(path: Path, data: bytes | str) -> None:
    """The file appears whole or not at all, also after a loss of power."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    descriptor, temporary = temporary_file(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)  # while the lock is held: nobody takes it for a leftover
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk: which one?
            error.filename = str(path)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Deletes what processes that were killed left half-written: temporary files whose lock nobody holds.

    name: of the file or folder that they were to become; None for all in `folder`.
    """
    for path in folder.glob(f".{'*' if name is None else glob.escape(name)}.*{TEMPORARY}"):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            if not try_lock(descriptor):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError:  # no locks here, or not ours to delete: it stays
            pass
        finally:
            os.close(descriptor)


def temporary_file(path: Path) -> tuple[int, str]:
    """An empty file beside `path`, locked for as long as it is open: its descriptor and its name."""
    while True:
        descriptor, temporary = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
        if _locked(temporary, descriptor):
            return descriptor, temporary


def temporary_folder(path: Path) -> tuple[int, str]:
    """The same for a folder."""
    while True:
        temporary = tempfile.mkdtemp(TEMPORARY, f".{path.name}.", path.parent)
        descriptor = os.open(temporary, os.O_RDONLY)
        if _locked(temporary, descriptor):
            return descriptor, temporary


def _locked(temporary: str, descriptor: int) -> bool:
    """False where another process took it for a leftover before it was locked."""
    try:
        mine = try_lock(descriptor)
    except OSError:  # no locks here: then nobody deletes it either
        mine = True
    if mine and is_still(Path(temporary), descriptor):
        return True
    os.close(descriptor)
    return False


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """indent None: on one line, without spaces."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """JSON lines."""
    text = "".join(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values)
    write_atomically(path, text)
