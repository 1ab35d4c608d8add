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
from stress.parts import Case, Part
from stress.watch import Wrong, judge, watched

SEED = 23
ODD = (
    None,
    "text",
    "",
    [],
    {},
    [1, "a"],
    {"a": []},
    -1,
    0,
    1,
    3,
    3.5,
    float("nan"),
    float("inf"),
    10**12,
    10**30,
    -(10**9),
    True,
    False,
    "../../elsewhere",
    "\x1b[31m",
    "😀" * 9,
    [10**9] * 3,
    "a" * 10_000,
    {"content": "<s>"},
)
TRAIN = (
    "--hidden-size",
    "8",
    "--num-attention-heads",
    "2",
    "--max-length",
    "32",
    "--epochs",
    "2",
    "--threads",
    "1",
    "--tokenizer",
    "bytes",
    "--batch-size",
    "8",
    "--save-seconds",
    "0",
)
OWN_FILES = ("longread_checksums.json", "longread_run.json")
# The files of a folder and what may be wrong with each of their values.
JSON_FILES = (
    "config.json",
    "config.json",
    "config.json",
    "tokenizer.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "longread_run.json",
)


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


def bytes_of(rng: random.Random, model: Path) -> str:
    file = rng.choice(sorted(path for path in model.iterdir() if path.name not in OWN_FILES))
    data, done = file.read_bytes(), []
    for _ in range(rng.choice((1, 1, 5))):
        data, _, what = tables.damage(rng, data)
        done.append(what)
    note = "" if data != file.read_bytes() else " (as it was)"
    file.write_bytes(data)
    return f"{file.name}: {'; '.join(done)}{note}"


def values(rng: random.Random, model: Path) -> str:
    """One value of a JSON file is another, gone, or new."""
    file = model / rng.choice(JSON_FILES)
    if not file.exists():
        file = model / "config.json"
    content, said = json.loads(file.read_text()), []
    for _ in range(rng.choice((1, 1, 2))):
        spots = list(_spots(content))
        where, name = rng.choice(spots if rng.random() < 0.5 else [s for s in spots if s[0] is content] or spots)
        odd = rng.choice(ODD)
        if rng.random() < 0.1:
            del where[name]
        elif rng.random() < 0.1 and isinstance(where, dict):
            where[f"{name}_"] = odd
        else:
            where[name] = odd
        said.append(f"{name} {odd!r:.40}")
    file.write_text(json.dumps(content))
    return f"{file.name}: {', '.join(said)}"


def _spots(value: Any) -> Any:
    """Where a JSON value can be changed; of long lists and tables the first entries."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value))[:12]
    for name, inner in entries:
        yield value, name
        if isinstance(inner, dict | list):
            yield from _spots(inner)


def header(rng: random.Random, model: Path) -> str:
    """The header of a safetensors file claims what is not so."""
    file = model / "model.safetensors"
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    told, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    if rng.random() < 0.15:
        size = rng.choice((0, 1, 2**63, 2**40, 10**8, size + 1, size - 1))
        file.write_bytes(struct.pack("<Q", size) + data[8:])
        return f"refused: header of {size} bytes"
    name = rng.choice([name for name in told if name != "__metadata__"])
    key, odd = (
        rng.choice(("dtype", "shape", "data_offsets")),
        rng.choice(
            (
                *ODD,
                "F64",
                "I64",
                "BOOL",
                "F8_E4M3",
                "C64",
                [2**62, 2**62],
                [0],
                [],
                [-1, 4],
                [0, 2**60],
                [10**6, 10**6],
                [1.5, 2],
            )
        ),
    )
    told[name][key] = odd
    text = json.dumps(told).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return f"header: {name} {key} {odd!r:.40}"


def weights(rng: random.Random, model: Path) -> str:
    """Other tensors in a file that is sound."""
    import torch
    from safetensors.torch import load_file, save_file

    file = model / "model.safetensors"
    tensors = load_file(file)
    name = rng.choice(sorted(name for name, tensor in tensors.items() if tensor.is_floating_point()))
    tensor = tensors[name]
    kind = rng.choice(
        (
            "NaN",
            "infinite",
            "huge",
            "tiny",
            "double",
            "half",
            "bfloat",
            "whole",
            "complex",
            "gone",
            "more",
            "longer",
            "shorter",
            "flat",
            "scalar",
            "empty",
            "another name",
        )
    )
    flat = tensor.reshape(-1).clone()
    refused = kind in ("NaN", "infinite", "whole", "complex", "longer", "shorter", "empty")
    if kind in ("NaN", "infinite"):
        flat[rng.randrange(len(flat))] = float("nan") if kind == "NaN" else float("-inf")
        tensors[name] = flat.reshape(tensor.shape)
    elif kind in ("huge", "tiny"):
        tensors[name] = tensor * (1e30 if kind == "huge" else 1e-30)
    elif kind in ("double", "half", "bfloat", "whole", "complex"):
        types = {
            "double": torch.float64,
            "half": torch.float16,
            "bfloat": torch.bfloat16,
            "whole": torch.int64,
            "complex": torch.complex64,
        }
        tensors[name] = tensor.to(types[kind])
    elif kind == "gone":
        del tensors[name]
    elif kind == "more":
        tensors["../more"] = tensor.clone()
    elif kind == "another name":
        tensors[f"{name}.x"] = tensors.pop(name)
    else:
        tensors[name] = {
            "longer": torch.cat([tensor, tensor]) if tensor.dim() else tensor.reshape(1),
            "shorter": tensor[:-1] if tensor.dim() else tensor.reshape(1),
            "flat": flat,
            "scalar": flat[0].clone(),
            "empty": flat[:0],
        }[kind]
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    return f"{'refused: ' if refused else ''}{name} {kind}"


def places(rng: random.Random, model: Path) -> str:
    """A file of the folder is no file, leads elsewhere, or is endless."""
    name = rng.choice(sorted(path.name for path in model.iterdir()))
    file, kind = (
        model / name,
        rng.choice(("pipe", "directory", "gone", "empty", "zeros", "elsewhere", "loop", "sparse", "index")),
    )
    if kind == "index":
        return _index(rng, model)
    content = file.read_bytes()
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    elif kind == "empty":
        file.touch()
    elif kind == "zeros":
        file.symlink_to("/dev/zero")
    elif kind == "elsewhere":
        (model.parent / "elsewhere").write_bytes(content)
        file.symlink_to("../elsewhere")
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "sparse":
        with file.open("wb") as out:
            out.write(content)
            out.truncate(2**36)
    refused = name in ("model.safetensors", "config.json") and kind != "elsewhere"
    return f"{'refused: ' if refused else ''}{name} is {kind}"


def _index(rng: random.Random, model: Path) -> str:
    names = [
        "a.safetensors",
        "../model.safetensors",
        "/etc/passwd",
        "a.bin",
        "config.json",
        "..",
        ".",
        "",
        "a/b",
        "\0",
        "x" * 300,
    ]
    file = rng.choice(names)
    (model / "model.safetensors").rename(model / "a.safetensors")
    maps: Any = rng.choice([{"a": file}, {"a": "a.safetensors", "b": file}, {}, [], file, {"a": [file]}, {"a": None}])
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": maps}))
    return f"index {maps!r:.60}"


class Trap:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("trapped"),)


def pickles(rng: random.Random, model: Path) -> str:
    import pickle

    import torch
    from safetensors.torch import load_file

    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    file = model / "pytorch_model.bin"
    kind = rng.choice(("sound", "code", "code inside", "bare", "bytes", "list", "nested", "no tensors"))
    made: Any = {
        "sound": tensors,
        "code": Trap(),
        "code inside": tensors | {"a": Trap()},
        "list": list(tensors.values()),
        "nested": {"model": tensors},
        "no tensors": {"a": 1},
    }.get(kind, tensors)
    if kind == "bare":
        file.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save(made, file)
    if kind == "bytes":
        data, _, what = tables.damage(rng, file.read_bytes())
        file.write_bytes(data)
        return f"pickle, {what}"
    return f"{'' if kind == 'sound' else 'refused: '}pickle, {kind}"


def vocabulary(rng: random.Random, model: Path) -> str:
    """A tokenizer that does not fit, or older files in place of tokenizer.json."""
    file = model / "tokenizer.json"
    kind = rng.choice(("large", "gap", "negative", "other", "vocab.txt", "merges", "no unknown", "nothing", "repeats"))
    told = json.loads(file.read_text())
    vocab: dict[str, int] = told["model"]["vocab"]
    refused = ""
    if kind in ("large", "gap", "negative"):
        refused = "refused: "
        entries = (
            {f"more{n}": 300 + n for n in range(50)} if kind == "large" else {"more": 10**9 if kind == "gap" else -5}
        )
        told["model"]["vocab"] = vocab | entries
        file.write_text(json.dumps(told))
    elif kind == "no unknown":
        told["model"]["vocab"] = {piece: i for piece, i in vocab.items() if i % 2}
        file.write_text(json.dumps(told))
    elif kind == "repeats":
        told["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10**5}
        file.write_text(json.dumps(told))
    else:
        file.unlink()
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "##a", "a", "\ud7ff", "", "film"]
        rng.shuffle(pieces)
        if kind == "vocab.txt":
            (model / "vocab.txt").write_text("\n".join(pieces * rng.choice((1, 50))))
        elif kind == "merges":
            (model / "vocab.json").write_text(
                json.dumps({piece: rng.choice((n, 7, 10**9)) for n, piece in enumerate(["<s>", "</s>", *pieces])})
            )
            (model / "merges.txt").write_text("#version\n" + rng.choice(("a b\n", "a\n", "a b c\n", "f i\n\n", "")))
        elif kind == "other":
            (model / "spiece.model").write_bytes(rng.randbytes(200))
    return f"{refused}tokenizer {kind}"


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
        where, name = rng.choice(list(_spots(inner)))
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
