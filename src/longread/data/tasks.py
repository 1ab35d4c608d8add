"""Tasks: where their rows come from and what their columns mean.

Four public data sets, pinned to a revision; two generated ones; a user's own file; any set of the Hub.
Their rows are read by `longread.data.load`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from longread.data import listops, reviews
from longread.data.reading import SPREADSHEETS
from longread.data.sources import file_format
from longread.errors import UserError

GLUE = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

# split, number of rows, length, seed -> texts and classes
Generator = Callable[[str, int, int, int], tuple[list[str], list[int]]]


@dataclass(frozen=True)
class Task:
    """What is known of a task before any row is read."""

    name: str
    description: str
    licence: str
    text_columns: tuple[str, ...] = ("text",)
    label_column: str = "label"
    label_names: tuple[str, ...] = ()  # empty: read from the data
    train_split: str = "train"
    eval_split: str = "validation"
    split_rows: dict[str, int] = field(default_factory=dict)  # rows of each split on the Hub
    hub_id: str | None = None
    hub_revision: str | None = None
    hub_files: dict[str, str] = field(default_factory=dict)  # split -> file
    pools: str | None = None  # the task whose splits are put together and split anew
    tokenizer: str = "train"  # "symbols": every symbol between spaces is one token
    # Generated tasks only:
    generate: Generator | None = None
    length: int = 0  # words or symbols of a text, as the generator counts them
    shortest: int = 0
    longest: int = 0
    train_rows: int | None = None  # rows by default
    eval_rows: int | None = None
    suggested: dict[str, Any] = field(default_factory=dict)  # settings of a run from scratch, where none are given


IMDB = Task(
    "imdb",
    "film reviews, positive or negative (Maas et al. 2011)",
    "research use; cite Maas et al. 2011",
    label_names=("neg", "pos"),
    eval_split="test",
    split_rows={"train": 25_000, "test": 25_000},
    hub_id="stanfordnlp/imdb",
    hub_revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    hub_files={split: f"plain_text/{split}-00000-of-00001.parquet" for split in ("train", "test")},
)


def _glue(name: str, **fields: object) -> Task:
    files = {split: f"{name}/{split}-00000-of-00001.parquet" for split in ("train", "validation")}
    return Task(name, hub_id=GLUE, hub_revision=GLUE_REVISION, hub_files=files, **fields)  # type: ignore[arg-type]


TASKS: dict[str, Task] = {
    "imdb": IMDB,
    "imdb-pooled": replace(
        IMDB,
        name="imdb-pooled",
        description="both halves of imdb put together and split anew: reviews of one film fall on both sides",
        eval_split="validation",
        split_rows={"train": 39_666, "validation": 9_916},
        pools="imdb",
    ),
    "sst2": _glue(
        "sst2",
        description="sentences and phrases of film reviews, positive or negative (GLUE)",
        licence="none stated",
        text_columns=("sentence",),
        label_names=("negative", "positive"),
        split_rows={"train": 67_349, "validation": 872},
    ),
    "qnli": _glue(
        "qnli",
        description="does the sentence answer the question? (GLUE, from SQuAD)",
        licence="CC BY-SA 4.0",
        text_columns=("question", "sentence"),
        label_names=("entailment", "not_entailment"),
        split_rows={"train": 104_743, "validation": 5_463},
    ),
    "qqp": _glue(
        "qqp",
        description="do two questions ask the same? (GLUE, from Quora)",
        licence="non-commercial (Quora)",
        text_columns=("question1", "question2"),
        label_names=("not_duplicate", "duplicate"),
        split_rows={"train": 363_846, "validation": 40_430},
    ),
    "reviews": Task(
        "reviews",
        "generated film reviews in which counting words does not decide; reviews:LENGTH sets the length",
        "none needed: made by this package",
        label_names=("negative", "positive"),
        generate=reviews.generate,
        length=reviews.DEFAULT_LENGTH,
        shortest=reviews.SHORTEST,
        longest=reviews.LONGEST,
        train_rows=reviews.TRAIN_ROWS,
        eval_rows=reviews.EVAL_ROWS,
        suggested=reviews.SUGGESTED,
    ),
    "listops": Task(
        "listops",
        "nested lists of digits, MIN MAX MED SM (Long Range Arena); listops:LENGTH sets the most symbols",
        "none needed: made by this package",
        label_names=tuple("0123456789"),
        tokenizer="symbols",
        generate=listops.generate,
        length=listops.DEFAULT_LENGTH,
        shortest=listops.SHORTEST,
        longest=listops.LONGEST,
        train_rows=listops.TRAIN_ROWS,
        eval_rows=listops.EVAL_ROWS,
    ),
}


def find_task(name: str) -> Task:
    """The record behind a task's name, with its length where one is given; made up for files and Hub sets."""
    if name in TASKS:
        return TASKS[name]
    base, colon, length = name.partition(":")
    if colon and base in TASKS:
        task = TASKS[base]
        if task.generate is None:
            raise UserError(f"task {name!r}: {base} is not generated, so it has no length; write {base}")
        if not length.isdecimal() or not task.shortest <= int(length) <= task.longest:
            raise UserError(
                f"task {name!r}: the length must be a whole number from {task.shortest} to {task.longest}, "
                f"such as {base}:{task.length}"
            )
        return replace(task, name=f"{base}:{int(length)}", length=int(length))
    if name.startswith("hub:"):
        if len(name[4:].partition("@")[0].split("/")) not in (2, 3):
            raise UserError(f"task {name!r}: write hub:OWNER/NAME or hub:OWNER/NAME/CONFIG, such as hub:{GLUE}/cola")
        return Task(name, f"{name[4:]} on the Hugging Face Hub", "see its page", text_columns=())
    if file_format(name) or "/" in name or os.sep in name or _exists(name):
        return Task(Path(name).name or name, f"your own rows in {name}", "yours", text_columns=())
    if Path(name).suffix.lower() in SPREADSHEETS:
        raise UserError(f"{name}: a spreadsheet; save it as CSV (UTF-8) from the program that made it")
    near = difflib.get_close_matches(name.lower(), TASKS, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"unknown task {name!r}: {meant}There are {', '.join(TASKS)}; reviews:LENGTH and listops:LENGTH; "
        "a path to your own file or directory; hub:OWNER/NAME"
    )


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # longer than a file's name may be
        return False
