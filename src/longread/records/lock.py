"""One process alone in a run's folder, and among the temporary files of others: locks that the end of a process frees.

`flock` is kept by the kernel for an open file: however a process ends, its locks end with it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("longread")

LOCK = ".lock"  # in a run's folder, while a process has it; holds that process's number


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Alone in `directory`, which is made, until the end of the block. True: another process was in it before.

    Waits for the other's end, and says so. Where the file system has no locks, a warning, and no protection.
    """
    path = directory / LOCK
    descriptor, waited = _take(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield waited
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        try:
            directory.rmdir()
        except OSError:  # not empty, as a rule
            pass


@contextmanager
def locked_if_free(directory: Path) -> Iterator[bool]:
    """As `locked`, but where another process is in it, False at once. False, too, where there are no locks."""
    path = directory / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    mine = False
    try:
        try:
            mine = try_lock(descriptor) and is_still(path, descriptor)
        except OSError:
            pass
        yield mine
    finally:
        if mine:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def check_held(directory: Path) -> None:
    """FileNotFoundError where a folder that is `locked` here was deleted or moved, with what was written to it before.

    For the end of a run: its record, which is in a new folder then, goes.
    """
    if not (directory / LOCK).exists():
        (directory / "run.json").unlink(missing_ok=True)
        raise FileNotFoundError(errno.ENOENT, "the run's folder was deleted or moved while it ran", str(directory))


def is_locked(directory: Path) -> bool:
    """Whether a process is in it now."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _take(path: Path) -> tuple[int, bool]:
    waited = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            waited = _wait(path, descriptor, waited) or waited
            if is_still(path, descriptor):
                return descriptor, waited
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner has deleted it: the next one is another file


def _wait(path: Path, descriptor: int, said: bool) -> bool:
    """Whether there was somebody to wait for; `said`: the user knows already."""
    try:
        if try_lock(descriptor):
            return False
    except OSError as error:
        log.warning("%s: no locks here (%s); let no two processes have one run", path.parent, error.strerror)
        return False
    if not said:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
        log.warning("%s: process %s has this run; waiting until it ends", path.parent, owner)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def try_lock(descriptor: int) -> bool:
    """False where another open file of another process, or of this one, has it. OSError where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_still(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that the path leads to."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
