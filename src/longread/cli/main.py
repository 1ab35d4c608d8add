"""The program `longread`. Each command is loaded when it runs, so that `--help` answers at once."""

from __future__ import annotations

import ast
import errno
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Group, Parameter

from longread import __version__
from longread.cli import logs, torchrun
from longread.cli.status import FAILED, INTERRUPTED, WRONG_INPUT
from longread.errors import ProcessLost, UserError, system_error
from longread.training.signals import signals_interrupt

app = App(
    name="longread",
    version=f"longread {__version__}",
    default_parameter=Parameter(negative_iterable=(), consume_multiple=1),
    suppress_keyboard_interrupt=False,
    help="""Efficient-attention transformers for text classification: train, measure, compare.

    Start with `longread compare`: it needs no data and no network, and writes out/index.html.
    """,
)

log = logging.getLogger("longread")
LONGEST_MESSAGE = 1000  # characters
NOT_THE_USERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # exit status 1; a wrong path or missing right is 2

# Name -> file and function. Help texts are read from the files, so that no command is loaded to list it.
COMMANDS = {
    "compare": "train:compare",
    "train": "train:train",
    "evaluate": "use:evaluate",
    "predict": "use:predict",
    "serve": "serve:serve",
    "explain": "explain:explain",
    "benchmark": "benchmark:benchmark",
    "convert": "convert:convert",
    "pretrain": "pretrain:pretrain",
    "export": "export:export",
    "push": "push:push",
    "tune": "tune:tune",
    "calibrate": "calibrate:calibrate",
    "report": "report:report",
    "runs": "runs:runs",
    "tasks": "report:tasks",
}


def _docstring(place: str) -> str:
    """What a command's docstring says; its file is parsed, not run."""
    file, name = place.split(":")
    tree = ast.parse(Path(__file__).with_name(f"{file}.py").read_text("utf-8"))
    return next(ast.get_docstring(n) or "" for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)


for _name, _place in COMMANDS.items():
    app.command(f"longread.cli.{_place}", name=_name, help=_docstring(_place))


app.register_install_completion_command()
LOG = logs.LogSettings()
SAYS_ITSELF = ("serve",)  # waits for others: its silence is none


@app.meta.default
def _with_log(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    settings: Annotated[logs.LogSettings, Parameter(name="*", group=Group("Log", sort_key=9))] = LOG,
) -> Any:
    """Any command, after what holds for all of them."""
    logs.set_up(settings)
    command = tokens[0] if tokens else ""
    with nullcontext() if command in SAYS_ITSELF else logs.never_silent(command):
        return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


app.meta.suppress_keyboard_interrupt = False  # `main` says what goes on from here
program: Callable[..., Any] = app.meta


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status: 0 done, 2 wrong input, 130 interrupted, 1 anything else."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us: the next file opened would be taken for it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if os.environ.get("RANK", "0") == "0" or torchrun.wrong_environment():
        code = _main(arguments)
        return code if _all_is_written() else code or FAILED
    # One of torchrun's further processes: what it would say, the first one says. A traceback comes out.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return _main(arguments)


def _all_is_written() -> bool:
    """Whether stdout took all that was printed. Python itself would say so only as it ends, in a traceback."""
    try:
        sys.stdout.flush()
        return True
    except BrokenPipeError:  # whoever read it wanted no more
        taken = True
    except OSError as error:
        log.error("longread: standard output: %s", error.strerror)
        taken = False
    _write_nowhere()
    return taken


def _write_nowhere() -> None:
    """What stdout still holds goes nowhere, in place of failing once more."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _main(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    logs.set_up(LOG)  # until it is known what is asked for
    try:
        _check_names(given)
        torchrun.check(given, COMMANDS)
        with signals_interrupt():
            code = program(given, exit_on_error=False, print_error=False, result_action="return_value")
    except (UserError, cyclopts.CycloptsError) as error:
        log.debug("where it comes from", exc_info=True)
        return _ended(_in_a_line(error), WRONG_INPUT)
    except KeyboardInterrupt:
        log.error("longread: interrupted; the same command (train: with --resume) goes on from here")
        return INTERRUPTED
    except ProcessLost as error:
        if error.speaks:  # the first process, or who stands in for it
            with redirect_stderr(sys.__stderr__ or sys.stderr):
                _ended(f"{error}; {torchrun.again(given)}", FAILED)
        return FAILED
    except BrokenPipeError:
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        if error.filename is None and not _all_is_written():
            return FAILED
        return _ended(system_error(error), FAILED if error.errno in NOT_THE_USERS else WRONG_INPUT)
    except Exception as error:
        if not _is_short_of_memory(error):
            if not logs.now().log_json:
                raise
            log.critical("longread: %s: %s", type(error).__name__, _in_a_line(error), exc_info=True)
            return FAILED
        return _ended(f"too little memory ({_in_a_line(error)}); free some, or raise this process's limit", FAILED)
    return int(code or 0)


def _ended(why: str, status: int) -> int:
    log.error("longread: %s", why)
    torchrun.leave(f"longread: {why}")
    return status


def _is_short_of_memory(error: BaseException) -> bool:
    """Before training, which halves its micro-batches: while a library is loaded, a file read, a model built."""
    if not isinstance(error, MemoryError | RuntimeError | ImportError):
        return False
    signs = ("can't allocate memory", "Cannot allocate memory", "failed to map segment", "can't start new thread")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _in_a_line(error: BaseException) -> str:
    """A message may quote a value of any length, and what would move a terminal's cursor."""
    told = str(error)
    if isinstance(error, cyclopts.UnusedCliTokensError):
        told = _too_many(error.unused_tokens or [], error.command_chain or ())
    text = "".join(mark if mark.isprintable() else " " for mark in " ".join(told.split()))
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def _too_many(tokens: Sequence[str], command: Sequence[str]) -> str:
    from longread.attention import ATTENTIONS

    right = "--help says what the command takes"
    if any(token in ATTENTIONS for token in tokens):
        right = 'several mechanisms are one value, in quotes: --attention "dense local"'
    elif "compare" in command:
        right = f"give --task {shlex.join(tokens)}"
    return f"too many arguments: {shlex.join(tokens)}; {right}"


def _check_names(arguments: Sequence[str]) -> None:
    """Names end up in records and reports, which are UTF-8. UserError for one that is not."""
    for argument in arguments:
        if not argument.isascii() and argument.encode(errors="replace") != argument.encode(errors="surrogateescape"):
            raise UserError(f"{argument!r}: this name is not UTF-8; rename the file or folder")


if __name__ == "__main__":
    sys.exit(main())
