"""What a command says and does where torchrun has started it as one of several processes. Loads no torch."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Container, Sequence
from contextlib import suppress

from longread.errors import UserError

ON_PROCESSES = ("train", "convert", "pretrain", "evaluate", "predict")  # one run on the processes that torchrun starts


def leave(why: str) -> None:
    """The line that ends this process, where torchrun looks for it: its own last lines then say why, too."""
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not place:
        return
    told = {"message": why, "extraInfo": {"py_callstack": why, "timestamp": str(int(time.time()))}}
    with suppress(OSError), open(place, "w", encoding="utf-8") as file:
        json.dump({"message": told}, file)


def again(arguments: Sequence[str]) -> str:
    """How a command on several processes goes on when one of them is lost."""
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) < int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")):
        return "torchrun begins it again, and it goes on from there"
    resumes = arguments[:1] in (["train"], ["convert"], ["pretrain"]) and "--resume" not in arguments
    command = shlex.join(["longread", *arguments, *(["--resume"] if resumes else [])])
    here = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
    return f"go on, with any number of processes: torchrun --nproc-per-node {here} -m {command}"


def check(arguments: Sequence[str], commands: Container[str]) -> None:
    """UserError where torchrun starts a command that would do the same work in each of its processes."""
    if problem := wrong_environment():
        raise UserError(f"{problem}; start the processes with torchrun, or unset WORLD_SIZE and RANK")
    command = arguments[0] if arguments else ""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and command in commands and command not in ON_PROCESSES:
        raise UserError(f"{command} does not run under torchrun; only {', '.join(ON_PROCESSES)} do")


def wrong_environment() -> str | None:
    """What is wrong with what torchrun says of this process in the environment: with that it would wait for ever."""
    given = {name: os.environ.get(name, default) for name, default in (("WORLD_SIZE", "1"), ("RANK", ""))}
    if not given["WORLD_SIZE"].isdecimal() or int(given["WORLD_SIZE"]) < 1:
        return f"WORLD_SIZE={given['WORLD_SIZE']}: is no number of processes"
    size = int(given["WORLD_SIZE"])
    if size == 1:
        return None
    if not given["RANK"].isdecimal() or int(given["RANK"]) >= size:
        return f"WORLD_SIZE={size}, RANK={given['RANK']}: of {size} processes each has a number from 0 to {size - 1}"
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    return f"WORLD_SIZE={size} without {missing[0]}, where the processes meet" if missing else None
