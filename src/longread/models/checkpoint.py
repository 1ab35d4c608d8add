"""Checkpoints in and out: Hugging Face's BERT, RoBERTa, Longformer and BigBird families, and our own.

What their format cannot express (Performer, Linformer, mean pooling, ...) is written with
`"model_type": "longread"`, every field of the configuration and our own parameter names, and read back exactly.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.data.tokenizer_files import tokenizer_file
from longread.errors import UserError
from longread.models import families, weights
from longread.models.classifier import Classifier, ClassifierConfig
from longread.models.families import FAMILIES, Family
from longread.records import write_atomically

log = logging.getLogger("longread")

OWN = "longread"
LAYOUTS = ("auto", "huggingface", "longread")
LISTED_KEYS = 12  # of an error; the rest is counted
CONVERSION = "longread_conversion"  # key of config.json: what `convert` did
# What transformers adds to a config.json that it writes, and no model reads.
THEIR_NOTES = ("transformers_version", "dtype", "torch_dtype", "problem_type")
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id")


@dataclass(frozen=True)
class Loading:
    """How an Classifier's weights came about. `initialised` has our names, `ignored` and `renamed` the file's."""

    source: str
    family: str
    ignored: tuple[str, ...] = ()  # not used by a classifier
    renamed: tuple[str, ...] = ()  # written without the family's prefix, or as gamma and beta
    initialised: tuple[str, ...] = ()  # not in the file: drawn anew, or zero for a bias
    token_ids: Mapping[str, int] = field(default_factory=dict)
    converted: Mapping[str, Any] | None = None  # what `convert` did since

    @property
    def head_is_untrained(self) -> bool:
        return any(name.startswith("head.classifier") for name in self.initialised)

    def __str__(self) -> str:
        parts = [f"loaded {self.source} ({self.family})"]
        for what, names in (("initialised", self.initialised), ("ignored", self.ignored)):
            if names:
                parts.append(f"{what} {_listed(names)}")
        if self.renamed:
            parts.append(f"{len(self.renamed)} old names")
        return "; ".join(parts)


def from_pretrained(
    path_or_hub_id: str | Path,
    num_labels: int | None = None,
    *,
    revision: str | None = None,
    **overrides: Any,
) -> Classifier:
    """A pretrained encoder, in evaluation mode.

    num_labels: None for as many as the checkpoint has. Where that differs from the checkpoint's classifier, or it
    has none, the classifier is initialised from `seed`, and `model.loading` says so. revision: of a Hub id.
    overrides: fields of ClassifierConfig and of the mechanism's options. UserError for files that cannot be read, for
    weights that are missing, left over or of another shape, and for settings that there are not.
    """
    directory = weights.locate(path_or_hub_id, revision)
    hf = weights.read_json(directory / "config.json")
    model_type = hf.get("model_type")
    if model_type != OWN and model_type not in FAMILIES:
        raise UserError(
            f"{directory / 'config.json'}: model_type is {model_type!r}; known are {', '.join((*FAMILIES, OWN))}"
        )
    config = _config(hf, str(path_or_hub_id), num_labels, overrides)
    tensors = weights.read_weights(directory)
    # A mechanism may draw numbers when it is made, which "meta" cannot; the families' do not.
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if model_type == OWN else "meta"):
        model = Classifier(config)
    family = FAMILIES.get(model_type)
    state, loading = _assign(tensors, model, family, str(path_or_hub_id))
    ids = {name: hf[name] for name in TOKEN_IDS if isinstance(hf.get(name), int)}
    model.load_state_dict(state, assign=True)
    for own, parameter in model.named_parameters():
        if own in loading.initialised and not own.startswith("head."):
            parameter.requires_grad_(False)  # use_bias=False: zero, and it stays zero
    converted = hf.get(CONVERSION) if isinstance(hf.get(CONVERSION), dict) else None
    model.loading = Loading(**(vars(loading) | {"token_ids": ids, "converted": converted}))
    model.tokenizer_file = tokenizer_file(directory)
    log.log(logging.WARNING if loading.initialised else logging.INFO, "%s", model.loading)
    return model.eval()


def _config(
    hf: Mapping[str, Any], where: str, num_labels: int | None, overrides: Mapping[str, Any]
) -> ClassifierConfig:
    names = _label_names(hf, where)
    if hf["model_type"] == OWN:
        settings = {name: value for name, value in hf.items() if name not in ("model_type", "architectures")}
        foreign = ("id2label", "label2id", CONVERSION, *TOKEN_IDS, *THEIR_NOTES)
        settings = {name: value for name, value in settings.items() if name not in foreign}
        count = settings.get("num_labels", 2)
    else:
        try:
            settings = families.settings_from(hf, where)
        except (TypeError, ValueError) as error:
            raise (error if isinstance(error, UserError) else UserError(f"{where}: config.json: {error}")) from error
        count = len(hf["id2label"]) if hf.get("id2label") else hf.get("num_labels", 2)
    wanted = count if num_labels is None else num_labels
    settings |= {"num_labels": wanted, "label_names": names if names and len(names) == wanted else None}
    attention = overrides.get("attention", settings["attention"])
    if attention != settings["attention"]:
        raise UserError(f"{where}: has {settings['attention']} attention; longread.convert makes {attention!r} of it")
    try:
        return ClassifierConfig.from_dict(settings | dict(overrides))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def _label_names(hf: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    """Names in the order of their numbers; None for the placeholders LABEL_0, LABEL_1, ..."""
    labels = hf.get("id2label") or {}
    try:
        numbered = {int(number): str(name) for number, name in labels.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{where}: config.json: id2label must map numbers to names") from error
    if not numbered or sorted(numbered) != list(range(len(numbered))):
        return None
    names = tuple(numbered[number] for number in range(len(numbered)))
    return None if names == tuple(f"LABEL_{i}" for i in range(len(names))) else names


def _assign(
    tensors: dict[str, Tensor], model: Classifier, family: Family | None, where: str
) -> tuple[dict[str, Tensor], Loading]:
    """The state of `model` out of a file's tensors."""
    config = model.config
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = family.names(expected, config.num_hidden_layers) if family else {name: name for name in expected}
    ours = {name: own for own, name in theirs.items()}
    state: dict[str, Tensor] = {}
    ignored: list[str] = []
    renamed: list[str] = []
    left_over: list[str] = []
    misfits: list[str] = []
    for key, tensor in tensors.items():
        name = family.current_name(key) if family else key
        own = ours.get(name)
        if own is None:
            (ignored if family and families.ignored(key) else left_over).append(key)
        elif own.startswith("head.classifier.") and tensor.shape[0] != config.num_labels:
            ignored.append(key)  # of other labels
        elif tuple(tensor.shape) != expected[own]:
            misfits.append(f"{key} is {list(tensor.shape)}, not {list(expected[own])}")
        else:
            state[own] = tensor.float() if tensor.is_floating_point() else tensor
            if name != key:
                renamed.append(key)
    missing = [own for own in expected if own not in state]
    free = [own for own in missing if _may_be_missing(own, config, family)]
    problems = [
        f"{what} {_listed(keys)}"
        for what, keys in (
            ("missing", [theirs.get(own, own) for own in missing if own not in free] if not misfits else []),
            ("left over", left_over),
            ("of another shape:", misfits),
        )
        if keys
    ]
    if problems:
        raise UserError(f"{where}: the weights do not fit its config.json: {'; '.join(problems)}")
    for own in free:
        state[own] = _initial(own, expected[own], config)
    return state, Loading(where, family.model_type if family else OWN, tuple(ignored), tuple(renamed), tuple(free))


def _may_be_missing(own: str, config: ClassifierConfig, family: Family | None) -> bool:
    if family is None:
        return own.startswith("head.classifier.")
    without_bias = family.model_type == "big_bird" and own.endswith(
        ("attention.query.bias", "attention.key.bias", "attention.value.bias")
    )  # use_bias=False
    return own.startswith("head.") or without_bias


def _initial(name: str, shape: tuple[int, ...], config: ClassifierConfig) -> Tensor:
    """As an Classifier initialises itself, but from the seed and the name alone."""
    if name.endswith(".bias"):
        return torch.zeros(shape)
    # torch's generator uses 32 bits of its seed: the name goes into the same ones.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{config.seed} {name}".encode()))
    return torch.randn(shape, generator=generator) * config.initializer_range


def save_pretrained(
    model: Classifier, directory: str | Path, *, layout: str = "auto", tokenizer: Tokenizer | None = None
) -> None:
    """config.json, model.safetensors and the tokenizer's files, so that transformers reads what longread does.

    layout "huggingface": what transformers' AutoModelForSequenceClassification reads (UserError if it has no such
    model); "longread": ours, exact for every model; "auto": the first where it can be. tokenizer: None for the one that
    the model came with, if any. A new directory appears whole or not at all; in an existing one each file does,
    config.json last.
    """
    if layout not in LAYOUTS:
        raise UserError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is a file; give the directory to write to")
    if tokenizer is None and model.tokenizer_file is not None:
        tokenizer = load_tokenizer(model.tokenizer_file)
    ids = dict(model.loading.token_ids) if model.loading else {}
    if tokenizer is not None and tokenizer.pad_id is not None:
        ids["pad_token_id"] = tokenizer.pad_id
    family = families.family_of(model.config, ids.get("pad_token_id")) if layout != "longread" else OWN
    if isinstance(family, str) and layout == "huggingface":
        raise UserError(f"the model has no place in Hugging Face's format: {family}; use layout='longread'")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if isinstance(family, Family):
        if getattr(model.config.options, "random_block_plan", "huggingface") != "huggingface":
            log.info(
                "transformers will lay other random blocks over sequences of more than %d tokens; "
                'only random_block_plan="huggingface" is its own',
                model.blocks[0].attention.longest_full_row,  # type: ignore[union-attr]
            )
        hf = families.config_for(family, model.config, ids)
        state = _their_state(state, family, model.config, ids.get("pad_token_id"))
    else:
        hf = {"model_type": OWN, "architectures": ["Classifier"]} | model.config.to_dict() | ids
    count = model.config.num_labels
    named = model.config.label_names
    names = named if named and len(named) == count else [f"LABEL_{i}" for i in range(count)]
    hf["id2label"] = {str(number): name for number, name in enumerate(names)}
    hf["label2id"] = {name: number for number, name in enumerate(names)}
    if model.loading and model.loading.converted:
        hf[CONVERSION] = dict(model.loading.converted)
    files: list[tuple[str, bytes]] = []
    if tokenizer is not None:
        typed = family == OWN or model.config.type_vocab_size > 1
        written = tokenizer.files(_longest_input(model, tokenizer), typed)
        files += [(name, text.encode()) for name, text in written.items()]
    files.append(("config.json", (json.dumps(hf, indent=2, ensure_ascii=False) + "\n").encode()))
    _write(directory, state, files)


def _longest_input(model: Classifier, tokenizer: Tokenizer) -> int:
    """What the tokenizer says, unless the model was given more positions since."""
    done = (model.loading and model.loading.converted) or {}
    positions = model.config.max_length
    return positions if done.get("max_length") != done.get("trained") else tokenizer.limit(positions)


def _their_state(
    state: dict[str, Tensor], family: Family, config: ClassifierConfig, pad_token_id: int | None
) -> dict[str, Tensor]:
    state = dict(state)
    start, offset = families.first_position(family, config, pad_token_id), config.position_offset
    if start != offset:
        table = state["embeddings.position.weight"]
        state["embeddings.position.weight"] = torch.cat([table.new_zeros(start, table.shape[1]), table[offset:]])
    if config.type_vocab_size == 0:
        state["embeddings.token_type.weight"] = torch.zeros(1, config.hidden_size)
    names = family.names(state, config.num_hidden_layers)
    assert set(names) == set(state), f"no name for {set(state) - set(names)}"
    return {names[own]: tensor for own, tensor in state.items()}


def _write(directory: Path, state: dict[str, Tensor], files: Iterable[tuple[str, bytes]]) -> None:
    from safetensors.torch import save

    directory.parent.mkdir(parents=True, exist_ok=True)
    new = not directory.exists()
    target = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.")) if new else directory
    try:
        write_atomically(target / "model.safetensors", save(state, metadata={"format": "pt"}))
        for name, content in files:
            write_atomically(target / name, content)
        if new:
            os.chmod(target, 0o755)
            os.replace(target, directory)
    except BaseException:
        if new:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED_KEYS} more" if len(names) > LISTED_KEYS else ""
    return ", ".join(names[:LISTED_KEYS]) + more
