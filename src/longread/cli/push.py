"""`longread push`: a checkpoint to the Hugging Face Hub."""

from __future__ import annotations

from longread.cli import logs
from longread.cli.status import FAILED


def push(checkpoint: str, repository: str, /, *, private: bool = False, dry_run: bool = False) -> int:
    """A checkpoint to the Hugging Face Hub: its own files alone, no records, states, predictions or texts.

    Example: longread push out/runs/0123456789abcdef OWNER/NAME --private

    Needs a token that may write: hf auth login, or HF_TOKEN. Behind it, OWNER/NAME takes the place of a checkpoint's
    folder in every command.

    Parameters
    ----------
    checkpoint:
        A run's folder or a checkpoint's folder.
    repository:
        OWNER/NAME; made if it is not there.
    private:
        A new repository is private.
    dry_run:
        Say what would be sent, and send nothing; needs no token and no network.
    """
    from longread.errors import UserError
    from longread.inference.origin import folder_of
    from longread.models.push import NotSent, files_to_send
    from longread.models.push import push as send
    from longread.models.weights import CARD

    directory = folder_of(checkpoint)
    if not (directory / "config.json").is_file():
        raise UserError(f"{checkpoint}: no checkpoint's folder; give one with config.json and weights")
    files = files_to_send(directory, repository)
    for file in files:
        logs.result(f"{file.name}  {file.size:,} bytes")
    if CARD not in (file.name for file in files):
        logs.log.warning(f"no {CARD}: the model has no card there")
    total = f"{len(files)} files, {sum(file.size for file in files) / 2**20:.1f} MiB, to {repository}"
    if dry_run:
        logs.result(f"would send {total}; nothing was sent")
        return 0
    try:
        address = send(files, repository, private=private)
    except NotSent as error:
        logs.log.error("longread: %s", error)
        return FAILED
    logs.result(f"sent {total}")
    print(address)
    return 0
