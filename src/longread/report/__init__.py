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
    from longread.report.cells import Table
    from longread.report.groups import Group

log = logging.getLogger("longread")

__all__ = [
    "build_report", "compare_folders", "recommended_runs", "summary_table", "summary_tables", "three_to_choose_from",
]  # fmt: skip


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
    """The comparison of every task as aligned plain text; no trailing newline."""
    from longread.report.markdown import terminal_table

    tables = summary_tables(runs)
    titled = len(tables) > 1
    return "\n\n".join(f"{title}\n{terminal_table(t)}" if titled else terminal_table(t) for title, t in tables)


def summary_tables(runs: Sequence[Run]) -> list[tuple[str, Table]]:
    """The comparison of every task, each with its title."""
    from longread.report.grouping import group_runs, regression_groups
    from longread.report.mechanisms import learn
    from longread.report.naming import heading
    from longread.report.pairs import compare_lines
    from longread.report.regression import regression_table
    from longread.report.soundness import sound_runs
    from longread.report.tables import comparison

    learn(runs)
    sound = sound_runs(runs)[0]
    groups, numbers = group_runs(sound), regression_groups(sound)
    tested = zip(groups, compare_lines(groups), strict=True)
    tables = [(heading(group), comparison(group, pairs)) for group, pairs in tested]
    return tables + [(heading(group), regression_table(group)) for group in numbers]


def three_to_choose_from(runs: Sequence[Run]) -> list[Table]:
    """The most accurate, the fastest within a point of it and the smallest, of each task where there is one."""
    from longread.report.grouping import group_runs
    from longread.report.mechanisms import learn
    from longread.report.soundness import sound_runs
    from longread.report.three import three_table

    learn(runs)
    return [table for group in group_runs(sound_runs(runs)[0]) if (table := three_table(group)) is not None]


def recommended_runs(directory: Path) -> set[str]:
    """Ids of the runs that stand in the report as those to choose from."""
    from longread.report.grouping import group_runs
    from longread.report.soundness import sound_runs
    from longread.report.three import choose_three

    found = [choose_three(group) for group in group_runs(sound_runs(read_runs(directory)[0])[0])]
    lines = [line for three in found if three is not None for _, line in three.chosen]
    return {str(o.run.record["run_id"]) for line in lines for o in line.outcomes}
