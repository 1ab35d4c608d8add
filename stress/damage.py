"""Ways to damage a checkpoint's folder: each changes it and says how, "refused: " in front where it must be refused."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stress import tables

ODD: tuple[Any, ...] = (
    None, "text", "", [], {}, [1, "a"], {"a": []}, -1, 0, 1, 3, 3.5, float("nan"), float("inf"), 10**12, 10**30,
    -(10**9), True, False, "../../elsewhere", "\x1b[31m", "😀" * 9, [10**9] * 3, "a" * 10_000, {"content": "<s>"},
)  # fmt: skip
# Of a tensor in the header of a safetensors file.
ODD_HEADERS: tuple[Any, ...] = (
    "F64", "I64", "BOOL", "F8_E4M3", "C64", [2**62, 2**62], [0], [], [-1, 4], [0, 2**60], [10**6, 10**6], [1.5, 2],
)  # fmt: skip
# Kinds of other weights that must be refused.
SPOILED = ("NaN", "infinite", "whole", "complex", "longer", "shorter", "empty")
OWN_FILES = ("longread_checksums.json", "longread_run.json")
# The files of a folder and what may be wrong with each of their values.
JSON_FILES = (
    "config.json", "config.json", "config.json", "tokenizer.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "longread_run.json",
)  # fmt: skip


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
        found = list(spots(content))
        where, name = rng.choice(found if rng.random() < 0.5 else [s for s in found if s[0] is content] or found)
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


def spots(value: Any) -> Any:
    """Where a JSON value can be changed; of long lists and tables the first entries."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value))[:12]
    for name, inner in entries:
        yield value, name
        if isinstance(inner, dict | list):
            yield from spots(inner)


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
    key = rng.choice(("dtype", "shape", "data_offsets"))
    odd = rng.choice((*ODD, *ODD_HEADERS))
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
    tensor = tensors.pop(name)
    flat = tensor.reshape(-1).clone()

    def with_one(number: float) -> Any:
        flat[rng.randrange(len(flat))] = number
        return flat.reshape(tensor.shape)

    others: dict[str, Callable[[], dict[str, Any]]] = {
        "NaN": lambda: {name: with_one(float("nan"))},
        "infinite": lambda: {name: with_one(float("-inf"))},
        "huge": lambda: {name: tensor * 1e30},
        "tiny": lambda: {name: tensor * 1e-30},
        "double": lambda: {name: tensor.to(torch.float64)},
        "half": lambda: {name: tensor.to(torch.float16)},
        "bfloat": lambda: {name: tensor.to(torch.bfloat16)},
        "whole": lambda: {name: tensor.to(torch.int64)},
        "complex": lambda: {name: tensor.to(torch.complex64)},
        "gone": dict,
        "more": lambda: {name: tensor, "../more": tensor.clone()},
        "longer": lambda: {name: torch.cat([tensor, tensor]) if tensor.dim() else tensor.reshape(1)},
        "shorter": lambda: {name: tensor[:-1] if tensor.dim() else tensor.reshape(1)},
        "flat": lambda: {name: flat},
        "scalar": lambda: {name: flat[0].clone()},
        "empty": lambda: {name: flat[:0]},
        "another name": lambda: {f"{name}.x": tensor},
    }
    kind = rng.choice(list(others))
    tensors |= others[kind]()
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    return f"{'refused: ' if kind in SPOILED else ''}{name} {kind}"


def places(rng: random.Random, model: Path) -> str:
    """A file of the folder is no file, leads elsewhere, or is endless."""
    name = rng.choice(sorted(path.name for path in model.iterdir()))
    file = model / name
    kind = rng.choice(("pipe", "directory", "gone", "empty", "zeros", "elsewhere", "loop", "sparse", "index"))
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
        "a.safetensors", "../model.safetensors", "/etc/passwd", "a.bin", "config.json", "..", ".", "", "a/b", "\0",
        "x" * 300,
    ]  # fmt: skip
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
