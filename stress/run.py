"""Faults on purpose, counted: python stress/run.py [PART ...] [--count N] [--jobs N]      (make stress: all of it)

Each part has a process of its own. At the end stands one table; what did not hold is named above it, and the exit
status is then 1. A part that ran whole leaves its counts in results/reliability/counts.json, from which
`make report` fills the table of docs/reliability.md; the first cases alone (--count) are recorded with --record.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]

from stress.parts import Case, Part  # noqa: E402

COUNTS = ROOT / "results" / "reliability" / "counts.json"
NOT_PARTS = ("__init__", "run", "parts", "scale", "gpu")
FAILURES_KEPT = 10
CASE = "case "  # before each case's line on a part's stdout; whatever else it prints is no case


def find_parts() -> dict[str, Part]:
    """By name, in the order of the modules and of their PARTS."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    modules = [importlib.import_module(f"stress.{name}") for name in names if name not in NOT_PARTS]
    return {part.name: part for module in modules for part in getattr(module, "PARTS", ())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--count", type=int, help="cases of each part, in place of its own number")
    parser.add_argument("--record", action="store_true", help="record the counts of --count, too")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="parts at a time")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)  # this process is the part's own
    given = parser.parse_args()
    parts = find_parts()
    unknown = [name for name in given.parts if name not in parts]
    if unknown:
        parser.error(f"{', '.join(unknown)}: there is no such part; there are {', '.join(parts)}")
    if given.here is not None:
        part = parts[given.parts[0]]
        for case in part.cases(given.count or part.count, given.here):
            print(CASE + json.dumps(asdict(case)), flush=True)
        return 0
    chosen = [parts[name] for name in given.parts or parts]
    with ThreadPoolExecutor(given.jobs) as pool:
        results = list(pool.map(lambda part: run_part(part, given.count), chosen))
    for result in results:
        for failure in result["failures"][:FAILURES_KEPT]:
            print(f"{result['name']}: {failure}")
    print(table(results))
    if given.count is None or given.record:
        record(results)
    return 1 if any(result["failures"] for result in results) else 0


def run_part(part: Part, count: int | None) -> dict[str, Any]:
    """Its counts. A part that ends before its last case has failed in the cases that are missing."""
    began, wanted = time.monotonic(), count or part.count
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(prefix="longread-stress-") as folder, tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, __file__, part.name, "--here", folder]
        process = subprocess.Popen(
            [*command, *(["--count", str(count)] if count else [])],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        for case in _cases(process):
            cases.append(case)
            if len(cases) % max(1, wanted // 10) == 0:
                print(f"{part.name}: {len(cases)} of {wanted}", file=sys.stderr)
        code = process.wait()
        errors.seek(0)
        failures = [f"{case.name}: {case.outcome}: {case.detail}" for case in cases if not case.held]
        if code != 0 or len(cases) != wanted:
            failures.append(f"ended with status {code} after {len(cases)} cases: {errors.read()[-2000:]}")
    return {
        "name": part.name,
        "promise": part.promise,
        "cases": wanted,
        "held": sum(case.held for case in cases),
        "outcomes": dict(Counter(case.outcome for case in cases).most_common()),
        "seconds": round(time.monotonic() - began, 1),
        "failures": failures,
    }


def _cases(process: subprocess.Popen[str]) -> Iterator[Case]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(CASE):
            yield Case(**json.loads(line.removeprefix(CASE)))


def table(results: list[dict[str, Any]]) -> str:
    width = max(len(result["name"]) for result in results)
    lines = []
    for result in results:
        outcomes = ", ".join(f"{count} {name}" for name, count in result["outcomes"].items())
        counts = f"{result['held']:,} of {result['cases']:,}"
        lines.append(f"{result['name']:{width}}  {counts:>16}  {result['seconds']:7.1f} s  {outcomes}")
    return "\n".join(lines)


def record(results: list[dict[str, Any]]) -> None:
    """Beside the counts of other parts; each with the commit and the machine that it was made on."""
    import torch

    from longread.records import write_json
    from longread.system.measure import environment

    made_on = environment(torch.device("cpu"), "float32")
    kept = {name: made_on[name] for name in ("commit", "dirty", "processor", "cores", "torch", "python", "platform")}
    counts = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    for result in results:
        values = {name: value for name, value in result.items() if name != "name"}
        values["failures"] = values["failures"][:FAILURES_KEPT]
        counts[result["name"]] = values | {"environment": kept}
    write_json(COUNTS, counts)


if __name__ == "__main__":
    sys.exit(main())
