"""What a user can get wrong, and errors in a line."""

from __future__ import annotations

from pathlib import Path

LONGEST = 160  # characters of another program's message


class UserError(ValueError):
    """Input that is wrong; the message is one line: what, where, and what would be right."""


class ProcessLost(RuntimeError):
    """Another process of a run on several has ended: what they compute together cannot be computed any more."""

    speaks = True  # of the processes that are left, the one that says and keeps what there is


def option_name(field: str) -> str:
    """Of a setting, as it is typed: max_length -> --max-length."""
    return "--" + field.replace("_", "-")


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, cut to 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def first_line(error: BaseException) -> str:
    """Of a message whose further lines are of no use to a user: other libraries' hints and traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:LONGEST] if lines else type(error).__name__


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
