"""Training runs killed with SIGKILL at random moments, gone on with, and compared with a run that was never stopped.

Over every mechanism and every option that a state has to carry. A run is a process of its own, a fork of this one, so
that the hundred of them load the libraries once. Moments: any time, the first instants, a change of a file under way
(a state, the history, predictions, the checkpoint, the record), the last evaluation; some runs are killed repeatedly.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress.forked import Kill, Program, load_once
from stress.parts import Case, Part

SEED = 41
# Of the moment; the checksums are over times, and somebody may commit meanwhile.
OF_THE_TIME = ("created", "peak_memory_bytes", "checksum", "contents", "commit", "dirty")
MOMENTS = ("any time", "beginning", "file", "file", "inside a file", "inside a file", "last evaluation")
SMALL = ("--hidden-size", "8", "--num-attention-heads", "2", "--max-length", "48", "--epochs", "3",
         "--batch-size", "16", "--tokens-per-micro-batch", "300", "--threads", "1", "--tokenizer", "bytes")  # fmt: skip
EVERY_DROPOUT = (
    "--dropout",
    "0.2",
    "--embedding-dropout",
    "0.1",
    "--attention-dropout",
    "0.1",
    "--token-dropout",
    "0.1",
)
BEST = ("--choose-epoch", "best", "--selection-fraction", "0.2")
# What is trained, by name. "three.csv" has three classes, "several.csv" several labels for a text.
RUNS: dict[str, tuple[str, ...]] = {
    "dense, every dropout, averaged weights": ("three.csv", *EVERY_DROPOUT, "--average-weights", "0.8"),
    "longformer, best epoch, patience, class weights": (
        "three.csv", "--attention", "longformer", "--attention-window", "8", *EVERY_DROPOUT, *BEST, "--patience", "1",
        "--class-weights", "balanced",
    ),
    "bigbird, two layers, temperature": (
        "three.csv", "--attention", "bigbird", "--block-size", "4", "--num-random-blocks", "1", "--num-hidden-layers",
        "2", *EVERY_DROPOUT, "--calibrate", "--class-weights", "a=2,b=0.5", "--label-smoothing", "0.1",
    ),
    "performer, redrawn features, averaged weights, best epoch": (
        "three.csv", "--attention", "performer", "--num-features", "8", "--redraw-steps", "3", "--dropout", "0.2",
        "--token-dropout", "0.1", "--average-weights", "0.8", *BEST,
    ),
    "linformer, several labels, thresholds": (
        "several.csv", "--label-separator", ";", "--attention", "linformer", "--projection-size", "6", *EVERY_DROPOUT,
        "--choose-threshold", "f1", "--class-weights", "balanced", "--optimizer", "adam",
    ),
    "a pattern of layers, bfloat16, frozen layer": (
        "three.csv", "--attention", "dense local", "--local-window", "8", "--num-hidden-layers", "2", *EVERY_DROPOUT,
        "--precision", "bfloat16", "--frozen-layers", "1", "--layer-decay", "0.9",
    ),
    "tfidf": ("three.csv", "--attention", "tfidf"),
    "nbsvm": ("three.csv", "--attention", "nbsvm"),
}  # fmt: skip
DISTILLED = "distillation of performer, redrawn features"


@dataclass(frozen=True)
class Whole:
    """A run that was never stopped: its command without --out, how long it took, and all that it left."""

    order: tuple[str, ...]
    seconds: float
    changes: int  # of files
    left: dict[str, Any]


def kills(count: int, folder: Path) -> Iterator[Case]:
    load_once()
    make_tables(folder)
    names = [*RUNS, DISTILLED]
    for number in range(count):
        name = names[number % len(names)]
        place = folder / f"case-{number}"
        try:
            yield _case(name, whole_run(name, folder), place, random.Random(SEED * 1_000_003 + number))
        except Exception:
            yield Case(name, False, "traceback", traceback.format_exc()[-1500:])
        shutil.rmtree(place, ignore_errors=True)


def _case(name: str, whole: Whole, place: Path, rng: random.Random) -> Case:
    order = [*whole.order, "--out", str(place)]
    told = []
    for attempt in range(rng.choice((1, 1, 1, 2, 4))):
        resume = ["--resume"] if attempt or rng.random() < 0.5 else []
        killed = False
        for sooner in range(8):  # a run that was faster than its kill is none: nothing was tested
            moment, kill = _moment(whole, rng, sooner=2**sooner * (1 if attempt == 0 else 2))
            status, said = Program(_saving(order + resume, kill, rng), place, kill).run()
            if killed := status == -signal.SIGKILL:
                break
            if status != 0:
                return Case(f"{name}, killed at {told}", False, f"exit status {status}", said)
            if attempt:
                break
            shutil.rmtree(place)
        if killed:
            told.append(moment)
    text = f"{name}, killed at {', '.join(told)}"
    if not told:
        return Case(text, False, "was never killed")
    begun = [path for path in place.glob("runs/*/*") if not path.name.startswith(".")]
    stopped = any(path.name.startswith("state-") for path in begun)
    ended = any(path.name == "run.json" for path in begun)
    status, said = Program([*order, "--resume"], place).run()
    if status != 0:
        return Case(text, False, f"exit status {status}", said)
    found = left_by(place)
    if names := differences(found, whole.left):
        return Case(text, False, "different", names)
    return Case(text, True, "had ended" if ended else "went on from a state" if stopped else "began anew")


def _moment(whole: Whole, rng: random.Random, sooner: int) -> tuple[str, Kill]:
    """`sooner`: what times and counts are divided by; a run that goes on has less to do."""
    moment = rng.choice(MOMENTS)
    if moment == "last evaluation" and not is_linear(whole.order):
        return moment, Kill("evaluation", seconds=rng.choice((None, rng.uniform(0, 0.05))))
    if moment == "beginning":
        return moment, Kill("start", seconds=rng.uniform(0, min(1.0, 0.4 * whole.seconds)) / sooner)
    if moment.endswith("file"):
        number = rng.randint(1, max(1, whole.changes // sooner))
        inside = rng.uniform(0, 0.004) if moment.startswith("inside") else None
        return f"change {number} of a file" + (" or in it" if inside else ""), Kill("change", number, inside)
    return "any time", Kill("start", seconds=rng.uniform(0, whole.seconds / sooner))


def is_linear(order: Sequence[str]) -> bool:
    return "tfidf" in order or "nbsvm" in order


def _saving(order: list[str], kill: Kill, rng: random.Random) -> list[str]:
    """A state at every step, or seldom: then more is computed again."""
    if is_linear(order):
        return order
    return [*order, "--save-seconds", str(0 if kill.after == "change" else rng.choice((0, 0, 0.1, 60)))]


def left_by(place: Path) -> dict[str, Any]:
    """All files of OUT but the cache, by path: content without times. What may not stay is there under its name."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_dir() or (name.startswith("cache/") and not path.name.startswith(".")):
            continue
        if path.name == "longread_checksums.json":  # config.json of a distillation holds its seconds
            sums = json.loads(path.read_text())
            assert all(sums[own] == _digest(path.with_name(own)) for own in sums), name
            found[name] = sorted(sums)
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".md":  # the model card
            found[name] = re.sub(r"[\d.,]+ s on", "on", path.read_text())
        else:
            found[name] = _digest(path)
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Names of the files that are not the same."""
    return ", ".join(sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key)))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _timeless(own) for key, own in value.items() if not _is_a_time(key)}
        return {key: own for key, own in kept.items() if key not in OF_THE_TIME}
    return [_timeless(own) for own in value] if isinstance(value, list) else value


def _is_a_time(key: str) -> bool:
    return key.endswith(("seconds", "_per_second")) or key.startswith("load_at_")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def whole_run(name: str, folder: Path) -> Whole:
    place = folder / "whole" / "".join(mark for mark in name if mark.isalnum())
    if name == DISTILLED:
        order: tuple[str, ...] = (
            "convert", str(_teacher(folder)), "--attention", "performer", "--num-features", "8", "--redraw-steps", "3",
            "--distill-task", str(folder / "three.csv"), "--distill-steps", "12", "--batch-size", "16",
            "--threads", "1", "--tokens-per-micro-batch", "300",
        )  # fmt: skip
    else:
        table, *own = RUNS[name]
        order = ("train", str(folder / table), *own, *(() if is_linear(own) else SMALL))
    saving = () if is_linear(order) else ("--save-seconds", "0")
    first = Program([*order, *saving, "--out", str(place)], place)
    status, said = first.run()
    assert status == 0, f"{name}: {status}: {said}"
    began = time.monotonic()
    again = place.with_name(f"{place.name}-again")
    status, said = Program([*order, *saving, "--out", str(again)], again).run()
    seconds = time.monotonic() - began
    assert status == 0, f"{name}: {status}: {said}"
    names = differences(left_by(again), left_by(place))
    assert not names, f"{name}: two runs without a stop differ in {names}"
    return Whole(order, seconds, first.changes, left_by(place))


@functools.cache
def _teacher(folder: Path) -> Path:
    place = folder / "teacher"
    status, said = Program(["train", str(folder / "three.csv"), *SMALL, "--out", str(place)], place).run()
    assert status == 0, said
    return next(place.glob("runs/*")) / "checkpoint"


def make_tables(folder: Path) -> None:
    rng = random.Random(SEED)
    words = ("good", "bad", "film", "story", "plot", "actor", "long", "slow", "warm", "cold", "the", "a", "of", "and")
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 20))) for _ in range(90)]
    one = [rng.choice("aaabbc") for _ in texts]
    several = [";".join(name for name in "abc" if rng.random() < 0.5) or "a" for _ in texts]
    for name, labels in (("three.csv", one), ("several.csv", several)):
        rows = "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True))
        (folder / name).write_text("text,label\n" + rows)


PARTS = (
    Part(
        "kills", "a training run killed with SIGKILL goes on to the bits of the run that was never stopped", 100, kills
    ),
)
