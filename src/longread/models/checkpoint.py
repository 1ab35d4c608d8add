"""Checkpoints in and out: those of Hugging Face's families (`families.py`), and our own.

What no family's format can express (Performer, Linformer, a pooling that it lacks, ...) is written with
`"model_type": "longread"`, every field of the configuration and our own parameter names, and read back exactly.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longread.data.config import TRUNCATION, Cut
from longread.data.labels import placeholders
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.data.tokenizer_files import tokenizer_file
from longread.errors import UserError, first_line
from longread.models import families, family_config, linear, weights
from longread.models.assign import assign, still_untrained
from longread.models.classifier import Classifier
from longread.models.config import ClassifierConfig
from longread.models.decision import DECISION, Decision
from longread.models.families import FAMILIES, Family
from longread.models.loading import OWN, Labels, Loading, match_labels
from longread.models.locate import locate
from longread.models.masked import their_head
from longread.problems import PROBLEM_TYPES, SINGLE_LABEL, ProblemType

log = logging.getLogger("longread")

ARCHITECTURE = "LongreadForSequenceClassification"
MOST_LABELS = 100_000
LAYOUTS = ("auto", "huggingface", "longread")
CONVERSION = "longread_conversion"  # key of config.json: what `convert` did
# What transformers adds to a config.json that it writes, and no model reads.
THEIR_NOTES = ("transformers_version", "dtype", "torch_dtype", "problem_type")
NO_SETTINGS = ("model_type", "architectures", "id2label", "label2id", CONVERSION, DECISION, TRUNCATION)
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id")


def from_pretrained(
    path_or_hub_id: str | Path,
    num_labels: int | None = None,
    *,
    label_names: Sequence[str] | None = None,
    problem_type: ProblemType | None = None,
    revision: str | None = None,
    **overrides: Any,
) -> Classifier:
    """A pretrained encoder, in evaluation mode.

    num_labels: None for as many as the checkpoint has. label_names: of the classes to come; the checkpoint's classifier
    is reordered to them where it has the same. Where it has others, another number or none, a new classifier is
    initialised from `seed`; the log and `model.loading` say what was done. problem_type: one of Hugging Face's three;
    None for the checkpoint's own (with label_names: one class). revision: of a Hub id.
    overrides: fields of ClassifierConfig and of the mechanism's options. UserError for files that cannot be read, for
    weights that are missing, left over or of another shape, and for settings that there are not.
    """
    directory = locate(path_or_hub_id, revision)
    weights.verify(directory)
    hf = weights.read_json(directory / "config.json")
    source = str(path_or_hub_id)
    model_type = _model_type(hf, directory, source)
    if problem_type not in (None, *PROBLEM_TYPES):
        raise UserError(f"problem_type is {problem_type!r}; it must be one of {', '.join(PROBLEM_TYPES)}")
    own = hf["problem_type"] if hf.get("problem_type") in PROBLEM_TYPES else None
    known, count = _labels(hf, source)
    names = None if label_names is None else tuple(label_names)
    labels = match_labels(known, count, num_labels, names, own, problem_type)
    config = _config(hf, source, labels, overrides)
    tensors = weights.read_weights(directory)
    if model_type in FAMILIES:
        tensors = FAMILIES[model_type].split(tensors)
    shapes = _without_memory(config, len(tensors), source)
    state, loading = assign(tensors, shapes, FAMILIES.get(model_type), labels, _loading(hf, source, labels))
    model = _with_state(shapes, state, loading)
    model.tokenizer_file = tokenizer_file(directory)
    if label_names is None and problem_type is None and num_labels in (None, count):
        named = known or placeholders(count)
        model.decision = Decision.from_json(hf.get(DECISION), named, model.config.problem_type, source)
    model.cut = Cut.from_json(hf.get(TRUNCATION), source)
    log.log(logging.WARNING if model.loading.initialised else logging.INFO, "%s", model.loading)
    return model.eval()


def _model_type(hf: Mapping[str, Any], directory: Path, source: str) -> str:
    """One of `FAMILIES`, or our own."""
    found = hf.get("model_type")
    if found == linear.MODEL_TYPE:
        raise UserError(
            f"{source}: a linear model ({hf.get('attention')}), which has no network: predict, explain, "
            "evaluate and serve take it"
        )
    if not isinstance(found, str) or (found != OWN and found not in FAMILIES):
        raise UserError(f"{directory / 'config.json'}: {families.unknown(found)}")
    return found


def _without_memory(config: ClassifierConfig, tensors: int, where: str) -> Classifier:
    """The model's shapes alone: config.json is not believed before the weights fit it."""
    if config.num_hidden_layers > tensors:
        raise UserError(f"{where}: config.json asks for {config.num_hidden_layers} layers of {tensors} tensors")
    try:
        with torch.device("meta"):
            return Classifier(config)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: config.json describes no model ({first_line(error)})") from error


def _loading(hf: Mapping[str, Any], source: str, labels: Labels) -> Loading:
    """What config.json says of how the weights came about."""
    return Loading(
        source,
        hf["model_type"],
        head=labels.head,
        architecture=None if hf["model_type"] == OWN else families.other_architecture(hf),
        token_ids={name: hf[name] for name in TOKEN_IDS if isinstance(hf.get(name), int)},
        converted=hf.get(CONVERSION) if isinstance(hf.get(CONVERSION), dict) else None,
    )


def _with_state(shapes: Classifier, state: Mapping[str, Tensor], loading: Loading) -> Classifier:
    model = shapes
    if loading.family == OWN:  # its sizes fit the file: now with what a mechanism draws beside its weights
        with torch.random.fork_rng(devices=[]):
            model = Classifier(shapes.config)
    model.loading = loading
    model.load_state_dict(state, assign=True)
    for own, parameter in model.named_parameters():
        if own in loading.initialised and not own.startswith("head."):
            parameter.requires_grad_(False)  # use_bias=False: zero, and it stays zero
    return model


def _config(hf: Mapping[str, Any], where: str, labels: Labels, overrides: Mapping[str, Any]) -> ClassifierConfig:
    if hf["model_type"] == OWN:
        settings = {name: value for name, value in hf.items() if name not in (*NO_SETTINGS, *TOKEN_IDS, *THEIR_NOTES)}
    else:
        try:
            settings = family_config.settings_from(hf, where)
        except (TypeError, ValueError) as error:
            raise (error if isinstance(error, UserError) else UserError(f"{where}: config.json: {error}")) from error
    settings |= {"num_labels": labels.count, "label_names": labels.names, "problem_type": labels.problem_type}
    attention = overrides.get("attention", settings["attention"])
    if attention != settings["attention"]:
        raise UserError(f"{where}: has {settings['attention']} attention; longread.convert makes {attention!r} of it")
    try:
        return ClassifierConfig.from_dict(settings | dict(overrides))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def _labels(hf: Mapping[str, Any], where: str) -> tuple[tuple[str, ...] | None, int]:
    """Names of the checkpoint's classes, if they have any, and their number."""
    names = _label_names(hf, where)
    count = hf.get("num_labels") if hf["model_type"] == OWN or not hf.get("id2label") else len(hf["id2label"])
    count = 2 if count is None else count
    if not isinstance(count, int) or not 1 <= count <= MOST_LABELS:
        raise UserError(f"{where}: config.json: num_labels is {count!r}; it must be 1 or more, at most {MOST_LABELS}")
    told = len(hf.get("id2label") or ())
    if hf["model_type"] == OWN and told not in (0, count):
        raise UserError(
            f"{where}: config.json: id2label names {told} labels and num_labels is {count}; make them agree"
        )
    return names, count


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
    family: Family | str = OWN
    if layout != "longread":
        source = model.loading.family if model.loading else None
        family = family_config.family_of(model.config, ids.get("pad_token_id"), source)
    if isinstance(family, str) and layout == "huggingface":
        raise UserError(f"the model has no place in Hugging Face's format: {family}; use layout='longread'")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for name in still_untrained(model, state):
        del state[name]  # who reads the checkpoint draws the same, and knows that it is untrained
    if isinstance(family, Family):
        if getattr(model.config.options, "random_block_plan", "huggingface") != "huggingface":
            log.info(
                "transformers will lay other random blocks over sequences of more than %d tokens; "
                'only random_block_plan="huggingface" is its own',
                model.blocks[0].attention.longest_full,  # type: ignore[union-attr]
            )
        hf = family_config.config_for(family, model.config, ids)
        state = their_head(state, family, model)
        if any(name.startswith(families.MASKED_HEAD) for name in state):
            hf["architectures"] = [family.masked_architecture]
        state = _their_state(state, family, model.config, ids.get("pad_token_id"))
    else:
        hf = {"model_type": OWN, "architectures": [ARCHITECTURE]} | model.config.to_dict() | ids
    hf = {name: value for name, value in hf.items() if name != "problem_type"} | _answers(model) | _notes(model)
    files: list[tuple[str, bytes]] = []
    if tokenizer is not None:
        typed = family == OWN or model.config.type_vocab_size > 1
        written = tokenizer.files(_longest_input(model, tokenizer), typed)
        files += [(name, text.encode()) for name, text in written.items()]
    files.append(("config.json", (json.dumps(hf, indent=2, ensure_ascii=False) + "\n").encode()))
    weights.write_checkpoint(directory, state, files)


def _answers(model: Classifier) -> dict[str, Any]:
    """What config.json says of labels, as transformers reads it."""
    count, named = model.config.num_labels, model.config.label_names
    names = named if named and len(named) == count else [f"LABEL_{i}" for i in range(count)]
    told: dict[str, Any] = {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    if model.config.problem_type != SINGLE_LABEL:  # what transformers takes a model for that does not say
        told["problem_type"] = model.config.problem_type
    return told


def _notes(model: Classifier) -> dict[str, Any]:
    """What config.json says of how the model came about and reads, which transformers passes over."""
    converted = dict(model.loading.converted or {}) if model.loading else {}
    notes = {CONVERSION: converted, DECISION: model.decision.to_json(), TRUNCATION: model.cut.to_json()}
    return {name: told for name, told in notes.items() if told}


def _longest_input(model: Classifier, tokenizer: Tokenizer) -> int:
    """What the tokenizer says, unless the model was given more positions since, which its training does not fix."""
    if model.cut.truncation is not None:
        return tokenizer.limit(model.config.max_length)
    done = (model.loading and model.loading.converted) or {}
    positions = model.config.max_length
    return positions if done.get("max_length") != done.get("trained") else tokenizer.limit(positions)


def _their_state(
    state: dict[str, Tensor], family: Family, config: ClassifierConfig, pad_token_id: int | None
) -> dict[str, Tensor]:
    state = dict(state)
    start, offset = family_config.first_position(family, config, pad_token_id), config.position_offset
    if start != offset:
        table = state["embeddings.position.weight"]
        state["embeddings.position.weight"] = torch.cat([table.new_zeros(start, table.shape[1]), table[offset:]])
    if config.type_vocab_size == 0 and family.has_token_types:
        state["embeddings.token_type.weight"] = torch.zeros(1, config.width_of_embedding)
    names = family.names(state, config.num_hidden_layers)
    assert set(names) == set(state), f"no name for {set(state) - set(names)}"
    return family.fuse({names[own]: tensor for own, tensor in state.items()})
