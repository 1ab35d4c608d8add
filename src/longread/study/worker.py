"""One run in a process of its own: an order as JSON on stdin, events as JSON lines on stdout.

A grid starts one for each run, so that no run sees another's memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from longread.errors import UserError

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
CODES = {"ok": 0, "interrupted": INTERRUPTED}


def main() -> int:
    from longread.system.allocator import tune_allocator

    tune_allocator()
    order = json.load(sys.stdin)
    out = sys.stdout

    def send(event: dict[str, object]) -> None:
        out.write(json.dumps(event) + "\n")
        out.flush()

    try:
        if order["mechanism"] is not None:
            from longread.attention import register

            register(*order["mechanism"])
        if order["kind"] == "benchmark":
            from longread.study.benchmark import BenchmarkConfig, benchmark

            values = order["config"]
            values |= {"lengths": tuple(values["lengths"]), "out": Path(values["out"])}
            values["options"] = tuple((name, value) for name, value in values["options"])
            run = benchmark(BenchmarkConfig(**values), on_event=send)
        else:
            from longread.config import RunConfig
            from longread.training.run import train

            run = train(RunConfig.from_json(order["config"]), resume=order["resume"], on_event=send)
    except UserError as error:
        send({"event": "refused", "error": str(error)})
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    return CODES.get(run.record["status"], FAILED)


if __name__ == "__main__":
    sys.exit(main())
