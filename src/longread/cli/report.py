"""`longread report` and `longread tasks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from longread.cli import logs


def report(
    directory: Path = Path("out"), /, *, against: Path | None = None, out: Path | None = None, figures: bool = True
) -> int:
    """Tables, figures and the page again, from the run records alone.

    Parameters
    ----------
    directory:
        What was given to compare as --out.
    against:
        Another such directory: what changed from it to DIRECTORY, as comparison.md and comparison.html.
    out:
        Where to write; default: the same directory.
    figures:
        Without them, only the tables are made (report.md).
    """
    from longread.report import build_report, compare_folders

    if against is not None:
        page = compare_folders(against, directory, out)
        logs.result(f"comparison: {page}", report=page)
        return 0
    page = build_report(directory, out, figures=figures)
    logs.result(f"report: {page}", report=page)
    return 0


def tasks(*, json_lines: Annotated[bool, Parameter(name="--json")] = False) -> int:
    """Every task: rows, classes, lengths, where it comes from.

    Parameters
    ----------
    json_lines:
        One JSON object a line on stdout.
    """
    from longread.data.tasks import TASKS

    lines = [_task_line(task) for task in TASKS.values()]
    if json_lines:
        for line in lines:
            print(json.dumps(line))
        return 0
    width = max(len(line["task"]) for line in lines)
    for line in lines:
        print(f"{line['task']:{width}} {line['what']}")
        for key in ("rows", "classes", "length", "columns", "from", "licence"):
            print(f"{'':{width}} {key:8} {line[key]}")
    print("Your own: a .csv, .tsv, .jsonl, .parquet or .arrow file (or a directory of splits), or hub:OWNER/NAME.")
    return 0


def _task_line(task: Any) -> dict[str, Any]:
    generated = task.generate is not None
    rows = task.split_rows or {"train": task.train_rows, "validation": task.eval_rows}
    return {
        "task": task.name,
        "rows": ", ".join(f"{count:,} {split}" for split, count in rows.items()),
        "classes": ", ".join(task.label_names),
        "length": f"{task.shortest:,} to {task.longest:,}, {task.length:,} by default" if generated else "as written",
        "columns": " + ".join(task.text_columns),
        "what": task.description,
        "from": "generated" if generated else f"--data-dir, or {task.hub_id}@{task.hub_revision[:8]} on the Hub",
        "licence": task.licence,
    }
