"""One run in a process of its own: an order as JSON on stdin, events as JSON lines on stdout.

A grid starts one for each run, so that no run sees another's memory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.errors import UserError, system_error
from longread.training.signals import signals_interrupt

if TYPE_CHECKING:
    from longread.records import Run

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
CODES = {"ok": 0, "interrupted": INTERRUPTED}


def main() -> int:
    try:
        with signals_interrupt():
            return _main()
    except KeyboardInterrupt:  # before or behind the training, which saves its state
        return INTERRUPTED


def _main() -> int:
    from longread.system.allocator import tune_allocator

    tune_allocator()
    order = json.load(sys.stdin)
    out = sys.stdout

    def send(event: dict[str, object]) -> None:
        nonlocal out
        try:
            out.write(json.dumps(event) + "\n")
            out.flush()
        except BrokenPipeError:  # nobody watches any more: what a signal asks for, and the rest goes unsaid
            sys.stdout = out = open(os.devnull, "w")  # noqa: SIM115
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        run = _run(order, send)
    except UserError as error:
        send({"event": "refused", "error": str(error)})
        return WRONG_INPUT
    except OSError as error:
        if order["kind"] != "benchmark":  # a training's traceback is kept with its record
            raise
        send({"event": "refused", "error": system_error(error)})
        return WRONG_INPUT
    return CODES.get(run.record["status"], FAILED)


def _run(order: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> Run:
    if order["mechanisms"]:
        from longread.attention import register

        for name, place in order["mechanisms"]:
            register(name, place)
    if order["kind"] == "benchmark":
        from longread.study.benchmark import BenchmarkConfig, benchmark

        values = order["config"]
        values |= {"lengths": tuple(values["lengths"]), "out": Path(values["out"])}
        values["options"] = tuple((name, value) for name, value in values["options"])
        return benchmark(BenchmarkConfig(**values), on_event=send)
    from longread.config import RunConfig
    from longread.training.distill import distill
    from longread.training.run import train

    config, steps = RunConfig.from_json(order["config"]), order["distill_steps"]
    if steps is None:
        return train(config, resume=True, on_event=send)
    return distill(config, steps=steps, resume=True, on_event=send)


if __name__ == "__main__":
    sys.exit(main())
