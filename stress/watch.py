"""Cases in a watched process: one that hangs, dies or takes all memory is a fault of that case, not the end.

A module of cases has `prepare(folder)`, which makes what all of them share, and `case(folder, number) -> Case`. One
case by itself, with what the program says: python -m stress.watch stress.inputs EMPTY_FOLDER NUMBER
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from stress.parts import Case

ROOT = Path(__file__).parents[1]
HUNG_SECONDS = 120.0  # on a machine that has other things to do
MEMORY_BYTES = 6 * 2**30  # of addresses: what reads without bound meets it
LONGEST_LINE = 1500
DONE, REFUSED = "done", "refused"


class Wrong(Exception):
    """An answer that is not the right one."""


def command(arguments: Sequence[Any]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the program, in this process."""
    from longread.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return status, out.getvalue(), err.getvalue()


def judge(name: str, arguments: Sequence[Any], check: Callable[[str], None] = lambda out: None) -> Case:
    """A command as a case: done, or refused with exit status 2 and one line; everything else does not hold.

    `check` sees stdout where it is done, and raises Wrong.
    """
    print(f"# {name}", file=sys.__stderr__, flush=True)
    try:
        status, out, err = command(arguments)
        if status == 2:
            line = (err.splitlines() or [""])[-1]  # notes and warnings may stand before it
            if not line.startswith("longread: ") or len(line) > LONGEST_LINE or "Traceback" in err:
                return Case(name, False, "more than a line", err[-600:])
            return Case(name, True, REFUSED, line)
        if status != 0:
            return Case(name, False, f"exit status {status}", err[-600:])
        check(out)
    except Wrong as wrong:
        return Case(name, False, "wrong", str(wrong))
    except BaseException:
        return Case(name, False, "traceback", traceback.format_exc()[-1800:])
    return Case(name, True, DONE)


def watched(module: str) -> Callable[[int, Path], Iterator[Case]]:
    """The cases of a module as a part has them; the process is begun anew behind one that it did not survive."""

    def cases(count: int, folder: Path) -> Iterator[Case]:
        left = list(range(count))
        while left:
            for case in _until_it_ends(module, folder, tuple(left)):
                left.pop(0)
                yield case

    return cases


def _until_it_ends(module: str, folder: Path, numbers: Sequence[int]) -> Iterator[Case]:
    path = os.pathsep.join(str(ROOT / name) for name in ("src", ".", "tests"))
    environment = os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "LONGREAD_CACHE": str(folder / "cache"),
    }
    order = [sys.executable, "-m", "stress.watch", module, str(folder), *map(str, numbers)]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(order, stdout=subprocess.PIPE, stderr=said, text=True, env=environment, cwd=folder)
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            for _ in numbers:
                try:
                    line = lines.get(timeout=HUNG_SECONDS)
                except queue.Empty:
                    yield _last_words("hung", said)
                    return
                if line is None:
                    process.wait()
                    yield _last_words("died", said)
                    return
                yield Case(**json.loads(line))
        finally:
            process.kill()
            process.wait()
            reader.join()
            if process.stdout is not None:
                process.stdout.close()


def _last_words(outcome: str, said: IO[str]) -> Case:
    """Which case it was that did not end, and what the process said of it."""
    said.seek(0)
    before, _, last = said.read().rpartition("# ")
    name, _, detail = last.partition("\n")
    return Case(name if before or detail else "preparation", False, outcome, detail[:600])


def _work(module: str, folder: Path, numbers: Sequence[int]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a case prints is no answer
    logging.basicConfig(handlers=[logging.NullHandler()])
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    cases = importlib.import_module(module)
    if not (folder / "prepared").exists():
        cases.prepare(folder)
        (folder / "prepared").touch()
    for number in numbers:
        try:
            case = cases.case(folder, number)
        except Exception:
            case = Case("the case itself", False, "traceback", traceback.format_exc()[-1800:])
        answers.write(json.dumps(asdict(case)) + "\n")
        answers.flush()


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]).resolve(), [int(number) for number in sys.argv[3:]])
