"""The files of a checkpoint: read as untrusted, written whole, with a checksum of each."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longread.errors import UserError, first_line
from longread.records import remove_leftovers, temporary_folder, write_atomically

# The first of these that is there is read. An index lists the files that a large model is cut into.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
RUN = "longread_run.json"  # which run wrote the checkpoint (training/lineage.py)
CHECKSUMS = "longread_checksums.json"  # file name -> SHA-256, of what `write_checkpoint` wrote
VOCABULARY = "vocabulary.json"  # the terms of a linear model (linear.py)
CARD = "README.md"  # the model card (training/card.py): the user's to edit, so without a checksum
PLACE = "OWNER/NAME"  # in a card's example: what a push puts the repository's name in place of
LONGEST_JSON = 64 * 2**20  # bytes; an index of a thousand shards has a tenth of that


def read_json(path: Path) -> dict[str, Any]:
    """UserError for what is no JSON object of finite numbers."""
    if not path.is_file():
        raise UserError(f"{path.parent}: has no {path.name}; a checkpoint has config.json and weights")
    try:
        if path.stat().st_size > LONGEST_JSON:
            raise UserError(f"{path}: is larger than {LONGEST_JSON // 2**20} MiB; it is no configuration")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object")
    for name, number in value.items():
        if isinstance(number, float) and not math.isfinite(number):
            raise UserError(f"{path}: {name} is {number}; it must be a finite number")
    return value


def verify(directory: Path) -> None:
    """UserError that names the first file which is not as `write_checkpoint` left it; no checksums, no error."""
    if not os.path.lexists(directory / CHECKSUMS):
        return
    if not (directory / CHECKSUMS).is_file():
        raise UserError(f"{directory / CHECKSUMS}: is no file; restore it, or delete it")
    mend = f"restore it, or delete {CHECKSUMS} if the change is meant"
    for name, told in read_json(directory / CHECKSUMS).items():
        path = directory / name
        if Path(name).name != name:
            raise UserError(f"{directory / CHECKSUMS}: names {name!r}; the files of a checkpoint lie beside it")
        try:
            _check_size(path)
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); {mend}") from error
        except ValueError as error:
            raise UserError(f"{path}: is not what was saved ({error}); {mend}") from error
        if found != told:
            raise UserError(f"{path}: is not what was saved (SHA-256 {found[:12]}, not {str(told)[:12]}); {mend}")


def _check_size(path: Path) -> None:
    """ValueError for what would be read for ever: a pipe or device, a file that is longer than it says."""
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    if path.suffix != ".safetensors":
        if path.stat().st_size > LONGEST_JSON:
            raise ValueError(f"it is larger than {LONGEST_JSON // 2**20} MiB")
        return
    try:
        with safe_open(path, framework="pt"):  # looks at the header alone
            pass
    except SafetensorError as error:
        raise ValueError(first_line(error)) from error


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint. Nothing but tensors is unpickled from a .bin file."""
    for name in WEIGHT_FILES:
        path = directory / name
        if not path.is_file():
            continue
        if not name.endswith(".index.json"):
            return _read_file(path)
        tensors: dict[str, Tensor] = {}
        for shard in shards(path):
            if not (directory / shard).is_file():
                raise UserError(f"{path}: names {shard}, which is not there; fetch the whole checkpoint")
            tensors |= _read_file(directory / shard)
        return tensors
    raise UserError(f"{directory}: has no weights; one of {', '.join(WEIGHT_FILES)} is needed")


def shards(index: Path) -> list[str]:
    """Names of the files that an index lists."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index}: has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:
            raise UserError(f"{index}: names {name!r}; the files of a checkpoint lie beside its index")
    return names


def _read_file(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    _refuse_link(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its instructions meet
        raise UserError(f"{path}: cannot be read as weights ({first_line(error)})") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: must hold a dictionary of tensors (a state_dict)")
    return {str(name): tensor for name, tensor in tensors.items()}


def _refuse_link(path: Path) -> None:
    """A link may lead to another file of the directory, or within the Hub's cache, which is made of links."""
    if not path.is_symlink():
        return
    directory, target = path.parent.resolve(), path.resolve()
    blobs = directory.parent.parent / "blobs"
    if target.parent != directory and not (directory.parent.name == "snapshots" and target.parent == blobs):
        raise UserError(f"{path}: is a link out of its directory, to {target}; put the file itself there")


def write_checkpoint(directory: Path, state: Mapping[str, Tensor], files: Iterable[tuple[str, bytes]]) -> None:
    """model.safetensors, then `files` in their order, then the checksums of all.

    A new directory appears whole or not at all. In an existing one each file does; a stop between two of them leaves
    checksums that do not fit, so that a mixture is never read.
    """
    from safetensors.torch import save

    directory.parent.mkdir(parents=True, exist_ok=True)
    new = not directory.exists()
    remove_leftovers(directory.parent, directory.name)
    held, place = temporary_folder(directory) if new else (None, directory)
    target = Path(place)
    sums = {}
    try:
        for name, content in (("model.safetensors", save(dict(state), metadata={"format": "pt"})), *files):
            write_atomically(target / name, content)
            sums[name] = hashlib.sha256(content).hexdigest()
        write_atomically(target / CHECKSUMS, json.dumps(sums, indent=2) + "\n")
        if new:
            os.chmod(target, 0o755)
            os.replace(target, directory)
    except BaseException:
        if new:
            shutil.rmtree(target, ignore_errors=True)
        raise
    finally:
        if held is not None:
            os.close(held)


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over every parameter and stored buffer: name, type, shape and bytes; 16 hexadecimal characters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {list(data.shape)} ".encode())
        digest.update(memoryview(data.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]
