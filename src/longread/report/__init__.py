"""`longread report`: tables, figures and a page as pure functions of run records. Never needs torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from longread.errors import UserError
from longread.records import read_runs, write_atomically

if TYPE_CHECKING:
    from longread.records import Run
    from longread.report.groups import Group

log = logging.getLogger("longread")

__all__ = ["build_report", "compare_folders", "recommended_runs", "summary_table", "three_to_choose_from"]


def build_report(directory: Path, out: Path | None = None, *, figures: bool = True) -> Path:
    """Reads the run records of DIRECTORY, writes report.md, index.html and figures/ into `out` (default: DIRECTORY).

    Returns the path of index.html; without `figures`, report.md alone is written and its path is returned. The same
    records give the same bytes. A damaged run is named in the report and left out. A goals.toml beside DIRECTORY may
    hold goals of the study (report/goals.py). UserError where there is no record.
    """
    from longread.report.document import make_report
    from longread.report.figures import write_picture
    from longread.report.goals import read_goals
    from longread.report.grouping import group_runs
    from longread.report.markdown import markdown
    from longread.report.page import page
    from longread.report.search import read_search, verdict
    from longread.report.soundness import sound_runs

    directory = Path(directory)
    out = directory if out is None else Path(out)
    runs, damaged = _sound(directory)
    study = directory.resolve()
    goals = read_goals(study.parent / "goals.toml", study.name)

    def elsewhere(name: str) -> list[Group]:
        return group_runs(sound_runs(read_runs(study.parent / name)[0])[0])

    found = read_search(directory)
    search = None if found is None else (found, verdict(directory))
    report = make_report(runs, damaged, goals, elsewhere, figures=figures, search=search)
    write_atomically(out / "report.md", markdown(report))
    if not figures:
        return out / "report.md"
    for picture in report.pictures:
        write_picture(picture, out / "figures")
    index = out / "index.html"
    write_atomically(index, page(report))
    return index


def compare_folders(first: Path, second: Path, out: Path | None = None) -> Path:
    """Writes comparison.md and comparison.html into `out` (default: `second`): what changed from `first` to `second`.

    Returns the path of comparison.html. Rows stand beside each other where task, evaluation rows, attention and
    settings are the same (report/against.py). UserError where a folder has no record.
    """
    from longread.report.against import against
    from longread.report.markdown import markdown
    from longread.report.page import page

    first, second = Path(first), Path(second)
    out = second if out is None else Path(out)
    runs = [_sound(directory) for directory in (first, second)]
    report = against(runs[0][0], runs[1][0], (str(first), str(second)))
    write_atomically(out / "comparison.md", markdown(report))
    write_atomically(out / "comparison.html", page(report))
    return out / "comparison.html"


def _sound(directory: Path) -> tuple[list[Run], list[str]]:
    """The runs that can be believed, and what was left out and why, which is also logged."""
    from longread.report.soundness import sound_runs

    read, unreadable = read_runs(directory)
    runs, odd = sound_runs(read)
    damaged = unreadable + odd
    for what in damaged:
        log.warning("left out, because damaged: %s", what)
    if not runs:
        if damaged:
            raise UserError(f"{directory}: every run record is damaged; the first: {damaged[0]}")
        raise UserError(f"{directory}: no run records under {directory / 'runs'}; `longread compare` writes some")
    return list(runs), damaged


def summary_table(runs: Sequence[Run]) -> str:
    """The comparison of every task as aligned plain text, for the end of `longread compare`; no trailing newline."""
    from longread.report.grouping import group_runs, regression_groups
    from longread.report.markdown import terminal_table
    from longread.report.mechanisms import learn
    from longread.report.naming import heading
    from longread.report.pairs import test_all
    from longread.report.regression import regression_table
    from longread.report.soundness import sound_runs
    from longread.report.tables import comparison

    learn(runs)
    sound = sound_runs(runs)[0]
    groups, numbers = group_runs(sound), regression_groups(sound)
    parts = []
    for group, pairs in zip(groups, test_all(groups), strict=True):
        table = terminal_table(comparison(group, pairs))
        parts.append(f"{heading(group)}\n{table}" if len(groups) + len(numbers) > 1 else table)
    parts += [f"{heading(group)}\n{terminal_table(regression_table(group))}" for group in numbers]
    return "\n\n".join(parts)


def three_to_choose_from(runs: Sequence[Run]) -> str:
    """The most accurate, the fastest within a point of it and the smallest, as plain text; empty where nothing is."""
    from longread.report.grouping import group_runs
    from longread.report.markdown import terminal_table
    from longread.report.mechanisms import learn
    from longread.report.soundness import sound_runs
    from longread.report.three import three_table

    learn(runs)
    tables = [table for group in group_runs(sound_runs(runs)[0]) if (table := three_table(group)) is not None]
    return "\n\n".join("\n".join([terminal_table(table), *table.notes]) for table in tables)


def recommended_runs(directory: Path) -> set[str]:
    """Ids of the runs that stand in the report as those to choose from."""
    from longread.report.grouping import group_runs
    from longread.report.soundness import sound_runs
    from longread.report.three import choose_three

    found = [choose_three(group) for group in group_runs(sound_runs(read_runs(directory)[0])[0])]
    lines = [line for three in found if three is not None for _, line in three.chosen]
    return {str(o.run.record["run_id"]) for line in lines for o in line.outcomes}
