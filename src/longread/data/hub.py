"""Data sets of the Hugging Face Hub: their files, without the `datasets` library.

Without a network, huggingface_hub tries again and again for half a minute. So the Hub is probed once, for a
few seconds, and only a Hub that answered is asked for files. What its cache holds needs no network.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from pathlib import Path

from longread.data.sources import Table, concatenate, file_format, read_table
from longread.errors import UserError, first_line

PROBE_SECONDS = 5.0
CONVERTED = "refs/convert/parquet"  # the branch in which the Hub keeps every public set as Parquet


def offline() -> bool:
    """Whether the user has switched the Hub off."""
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    )


@functools.cache
def unreachable(endpoint: str) -> str | None:
    """Why `endpoint` cannot be reached, or None if it answers. At most `PROBE_SECONDS`, once a process."""
    import urllib.error
    import urllib.request

    reason: list[str | None] = [f"no answer within {PROBE_SECONDS:g} s"]

    def probe() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=PROBE_SECONDS):
                reason[0] = None
        except urllib.error.HTTPError as error:
            error.close()
            reason[0] = None  # it answered
        except (OSError, ValueError) as error:
            reason[0] = " ".join(str(getattr(error, "reason", error)).split())

    # In a thread of its own: a name look-up takes no time limit and may hang for half a minute.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return reason[0]


def no_hub() -> str | None:
    """Why the Hub cannot be asked now, or None if it can."""
    if offline():
        return "the Hugging Face Hub is switched off by HF_HUB_OFFLINE"
    from huggingface_hub import constants

    reason = unreachable(constants.ENDPOINT)
    return f"the Hugging Face Hub cannot be reached ({reason})" if reason else None


def read_files(repository: str, revision: str, files: list[str], mend: str) -> Table:
    """Files of one split as one table. `mend` ends the message if they cannot be had."""
    address = f"hub:{repository}"
    tables = [read_table(_download(repository, revision, name, mend), f"{address}/{name}") for name in files]
    return concatenate(tables, address)


def _download(repository: str, revision: str, name: str, mend: str) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision, repo_type="dataset")
    if isinstance(cached, str):
        return Path(cached)
    if why := no_hub():
        raise UserError(f"{repository}: {why} and {name} is not in its cache; {mend}")
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision, repo_type="dataset"))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"{repository}: {name} could not be fetched ({first_line(error)}); {mend}") from error


@functools.cache  # asked once for each split, and the answer must not change between
def list_splits(repository: str, config: str = "", revision: str = "") -> tuple[str, dict[str, list[str]]]:
    """Commit hash and the files of each split of a data set that has no record here."""
    import huggingface_hub
    from huggingface_hub import errors

    mend = "check the name, or give a file of your own"
    if why := no_hub():
        raise UserError(f"hub:{repository}: {why}; connect, or give a file of your own with --task path/to/file.csv")
    tried = (revision,) if revision else (None, CONVERTED)
    configs: set[str] = set()
    for wanted in tried:
        try:
            info = huggingface_hub.HfApi().dataset_info(repository, revision=wanted, timeout=4 * PROBE_SECONDS)
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            if wanted == CONVERTED:
                continue
            raise UserError(f"hub:{repository}: cannot be read ({first_line(error)}); {mend}") from error
        names = [sibling.rfilename for sibling in info.siblings or []]
        splits, found = group_files(names, config)
        configs |= found
        if splits and info.sha:
            return info.sha, splits
    if configs:
        choice = f"hub:{repository}/CONFIG with one of: {', '.join(sorted(configs))}"
        raise UserError(f"hub:{repository}: {'has no ' + config if config else 'has several sets'}; write {choice}")
    raise UserError(f"hub:{repository}: holds no Parquet, CSV, TSV or JSONL files of a train split; {mend}")


def group_files(names: list[str], config: str) -> tuple[dict[str, list[str]], set[str]]:
    """Sort a repository's files by split: `(files of each split, names of configs)`.

    Layouts that occur: `config/train-00000-of-00001.parquet`, `config/train/0000.parquet`, `train.csv`,
    `data/train-00000-of-00001.parquet`. The first dict is empty where `config` is not
    there, or is needed and was not given.
    """
    pattern = re.compile(r"(?:^|[/_.-])(train|validation|valid|val|dev|test)(?=[/_.-])")
    by_config: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        match = pattern.search(name)
        if file_format(name, arrow=False) is None or match is None:
            continue
        folder = name.split("/")[0] if "/" in name and not pattern.match(name) else ""
        split = "validation" if match[1] in ("valid", "val", "dev") else match[1]
        by_config.setdefault("" if folder == "data" else folder, {}).setdefault(split, []).append(name)
    configs = {name for name in by_config if name}
    if config:
        return by_config.get(config, {}), configs
    if len(by_config) == 1:
        return next(iter(by_config.values())), configs
    return by_config.get("", {}) or by_config.get("default", {}), configs
