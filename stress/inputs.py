"""Input files, sound, odd and damaged, through predict, evaluate, train and compare.

Each must end with exit status 0 and the right rows, or with 2 and one line.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from stress import tables, watch
from stress.parts import Case, Part
from stress.watch import Wrong, judge, watched

SEED = 22
TINY = (
    "--tokenizer", "bytes", "--hidden-size", "16", "--num-attention-heads", "2", "--max-length", "64", "--epochs",
    "1", "--threads", "1",
)  # fmt: skip
REAL = 101  # each so-manieth case is a process of its own


def prepare(folder: Path) -> None:
    """A model of the three labels that the tables have."""
    (folder / "base.csv").write_text("text,label\n" + tables.GOOD * 3)
    status, _, err = watch.command(["train", folder / "base.csv", *TINY, "--out", folder / "base"])
    assert status == 0, err
    (run,) = (folder / "base" / "runs").iterdir()
    (run / "checkpoint").rename(folder / "checkpoint")


@cache
def predictor(checkpoint: Path) -> Any:
    import longread

    return longread.load(checkpoint)


def case(folder: Path, number: int) -> Case:
    rng = random.Random(SEED * 1_000_003 + number)
    place = folder / f"case-{number}"
    place.mkdir()
    try:
        kind = number % 10
        if kind < 4:
            return sound(rng, folder, place, number)
        if kind < 8:
            return hurt(rng, folder, place)
        return unusable(rng, folder, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def predict_order(folder: Path, place: Path, file: Path, options: tuple[str, ...]) -> list[Any]:
    return ["predict", folder / "checkpoint", "--file", file, "--out", place / "answers.jsonl", *options]


def evaluate_order(folder: Path, place: Path, file: Path, options: tuple[str, ...] = ()) -> list[Any]:
    where = ("--eval-file", file, "--out", place / "out")
    return ["evaluate", folder / "checkpoint", *where, "--threads", "1", *options]


def train_order(rng: random.Random, place: Path, file: Path, options: tuple[str, ...]) -> list[Any]:
    order = ["train", file, "--eval-file", file, "--out", place / "out", *options]
    return [*order, "--attention", "tfidf"] if rng.random() < 0.5 else [*order, *TINY]


def answers(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "answers.jsonl").read_text("utf-8").splitlines()]


def same(folder: Path, found: list[dict[str, Any]], texts: list[str]) -> None:
    for row, (own, right) in enumerate(zip(found, predictor(folder / "checkpoint").predict(texts), strict=True)):
        off = [name for name, p in right.probabilities.items() if abs(own["probabilities"].get(name, 9) - p) > 1e-3]
        if own["row"] != row or own["label"] != right.label or off:
            raise Wrong(f"row {row}: {own} for {texts[row][:80]!r}, not {right}")


def right_fingerprint(made: tables.Made, task: str) -> str:
    import numpy as np

    from longread.data.examples import Examples

    labels = np.array([tables.LABELS.index(label) for label in made.labels])
    return Examples(task, "", made.texts, None, labels, np.arange(len(labels)), tables.LABELS).fingerprint


def sound(rng: random.Random, folder: Path, place: Path, number: int) -> Case:
    """A file that can be used: all its rows, as they are."""
    made = tables.write(rng, place)
    command = rng.choice(("predict", "predict", "evaluate", "train"))

    def all_answered(out: str) -> None:
        found = answers(place)
        if len(found) != len(made.texts):
            raise Wrong(f"{len(found)} rows of {len(made.texts)}")
        same(folder, found, made.texts)

    def all_evaluated(out: str) -> None:
        (record,) = (place / "out" / "runs").glob("*/run.json")
        if json.loads(record.read_text())["dataset"]["eval"]["fingerprint"] != wanted:
            raise Wrong("other rows were evaluated")

    if command == "predict":
        order = predict_order(folder, place, made.path, made.options)
        if number % REAL == 0:
            return in_a_process(made.what, order, all_answered)
        outcome = judge(f"predict {made.what}", order, all_answered)
    else:
        wanted = right_fingerprint(made, str(made.path))
        if command == "evaluate":
            order = evaluate_order(folder, place, made.path, ("--json", *made.options))
        else:
            order = train_order(rng, place, made.path, made.options)
        outcome = judge(f"{command} {made.what}", order, all_evaluated)
    if outcome.outcome == watch.REFUSED:
        return Case(outcome.name, False, "refused, though sound", outcome.detail)
    return outcome


def in_a_process(what: str, order: list[Any], check: Any) -> Case:
    run = subprocess.run(
        [sys.executable, "-m", "longread", *map(str, order)], capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        return Case(f"a process of its own: {what}", False, f"exit status {run.returncode}", run.stderr[-500:])
    try:
        check(run.stdout)
    except Wrong as wrong:
        return Case(f"a process of its own: {what}", False, "wrong", str(wrong))
    return Case(what, True, watch.DONE)


def hurt(rng: random.Random, folder: Path, place: Path) -> Case:
    """A file with damage: refused, or read with the rows in front of the damage as they were."""
    made, safe = tables.damaged(rng, tables.write(rng, place))
    choice = rng.random()
    if choice < 0.6:

        def check(out: str) -> None:
            found = answers(place)
            if safe is not None:
                same(folder, found[:safe], made.texts[:safe])

        return judge(f"predict {made.what}", predict_order(folder, place, made.path, made.options), check)
    if choice < 0.75:
        return judge(f"evaluate {made.what}", evaluate_order(folder, place, made.path, made.options))
    order = train_order(rng, place, made.path, made.options)
    if choice > 0.998:
        order = ["compare", "--task", *order[1:], "--no-baselines", "--no-benchmark"]
    return judge(f"{order[0]} {made.what}", order)


def unusable(rng: random.Random, folder: Path, place: Path) -> Case:
    """What no command can use: refused, with the file and the reason."""
    what = rng.choice(list(tables.UNUSABLE))
    name, make, told = tables.UNUSABLE[what]
    file = place / name
    make(file)
    order = evaluate_order(folder, place, file) if rng.random() < 0.5 else train_order(rng, place, file, ())
    outcome = judge(f"{order[0]} {what}", order)
    if outcome.outcome == watch.DONE:
        return Case(outcome.name, False, "used, though it cannot be")
    if outcome.outcome == watch.REFUSED and (told not in outcome.detail):
        return Case(outcome.name, False, "wrong", f"the line does not say {told!r}: {outcome.detail}")
    return outcome


PARTS = (
    Part(
        "inputs",
        "a file of texts is read as it is, or refused in one line with exit status 2",
        2000,
        watched("stress.inputs"),
    ),
)
