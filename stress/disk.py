"""Training on a disk that fills up, may not be written, loses the folder, errs or is slow, and what is left afterwards.

The command ends with one line and exit status 1 or 2 (or does its work all the same), every saved state is whole, and
once the disk is well again the run goes on to the bits of the run that had no fault. Full and read-only disks are real
ones, in memory, where the machine lets a process mount one (root on Linux); elsewhere, and for what cannot be had
otherwise, the system's answer is given from inside the program.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import random
import resource
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stress.forked import Kill, Program, load_once
from stress.kills import DISTILLED, RUNS, Whole, differences, is_linear, left_by, make_tables, whole_run
from stress.parts import Case, Part

SEED = 43
NAMES = [*list(RUNS)[:4], "tfidf", DISTILLED]
FAULTS = (
    "full",
    "full",
    "no room for a file",
    "read-only",
    "read-only later",
    "vanished",
    "file too large",
    "error",
    "slow",
)
ANSWERS = {"read-only later": (errno.EROFS,), "error": (errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.EACCES)}
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of unshare(2): what is mounted is seen by this process alone and ends with it


def disk(count: int, folder: Path) -> Iterator[Case]:
    load_once()
    make_tables(folder)
    mounts = _own_mounts()
    for number in range(count):
        name = NAMES[number % len(NAMES)]
        rng = random.Random(SEED * 1_000_003 + number)
        fault = rng.choice(FAULTS)
        place = folder / f"case-{number}"
        place.mkdir()
        try:
            yield _case(name, fault, whole_run(name, folder), place, rng, mounts)
        except Exception:
            yield Case(f"{name}, {fault}", False, "traceback", traceback.format_exc()[-1500:])
        shutil.rmtree(place, ignore_errors=True)


def _case(name: str, fault: str, whole: Whole, place: Path, rng: random.Random, mounts: bool) -> Case:
    out = place / "out"
    order = [*whole.order, "--out", str(out), *([] if is_linear(whole.order) else ["--save-seconds", "0"])]
    begun = rng.random() < 0.3
    with _mounted(out) if mounts else _plain(out):
        for tries in range(8):  # a fault that came too late is none
            text = f"{name}, {fault}"
            if begun:
                Program([*order, "--resume"], out, Kill("change", rng.randint(1, whole.changes), None)).run()
                text += ", stopped before"
            before = _newest(out)
            status, said = _with_fault(fault, [*order, "--resume"], out, whole, rng, mounts, 2**tries)
            if status != 0:
                break
            if left_by(out) != whole.left:
                return Case(text, False, "other results in spite of the fault", said)
            for path in out.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            return Case(text, True, "done in spite of it")
        if wrong := _wrong(fault, status, said, out, before):
            return Case(text, False, wrong, said)
        again, said_again = Program([*order, "--resume"], out).run()
        if again != 0:
            return Case(text, False, f"does not go on: exit status {again}", said_again)
        if names := differences(left_by(out), whole.left):
            return Case(text, False, "different", names)
    return Case(text, True, {-9: "killed while slow", 1: "exit status 1", 2: "exit status 2"}[status])


def _wrong(fault: str, status: int, said: str, out: Path, before: int) -> str | None:
    from longread.training import state

    if fault == "slow":
        if status != -9:
            return f"exit status {status}"
    elif status not in (1, 2):
        return f"exit status {status}"
    elif "Traceback" in said or not (said.splitlines() or [""])[-1].startswith("longread: "):
        return "no clear line"
    for directory in out.glob("runs/*"):
        files = state.state_files(directory)
        if any(state._problem(file) is not None for file in files):
            return "a damaged state"
    ended = list(out.glob("runs/*/run.json"))
    return "the state from before is gone" if _newest(out) < before and not ended else None


def _newest(out: Path) -> int:
    """The step of the newest saved state; -1 where there is none."""
    from longread.training import state

    return max((state.step_of(file) for found in out.glob("runs/*") for file in state.state_files(found)), default=-1)


def _with_fault(
    fault: str, order: list[str], out: Path, whole: Whole, rng: random.Random, mounts: bool, sooner: int
) -> tuple[int, str]:
    number = rng.randint(1, max(1, whole.changes // sooner))
    if fault in ("full", "no room for a file") and mounts:
        used = sum(path.stat().st_blocks * 512 for path in out.rglob("*"))
        files = sum(1 for _ in out.rglob("*"))
        size = f"size={used + rng.randint(4096, max(8192, 300_000 // sooner))}"
        limit = size if fault == "full" else f"size=64m,nr_inodes={files + rng.randint(2, max(3, 30 // sooner))}"
        with _remounted(out, limit, "size=64m,nr_inodes=10000"):
            return Program(order, out).run()
    if fault == "read-only" and mounts:
        with _remounted(out, "ro", "rw"):
            return Program(order, out).run()
    if fault == "vanished":
        moved = out.with_name("moved")
        inside = out / "runs"  # of a mounted folder the inside can be moved
        result = Program(order, out, inside=functools.partial(_answering, _moving(inside, moved), number, None)).run()
        if moved.exists() and result[0] != 0:
            shutil.rmtree(inside, ignore_errors=True)  # what was begun anew before the error
            shutil.copytree(moved, inside)
        shutil.rmtree(moved, ignore_errors=True)
        return result
    if fault == "file too large":
        size = rng.randint(1024, max(2048, 40_000 // sooner))
        return Program(order, out, before=functools.partial(_limited, size)).run()
    if fault == "slow":
        seconds = rng.uniform(0.005, 0.03)
        kill = Kill("start", seconds=rng.uniform(0.2, 0.5) * whole.seconds + seconds * number)
        return Program(order, out, kill, before=functools.partial(_slow, seconds)).run()
    answers = ANSWERS.get(fault, (errno.ENOSPC if fault != "read-only" else errno.EROFS,))
    until = number + rng.choice((1, 3, 10**9))
    return Program(order, out, inside=functools.partial(_answering, _failing(rng.choice(answers)), number, until)).run()


def _answering(act: Callable[[str], None], number: int, until: int | None, change: int, path: str) -> None:
    """What the program meets at its changes of files from `number` on, up to `until` (None: at that one alone)."""
    if number <= change < (number + 1 if until is None else until):
        act(path)


def _failing(code: int) -> Callable[[str], None]:
    def act(path: str) -> None:
        raise OSError(code, os.strerror(code), path)

    return act


def _moving(folder: Path, to: Path) -> Callable[[str], None]:
    """By another program: this one's hooks are not asked again."""

    def act(path: str) -> None:
        if folder.exists():
            subprocess.run(["cp", "-a", folder, to], check=True)
            subprocess.run(["rm", "-rf", folder], check=True)

    return act


def _limited(size: int) -> None:
    """Writing fails in the middle of a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _slow(seconds: float) -> None:
    def slowed(call: Callable[[int], None]) -> Callable[[int], None]:
        def late(descriptor: int) -> None:
            time.sleep(seconds)
            call(descriptor)
            time.sleep(seconds)

        return late

    os.fsync = slowed(os.fsync)  # type: ignore[assignment]


def _own_mounts() -> bool:
    """Whether this process can mount, where nobody else sees it."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.unshare(NEW_MOUNTS) == 0 and _mount("--make-rprivate", "/")
    except (OSError, AttributeError):
        return False


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


@contextmanager
def _mounted(out: Path) -> Iterator[None]:
    out.mkdir()
    assert _mount("-t", "tmpfs", "-o", "size=64m", "none", str(out))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


@contextmanager
def _plain(out: Path) -> Iterator[None]:
    out.mkdir()
    yield


@contextmanager
def _remounted(out: Path, options: str, after: str) -> Iterator[None]:
    assert _mount("-o", f"remount,{options}", str(out)), options
    try:
        yield
    finally:
        assert _mount("-o", f"remount,{after}", str(out))


PARTS = (
    Part(
        "disk",
        "a full, read-only, vanished or slow disk ends a run in one line with every state whole, and it goes on",
        200,
        disk,
    ),
)
