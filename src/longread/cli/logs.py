"""What a person hears while a command works: one log on stderr, and off a terminal a line every ten seconds."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from longread.errors import UserError

if TYPE_CHECKING:
    import rich.table

    from longread.report.cells import Table

NOISY = ("httpx", "httpx2", "huggingface_hub", "matplotlib", "fontTools")
SECONDS_OF_SILENCE = 10.0
RESULT = logging.WARNING + 5  # above what --quiet leaves out
logging.addLevelName(RESULT, "RESULT")

console = Console(stderr=True)  # live tables and bars are drawn on it, so that a line of the log does not break them
log = logging.getLogger("longread")
Switch = Annotated[bool, Parameter(negative=())]


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What is said on stderr. Results on stdout do not depend on it.

    Parameters
    ----------
    quiet:
        No progress and no notes: warnings, errors and results only.
    verbose:
        More notes; errors with where they come from.
    log_file:
        A file that gets every line of the log, too; it is added to.
    log_json:
        Each line on stderr is a JSON object with time, level and message; what a command found has the level result,
        and the path, metrics or table that it names in a field of its own. Stdout is the same as without.
    """

    quiet: Switch = False
    verbose: Switch = False
    log_file: Path | None = None
    log_json: Switch = False


class _Handler(logging.Handler):
    """Lines on stderr, above a live table where there is one; and when the last one was."""

    last = 0.0
    _stream: IO[str] | None = None
    _terminal = False

    def emit(self, record: logging.LogRecord) -> None:
        _Handler.last = time.monotonic()
        # A file's name or a label may hold what moves a terminal's cursor.
        text = "".join(mark if mark.isprintable() or mark == "\n" else "�" for mark in self.format(record))
        stream = console.file
        if stream is not self._stream:
            self._stream, self._terminal = stream, console.is_terminal
        if self._terminal:
            console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:  # a service writes a line for each request, and rich asks the system about the stream for each line
            stream.write(text + "\n")
            stream.flush()


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        fields: dict[str, Any] = getattr(record, "fields", None) or {"message": record.getMessage()}
        if found := getattr(record, "found", None):
            fields = {"message": found.get("title") or fields["message"]} | {
                k: v for k, v in found.items() if k != "title"
            }
        if record.exc_info:
            fields = fields | {"error": self.formatException(record.exc_info)}
        return json.dumps(line | fields, ensure_ascii=False, default=str)


def result(text: str, *, apart: bool = False, on_screen_only: bool = False, **found: Any) -> None:
    """What a command found, on stderr even with --quiet. apart: behind an empty line.

    found: the same for a program, fields of the line of --log-json; `title` takes the text's place there.
    on_screen_only: --log-file does not get it.
    """
    if apart and not _state.settings.log_json:
        text = f"\n{text}"
    log.log(RESULT, "%s", text, extra={"found": found, "on_screen_only": on_screen_only})


def tables(named: Iterable[tuple[str, Table]]) -> None:
    """Tables of a report, each under its title if there are several."""
    every = list(named)
    for number, (title, made) in enumerate(every):
        table(made, title, shows_title=len(every) > 1, apart=number > 0)


def table(made: Table, title: str = "", *, shows_title: bool = False, notes: bool = False, apart: bool = True) -> None:
    from longread.report.markdown import terminal_table

    lines = [line for line in terminal_table(made).splitlines() if line]  # that of the units, where none has one
    shown = "\n".join([*([title] if shows_title else []), *lines, *(made.notes if notes else ())])
    names = [" ".join(part for part in (column.name, column.unit) if part) for column in made.columns]
    rows = [dict(zip(names, (cell.text for cell in row.cells), strict=False)) for row in made.rows]
    result(shown, apart=apart, title=title, table=rows)


def drawn(made: rich.table.Table, title: str) -> None:
    """A table on the console, unless it shall be quiet; in a log of JSON its rows."""
    if _state.settings.log_json:
        names = [str(column.header) or title for column in made.columns]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*(c.cells for c in made.columns), strict=True)]
        log.info("%s", title, extra={"found": {"table": rows}})
    elif not _state.settings.quiet:
        console.print(made)


def set_up(settings: LogSettings) -> None:
    """The only place where logging is configured. UserError for a file that cannot be written."""
    if settings.quiet and settings.verbose:
        raise UserError("--quiet and --verbose: choose one")
    level = logging.WARNING if settings.quiet else logging.DEBUG if settings.verbose else logging.INFO
    handlers: list[logging.Handler] = [_Handler()]
    if settings.log_file is not None:
        try:
            handlers.append(logging.FileHandler(settings.log_file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise UserError(f"--log-file {settings.log_file}: {error.strerror}") from None
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "ours", False)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers[1:]:
        handler.addFilter(lambda record: not getattr(record, "on_screen_only", False))
    logging.captureWarnings(settings.log_json)
    for handler in handlers:
        handler.ours = True  # type: ignore[attr-defined]
        handler.setLevel(level)
        if settings.log_json:
            handler.setFormatter(_JsonLines())
        elif isinstance(handler, logging.FileHandler):
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(handler)
    log.setLevel(level)
    if logging.getLogger("torch").level == logging.NOTSET:
        # torch does the same at the end of its import; stopped before that, it would tell of its caches at exit.
        logging.getLogger("torch").setLevel(logging.WARNING)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.INFO if settings.verbose else logging.WARNING)
    root.setLevel(level)
    _state.settings, _state.status = settings, "at work"


class _State:
    settings = LogSettings()
    status: str | Callable[[], str] = "at work"  # where the command is


_state = _State()


def now() -> LogSettings:
    """What the log was set to, for a process that shall speak the same way."""
    return _state.settings


def shows_live() -> bool:
    """Whether bars and tables are drawn: on a terminal, unless it shall be quiet, or JSON."""
    return console.is_terminal and not (_state.settings.quiet or _state.settings.log_json)


def status(text: str | Callable[[], str]) -> None:
    """Where the command is, or who knows it: said off a terminal when nothing else was for ten seconds."""
    _state.status = text


@contextmanager
def never_silent(command: str) -> Iterator[None]:
    """Off a terminal, a line at least every ten seconds while the body runs."""
    if sys.stderr is None or shows_live() or _state.settings.quiet:
        yield
        return
    done = threading.Event()
    begin = _Handler.last = time.monotonic()

    def watch() -> None:
        while not done.wait(max(0.05, _Handler.last + SECONDS_OF_SILENCE - time.monotonic())):
            if time.monotonic() - _Handler.last >= SECONDS_OF_SILENCE:
                where = _state.status if isinstance(_state.status, str) else _state.status()
                log.info("%s: %s, since %.0f s", command, where, time.monotonic() - begin)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
