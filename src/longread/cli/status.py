"""Exit statuses of the program; 0 is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longread.records import Run

log = logging.getLogger("longread")

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def status_of_one(run: Run) -> int:
    """Of a command that has a single run; it says how that ended, if not well."""
    status = run.record["status"]
    if status == "ok":
        return 0
    log.error("%s: %s", status, run.record["error"])
    return INTERRUPTED if status == "interrupted" else FAILED


def status_of(finished: Iterable[Run], *, fine: tuple[str, ...] = ("ok",)) -> int:
    """Of a command that ran them all; it says which of them did not end well, and why."""
    failed = [run.record for run in finished if run.record["status"] not in fine]
    for record in failed:
        log.error("%s: %s: %s", record["attention"], record["status"], record["error"])
    return FAILED if failed else 0
