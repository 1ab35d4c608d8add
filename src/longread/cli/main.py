"""The program `longread`. Each command is loaded when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import cyclopts
from cyclopts import App, Parameter

from longread import __version__
from longread.cli.options import INTERRUPTED, WRONG_INPUT
from longread.errors import UserError

app = App(
    name="longread",
    version=f"longread {__version__}",
    default_parameter=Parameter(negative_iterable=()),
    suppress_keyboard_interrupt=False,
    help="""Efficient-attention transformers for text classification: train, measure, compare.

    Start with `longread compare`: it needs no data and no network, and writes out/index.html.
    """,
)

# Name -> where it is, and its line in `longread --help`; both here, so that no command is loaded to list it.
COMMANDS = {
    "compare": ("train:compare", "Train and evaluate a grid of models, then write the report."),
    "train": ("train:train", "Train and evaluate one model."),
    "evaluate": ("use:evaluate", "Accuracy, F1, loss and speed of a checkpoint on a task."),
    "predict": ("use:predict", "Labels and probabilities for texts, as JSON lines."),
    "explain": ("explain:explain", "Which tokens decided, as JSON or a page."),
    "benchmark": ("benchmark:benchmark", "Time and memory of each mechanism by length."),
    "convert": ("convert:convert", "A dense checkpoint with efficient attention, its weights kept."),
    "export": ("export:export", "A checkpoint as ONNX or a torch.export archive."),
    "report": ("report:report", "Tables, figures and the page again, from the run records alone."),
    "tasks": ("report:tasks", "Every task: rows, classes, lengths, where it comes from."),
}
for _name, (_place, _help) in COMMANDS.items():
    app.command(f"longread.cli.{_place}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status: 0 done, 2 wrong input, 130 interrupted, 1 anything else."""
    import logging

    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.INFO)
    logging.getLogger("longread").setLevel(logging.INFO)
    for noisy in ("httpx", "huggingface_hub", "matplotlib", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    given = list(sys.argv[1:] if arguments is None else arguments)
    run: Callable[..., Any] = app
    try:
        code = run(given, exit_on_error=False, print_error=False, result_action="return_value")
    except (UserError, cyclopts.CycloptsError) as error:
        print(f"longread: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("longread: interrupted; the same command (train: with --resume) goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
