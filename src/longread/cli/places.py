"""Where a command may write: nothing that is there is lost unasked."""

from __future__ import annotations

from pathlib import Path

from longread.errors import UserError


def check_new_folder(out: Path) -> None:
    """UserError for a place that is taken; an empty folder is not."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists already; give a new folder")


def check_new_file(out: Path, overwrite: bool) -> None:
    """UserError for a file that is there and may not be replaced."""
    if out.exists() and not overwrite:
        raise UserError(f"--out {out}: is there already; --overwrite replaces it, or give another name")
