"""Checkpoints and saved states, damaged and hostile: in use, trained on from, converted, gone on with.

Each must end with exit status 0 or 2 and one line; no code runs, nothing is written elsewhere, no answer is NaN, and a
run goes on to the weights of the run that was never stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from stress import tables, watch
from stress.damage import (
    ODD,
    OWN_FILES,
    bytes_of,
    header,
    pickles,
    places,
    spots,
    values,
    vocabulary,
    weights,
)
from stress.parts import Case, Part
from stress.watch import Wrong, judge, watched

SEED = 23
TRAIN = (
    "--hidden-size", "8", "--num-attention-heads", "2", "--max-length", "32", "--epochs", "2", "--threads", "1",
    "--tokenizer", "bytes", "--batch-size", "8", "--save-seconds", "0",
)  # fmt: skip


def prepare(folder: Path) -> None:
    """A checkpoint of every family, an exported file, and a run that was stopped."""
    import checkpoints as shapes  # of the tests
    from longread.data.tokenizer import byte_tokenizer
    from longread.models.checkpoint import save_pretrained

    settings = {name: own for name, (_, own) in shapes.THEIRS.items()} | shapes.OURS
    bases = folder / "bases"
    for number, own in enumerate(settings.values()):
        whole = shapes.POSTNORM | own | {"vocab_size": 300, "hidden_size": 12}
        save_pretrained(shapes.random_model(whole), bases / str(number), tokenizer=byte_tokenizer())
    (folder / "base.csv").write_text("text,label\n" + tables.GOOD.replace("fine", "so so"))
    status, _, err = watch.command(["export", bases / "0", "--out", folder / "graph.onnx"])
    assert status == 0 or "extra" in err, err
    _stopped_run(folder)


def _stopped_run(folder: Path) -> None:
    """whole: the run's checkpoint; stopped: its folder as two saved states left it."""
    order = ["train", folder / "base.csv", *TRAIN, "--out", folder / "whole"]
    status, _, err = watch.command(order)
    assert status == 0, err
    from longread.training import run, trainer

    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    kept = run.save_pretrained, trainer.SECONDS_BETWEEN_EVENTS
    run.save_pretrained = kill
    try:
        watch.command([*order[:-1], folder / "stopped"])
    except Killed:
        pass
    finally:
        run.save_pretrained, trainer.SECONDS_BETWEEN_EVENTS = kept
    assert len(list(folder.glob("stopped/runs/*/state-*"))) == 2


@cache
def bases(folder: Path) -> list[Path]:
    return sorted((folder / "bases").iterdir())


def case(folder: Path, number: int) -> Case:
    rng = random.Random(SEED * 1_000_003 + number)
    place = folder / f"case-{number}"
    place.mkdir()
    before = set(os.listdir(folder))
    try:
        os.chdir(place)
        outcome = (stopped if number % 6 == 5 else graph if number % 25 == 24 else checkpoint)(rng, folder, place)
        if new := set(os.listdir(folder)) - before:
            return Case(outcome.name, False, "written elsewhere", str(new))
        return outcome
    finally:
        os.chdir(folder)
        shutil.rmtree(place, ignore_errors=True)


def orders(rng: random.Random, folder: Path, place: Path, model: Path) -> list[Any]:
    texts = ["a long warm film", "naïve 🙂", "x " * 200]
    return rng.choice(
        [
            ["predict", model, *texts],
            ["predict", model, *texts],
            ["predict", model, *texts],
            ["evaluate", model, "--eval-file", folder / "base.csv", "--out", place / "out", "--threads", "1", "--json"],
            ["train", folder / "base.csv", "--init", model, "--out", place / "out", "--epochs", "1", "--threads", "1"],
            ["convert", model, "--attention", "longformer", "--max-length", "128", "--out", place / "converted"],
            ["explain", model, texts[0]],
        ]
    )


def sensible(order: list[Any]) -> Callable[[str], None]:
    """Answers are probabilities."""

    def check(out: str) -> None:
        if order[0] == "predict":
            for line in out.splitlines():
                found = json.loads(line)["probabilities"].values()
                if not all(0 <= p <= 1 for p in found) or abs(sum(found) - 1) > 1e-3:
                    raise Wrong(f"probabilities {list(found)}")
        if order[0] == "evaluate" and not 0 <= json.loads(out)["metrics"]["accuracy"] <= 1:
            raise Wrong(out)

    return check


def checkpoint(rng: random.Random, folder: Path, place: Path) -> Case:
    model = place / "model"
    base = rng.choice(bases(folder))
    shutil.copytree(base, model)
    kept = rng.random() < 0.12  # the checksums: then every change must be refused
    if not kept:
        (model / OWN_FILES[0]).unlink()
    way = rng.choice([bytes_of, values, values, values, header, weights, weights, places, pickles, vocabulary])
    what = f"{base.name}: {way(rng, model)}"
    order = orders(rng, folder, place, model)
    outcome = judge(f"{order[0]} {what}", order, sensible(order))
    if (place / "trapped").exists() or (model / "trapped").exists():
        return Case(what, False, "code of the checkpoint ran")
    must_refuse = kept or "refused" in what
    if must_refuse and outcome.outcome == watch.DONE and "as it was" not in what:
        return Case(outcome.name, False, "believed")
    return outcome


def graph(rng: random.Random, folder: Path, place: Path) -> Case:
    """An exported file with other bytes."""
    source = folder / "graph.onnx"
    if not source.exists():
        return Case("no exported file without the extra onnx", True, watch.DONE)
    file, data, what = place / "graph.onnx", source.read_bytes(), ""
    if rng.random() < 0.4:
        at = data.index(b'"labels"')
        end = rng.randrange(at, at + 3000)
        data, what = (
            data[:end] + bytes([rng.randrange(32, 127)]) + data[end + 1 :],
            f"a character of the metadata at {end}",
        )
    else:
        data, _, what = tables.damage(rng, data)
    file.write_bytes(data)
    order = ["predict", file, "a film"]
    return judge(f"predict graph.onnx, {what}", order, sensible(order))


def stopped(rng: random.Random, folder: Path, place: Path) -> Case:
    """The states of a stopped run are damaged, or say something else under a sound checksum."""
    shutil.copytree(folder / "stopped", place / "out")
    (directory,) = (place / "out" / "runs").iterdir()
    files = sorted(directory.glob("state-*"), reverse=True)
    said, hostile = [], False
    for file in files[: rng.choice((1, 1, 2))]:
        kind = rng.choice(("bytes", "bytes", "gone", "empty", "directory", "sealed", "sealed", "name", "zeros"))
        said.append(f"{file.name[:18]} {kind}")
        data = file.read_bytes()
        file.unlink()
        if kind == "bytes":
            file.write_bytes(tables.damage(rng, data)[0])
        elif kind == "empty":
            file.touch()
        elif kind == "directory":
            file.mkdir()
        elif kind == "zeros":
            file.symlink_to("/dev/zero")
        elif kind == "name":
            file.with_name(
                rng.choice(("state-x-y.safetensors", "state-.safetensors", f"state-{10**30}-a.safetensors"))
            ).write_bytes(data)
        elif kind == "sealed":
            hostile = True
            data = _other_state(rng, data)
            step = file.name.split("-")[1]
            file.with_name(f"state-{step}-{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)
    order = ["train", folder / "base.csv", *TRAIN, "--out", place / "out", "--resume"]

    def check(out: str) -> None:
        whole = next((folder / "whole" / "runs").iterdir()) / "checkpoint" / "model.safetensors"
        if not hostile and (directory / "checkpoint" / "model.safetensors").read_bytes() != whole.read_bytes():
            raise Wrong("other weights than the run that was never stopped")

    return judge(f"resume, {'; '.join(said)}", order, check)


def _other_state(rng: random.Random, data: bytes) -> bytes:
    """A state of other values, sound as a file."""
    size = struct.unpack("<Q", data[:8])[0]
    told = json.loads(data[8 : 8 + size])
    if rng.random() < 0.6:
        inner = json.loads(told["__metadata__"]["values"])
        where, name = rng.choice(list(spots(inner)))
        where[name] = rng.choice([odd for odd in ODD if odd == odd and odd != float("inf")])
        told["__metadata__"]["values"] = json.dumps(inner)
    else:
        name = rng.choice([name for name in told if name != "__metadata__"])
        told[rng.choice((f"{name}x", "x"))] = told.pop(name)
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


PARTS = (
    Part(
        "checkpoints",
        "a damaged or hostile checkpoint or state is read as it is, or refused in one line with exit status 2",
        500,
        watched("stress.checkpoints"),
    ),
)
