"""`longread runs`: what lies under --out, and what of it may go."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from longread.cli import logs
from longread.cli.logs import log
from longread.cli.options import JsonLines, Several
from longread.errors import UserError

if TYPE_CHECKING:
    from longread.records.inventory import Kept

RECOMMENDED = "recommended"


def runs(
    *,
    out: Path = Path("out"),
    drop_checkpoints: bool = False,
    keep: Annotated[list[str] | None, Several] = None,
    yes: bool = False,
    json_lines: JsonLines = False,
) -> int:
    """All runs under --out: status, task, attention, accuracy (or another metric), size on disk, age.

    Example: longread runs --out out --drop-checkpoints --keep recommended

    Parameters
    ----------
    out:
        What was given to compare or train as --out.
    drop_checkpoints:
        Delete checkpoints and saved states of all runs but those that --keep names. Records and predictions stay, and
        so does a run that is going on.
    keep:
        Runs whose checkpoints stay: their names, or how these begin; recommended for the three of the report.
    yes:
        Do not ask.
    json_lines:
        One JSON object a run on stdout.
    """
    from longread.records.inventory import kept_runs

    if not drop_checkpoints and (keep or yes):
        raise UserError(f"{'--keep' if keep else '--yes'}: only with --drop-checkpoints")
    found = kept_runs(out)
    if not found:
        raise UserError(f"--out {out}: there are no runs; longread train and compare write some")
    if drop_checkpoints:
        return _drop(out, found, keep, yes, json_lines)
    if json_lines:
        for run in found:
            print(json.dumps(run.to_json()))
        return 0
    _table(found)
    cache = sum(path.stat().st_size for path in (out / "cache").rglob("*") if path.is_file())
    total, heavy = (size(sum(counts)) for counts in zip(*((run.bytes, run.heavy_bytes) for run in found), strict=True))
    runs = f"{len(found):,} run{'' if len(found) == 1 else 's'}"
    logs.result(f"{runs}, {total}, of it {heavy} checkpoints and states; cache {size(cache)}")
    return 0


def _table(found: list[Kept]) -> None:
    rows = [("run", "kind", "status", "task", "attention", "metric", "", "size", "age")]
    for run in found:
        record, told = run.record or {}, run.headline
        rows.append(
            (
                run.name, str(record.get("kind", "")), run.status, str(record.get("task", "")),
                str(record.get("attention", "")), told[0] if told else "", f"{told[1]:.4f}" if told else "",
                size(run.bytes), age(time.time() - run.changed),
            )
        )  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    right = (6, 7, 8)
    for row in rows:
        cells = (t.rjust(w) if i in right else t.ljust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True)))
        print("  ".join(cells).rstrip())


def _drop(out: Path, found: list[Kept], keep: list[str] | None, yes: bool, json_lines: bool) -> int:
    from longread.records.inventory import drop_checkpoint

    if not keep:
        raise UserError("--drop-checkpoints: say what stays: --keep RUN, or --keep recommended")
    stay = _chosen(out, found, keep)
    going = [run for run in found if run.name not in stay and run.heavy_bytes and not run.running]
    for run in found:
        if run.running and run.name not in stay:
            log.info("%s: going on, is not touched", run.name)
    if not going:
        logs.result("nothing to delete")
        return 0
    stopped = sum(run.status != "ok" for run in going)
    what = f"checkpoints and states of {len(going)} of {len(found)} runs, {size(sum(r.heavy_bytes for r in going))}"
    more = f"; {stopped} of them did not end well and cannot be resumed then" if stopped else ""
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"--drop-checkpoints: would delete {what}{more}; give --yes")
        print(f"delete {what}{more}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            logs.result("nothing deleted")
            return 0
    freed = 0
    for run in going:
        freed += (own := drop_checkpoint(run))
        if json_lines:
            print(json.dumps({"run_id": run.name, "freed_bytes": own}))
    logs.result(f"{size(freed)} freed ({freed:,} bytes)")
    return 0


def _chosen(out: Path, found: list[Kept], keep: list[str]) -> set[str]:
    """Names of the runs that stay. UserError for one that is not there."""
    stay: set[str] = set()
    for name in keep:
        if name == RECOMMENDED:
            from longread.report import recommended_runs

            own = recommended_runs(out)
            if not own:
                raise UserError("--keep recommended: the report recommends none; name runs")
        else:
            own = {run.name for run in found if run.name.startswith(Path(name).name)}
            if len(own) != 1:
                raise UserError(f"--keep {name}: {len(own) or 'no'} runs under {out} begin so; give one run's name")
        stay |= own
    return stay


def size(count: int) -> str:
    """12 KB, 3.4 MB."""
    amount = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def age(seconds: float) -> str:
    """5 min, 3 h, 12 d."""
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "now"
