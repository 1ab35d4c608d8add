"""Where a command may write: nothing that is there is lost unasked."""

from __future__ import annotations

from pathlib import Path

from longread.errors import UserError


def check_folder(out: Path) -> None:
    """UserError for a place where no folder can be: a file is there, or on the way."""
    for place in (out, *out.parents):
        if place.exists():
            if not place.is_dir():
                raise UserError(f"--out {out}: {place} is a file, where a folder is needed; give another --out")
            return


def check_new_folder(out: Path) -> None:
    """UserError for a place that is taken; an empty folder is not."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists already; give a new folder")


def check_new_file(out: Path, overwrite: bool) -> None:
    """UserError for a file that is there and may not be replaced."""
    if out.exists() and not overwrite:
        raise UserError(f"--out {out}: is there already; --overwrite replaces it, or give another name")
