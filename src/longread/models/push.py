"""A checkpoint's files to the Hugging Face Hub: these and no others, whatever else lies in the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longread.data.hub import no_hub
from longread.data.tokenizer_files import TOKENIZER_FILES
from longread.errors import UserError, first_line
from longread.models import linear
from longread.models.checkpoint import from_pretrained
from longread.models.weights import CARD, CHECKSUMS, PLACE, RUN, VOCABULARY, WEIGHT_FILES, shards, verify

REFUSED = (401, 403)  # status codes: this token may not do that


class NotSent(RuntimeError):
    """The Hub could not be reached, or did not take the files."""


@dataclass(frozen=True)
class File:
    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def files_to_send(directory: Path, repository: str) -> list[File]:
    """UserError for a damaged checkpoint, a card that the Hub would refuse, and a name that is none of the Hub's."""
    _check_name(repository)
    verify(directory)
    if linear.is_linear(directory):
        linear.load_linear(directory)
    else:
        from_pretrained(directory)
    weights = next(name for name in (*WEIGHT_FILES, "") if not name or (directory / name).is_file())
    parts = shards(directory / weights) if weights.endswith(".index.json") else []
    known = [CARD, "config.json", weights, *parts, *TOKENIZER_FILES, VOCABULARY, RUN, CHECKSUMS]
    names = [name for name in dict.fromkeys(known) if name and (directory / name).is_file()]
    return [File(name, _card(directory, repository) if name == CARD else directory / name) for name in names]


def push(files: Sequence[File], repository: str, *, private: bool = False) -> str:
    """Sends all in one commit, to a repository that is made if it is not there; the address of the model.

    UserError without a token, or with one that may not do that. NotSent where the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors, get_token

    if get_token() is None:
        raise UserError("no token of the Hugging Face Hub: run `hf auth login`, or set HF_TOKEN to one that may write")
    if why := no_hub():
        raise NotSent(f"{repository}: nothing was sent; {why}")
    contents = [(file.name, file.content if isinstance(file.content, bytes) else str(file.content)) for file in files]
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents]
    api = HfApi(library_name="longread")
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        api.create_commit(repository, operations, commit_message="Checkpoint of longread")
    except errors.HfHubHTTPError as error:
        told = f"{repository}: the Hub did not take it ({first_line(error)})"
        if error.response is not None and error.response.status_code in REFUSED:
            raise UserError(f"{told}; give a token that may write there") from error
        raise NotSent(told) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise NotSent(f"{repository}: not sent ({first_line(error)}); the same command tries again") from error
    return str(address)


def _check_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"{repository}: no name of a repository; write OWNER/NAME ({first_line(error)})") from error
    if repository.count("/") != 1:
        raise UserError(f"{repository}: no name of a repository; write OWNER/NAME")


def _card(directory: Path, repository: str) -> bytes:
    """The card with the repository's name in its example."""
    import yaml
    from huggingface_hub import ModelCard

    path = directory / CARD
    try:
        text = path.read_text("utf-8")
        ModelCard(text)
    except (ValueError, TypeError, OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: its metadata is no model card's ({first_line(error)}); mend or delete it") from error
    return text.replace(f'"{PLACE}"', f'"{repository}"').encode()
