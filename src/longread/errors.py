"""What a user can get wrong."""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """Input that is wrong; the message is one line: what, where, and what would be right."""


class ProcessLost(RuntimeError):
    """Another process of a run on several has ended: what they compute together cannot be computed any more."""

    speaks = True  # of the processes that are left, the one that says and keeps what there is


def system_error(error: OSError) -> str:
    """What the system refused, in a line: the place, and what is in the way there."""
    said = error.strerror or " ".join(str(error).split())
    if not isinstance(error.filename, str | Path):
        return said
    if isinstance(error, NotADirectoryError | FileExistsError | FileNotFoundError):
        for place in (Path(error.filename), *Path(error.filename).parents):
            if place.is_symlink() and not place.exists():
                return f"{place}: is a link to {place.readlink()}, which is not there"
            if place.exists():
                if isinstance(error, FileNotFoundError) or place.is_dir():
                    break
                return f"{place}: is a file, where a folder is needed; give another --out"
    return f"{error.filename}: {said}"
