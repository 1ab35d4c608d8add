"""Many processes write their records into one folder at once, and others read it: nothing is lost, nothing torn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from longread.records import RunRecord, read_runs, write_record
from stress.parts import Case, Part

WRITERS = 8


def write(out: Path, writer: int, count: int) -> None:
    for number in range(count):
        config = {"task": "stress", "writer": writer, "number": number, "filling": "x" * 5000}
        write_record(
            out,
            RunRecord(
                run_id=f"{writer:08x}{number:08x}", kind="train", status="ok", task="stress", attention="dense",
                init="scratch", config=config, seed=number, metrics={"accuracy": number / count},
            ),
        )  # fmt: skip


def concurrent_records(count: int, folder: Path) -> Iterator[Case]:
    """`count` records, from 8 writers, while this process reads: a torn one would be named damaged."""
    each = -(-count // WRITERS)
    children = []
    for writer in range(WRITERS):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                write(folder, writer, each)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    torn: set[str] = set()
    running = set(children)
    while running:
        for child in children:
            if child in running and (ended := os.waitpid(child, os.WNOHANG))[0]:
                running.discard(child)
                assert ended[1] == 0, f"a writer ended with {ended[1]}"
        torn |= set(read_runs(folder)[1])
    found = {(run.record["config"]["writer"], run.record["seed"]) for run in read_runs(folder)[0]}
    left = [path.name for path in folder.rglob(".*")]
    for number in range(count):
        writer, index = divmod(number, each)
        here = (writer, index) in found
        yield Case(f"writer {writer}, record {index}", here, "found" if here else "lost")
    assert not torn and not left, f"torn while written: {torn}; left behind: {left}"


PARTS = (
    Part("records", "records written by eight processes at once are all found, none torn", 800, concurrent_records),
)
