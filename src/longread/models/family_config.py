"""What a Hugging Face config.json says of an encoder, and back.

Every family has a layout: under which keys its config.json has our fields, what transformers takes for a key that is
left out, and what all its models have in common. A family can express a configuration where writing and reading it
again gives the same one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from longread.errors import UserError
from longread.models.config import ClassifierConfig
from longread.models.families import FAMILIES, Family

# Hugging Face's name of an activation -> ours. gelu_new, gelu_fast, ... are one formula.
ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
THEIR_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu", "tanh": "tanh"}
# What their config.json has no place for. It is written beside the rest and read again.
EXTRAS = ("seed", "embedding_dropout", "attention_output_dropout", "classifier_dropout", "dropout_before_head",
          "random_block_plan")  # fmt: skip
# Where a model computes does not change with these.
NO_PART_OF_A_FAMILY = (*EXTRAS, "num_labels", "label_names", "checkpointing")


@dataclass(frozen=True)
class Layout:
    """keys: our field -> theirs; defaults: their key -> what a missing one means; common: our field -> its value."""

    keys: Mapping[str, str]
    defaults: Mapping[str, Any]
    common: Mapping[str, Any] = field(default_factory=dict)


SAME_NAMES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
              "initializer_range", "hidden_act", "type_vocab_size", "layer_norm_eps")  # fmt: skip
KEYS = {name: name for name in SAME_NAMES} | {
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
WITH_CLASSIFIER_DROPOUT = KEYS | {"classifier_dropout": "classifier_dropout"}
DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "initializer_range": 0.02,
    "hidden_act": "gelu",
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
ROBERTA = Layout(WITH_CLASSIFIER_DROPOUT, {**DEFAULTS, "pad_token_id": 1}, {"dropout_before_head": True})
LAYOUTS = {
    "bert": Layout(WITH_CLASSIFIER_DROPOUT, DEFAULTS),
    "roberta": Layout(ROBERTA.keys, {**ROBERTA.defaults, "vocab_size": 50265}, ROBERTA.common),
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "longformer": Layout(KEYS, {**ROBERTA.defaults, "attention_window": 512}, ROBERTA.common),
    "big_bird": Layout(
        WITH_CLASSIFIER_DROPOUT,
        {
            **DEFAULTS,
            "vocab_size": 50358,
            "hidden_act": "gelu_new",
            "max_position_embeddings": 4096,
            "attention_type": "block_sparse",
            "block_size": 64,
            "num_random_blocks": 3,
            "rescale_embeddings": False,
        },
        {"dropout_before_head": True, "dropout_before_norm": True},
    ),
    "electra": Layout(
        {**WITH_CLASSIFIER_DROPOUT, "embedding_size": "embedding_size"},
        {**DEFAULTS, "hidden_size": 256, "embedding_size": 128, "num_attention_heads": 4, "intermediate_size": 1024},
        {"dropout_before_head": True, "head_activation": "gelu"},
    ),
    "distilbert": Layout(
        {
            "vocab_size": "vocab_size",
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "initializer_range": "initializer_range",
            "hidden_act": "activation",
            "dropout": "dropout",
            "attention_dropout": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        {
            "vocab_size": 30522,
            "dim": 768,
            "n_layers": 6,
            "n_heads": 12,
            "hidden_dim": 3072,
            "initializer_range": 0.02,
            "activation": "gelu",
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "seq_classif_dropout": 0.2,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
        },
        {"layer_norm_eps": 1e-12, "type_vocab_size": 0, "head_activation": "relu", "attention_output_dropout": 0.0},
    ),
}
BERT_LIKE: dict[str, Any] = {
    "attention": "dense",
    "norm_position": "post",
    "pooling": "first",
    "head_activation": "tanh",
}


def settings_from(hf: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A family's config.json -> the flat settings of a ClassifierConfig, labels apart."""
    family = FAMILIES[hf["model_type"]]
    layout = LAYOUTS[family.model_type]
    has = {**layout.defaults, **{key: value for key, value in hf.items() if value is not None}}
    _check_values(has, layout, where)
    start = family.first_position(has["pad_token_id"])
    settings: dict[str, Any] = BERT_LIKE | {
        "position_offset": start,
        "max_length": has["max_position_embeddings"] - start,
    }
    settings |= layout.common
    settings |= {name: has[key] for name, key in layout.keys.items() if key in has}
    settings["hidden_act"] = ACTIVATION_NAMES[settings["hidden_act"]]
    if family.model_type == "longformer":
        windows = has["attention_window"]
        windows = [windows] * settings["num_hidden_layers"] if isinstance(windows, int) else list(windows)
        settings |= {
            "attention": "longformer",
            "attention_window": windows[0] if len(set(windows)) == 1 else windows,
        }
    if family.model_type == "big_bird":
        settings["head_activation"] = settings["hidden_act"]
        if has["rescale_embeddings"]:
            settings["embedding_scale"] = math.sqrt(settings["hidden_size"])
        if has["attention_type"] == "block_sparse":
            settings |= {"attention": "bigbird"} | {key: has[key] for key in ("block_size", "num_random_blocks")}
            settings["random_block_plan"] = "huggingface"
    extras = {name: value for name, value in (has.get("longread") or {}).items() if name in EXTRAS}
    if settings["attention"] != "bigbird":
        extras.pop("random_block_plan", None)
    return settings | extras


def _check_values(has: Mapping[str, Any], layout: Layout, where: str) -> None:
    if has.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"{where}: position_embedding_type is {has['position_embedding_type']!r}; only absolute is read"
        )
    for flag in ("is_decoder", "add_cross_attention"):
        if has.get(flag):
            raise UserError(f"{where}: {flag} is true; only encoders are read")
    for name, usual in layout.defaults.items():
        value = has[name]
        if isinstance(usual, int | float) and not isinstance(value, int | float) and name != "attention_window":
            raise UserError(f"{where}: config.json: {name} is {value!r}; it must be a number, like {usual}")
    activation = layout.keys["hidden_act"]
    if has[activation] not in ACTIVATION_NAMES:
        raise UserError(f"{where}: {activation} is {has[activation]!r}; known are {', '.join(ACTIVATION_NAMES)}")


def config_for(family: Family, config: ClassifierConfig, token_ids: Mapping[str, int]) -> dict[str, Any]:
    """The inverse of `settings_from`: what their config.json says, labels apart."""
    layout = LAYOUTS[family.model_type]
    start = first_position(family, config, token_ids.get("pad_token_id"))
    flat = _canonical(config, family)
    hf: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "max_position_embeddings": config.max_length + start,
    }
    hf |= {key: flat[name] for name, key in layout.keys.items()} | dict(token_ids)
    if "seq_classif_dropout" in hf:  # DistilBERT's has no "as the others"
        hf["seq_classif_dropout"] = config.dropout_of("classifier")
    hf[layout.keys["hidden_act"]] = THEIR_ACTIVATION[config.hidden_act]
    if family.counts_from_padding:
        hf["pad_token_id"] = start - 1
    if config.attention == "longformer":
        windows = config.options.attention_window
        hf["attention_window"] = list(windows) if isinstance(windows, tuple) else [windows] * config.num_hidden_layers
    if family.model_type == "big_bird":
        hf["attention_type"] = "block_sparse" if config.attention == "bigbird" else "original_full"
        hf["rescale_embeddings"] = not math.isclose(config.embedding_scale, 1)
        hf["use_bias"] = True
        if config.attention == "bigbird":
            hf |= {name: getattr(config.options, name) for name in ("block_size", "num_random_blocks")}
    hf["longread"] = {name: flat[name] for name in EXTRAS if name in flat}
    return hf


def first_position(family: Family, config: ClassifierConfig, pad_token_id: int | None) -> int:
    """The row of the position table that a text's first token has in this family's file of this model."""
    return family.first_position(pad_token_id) if not config.position_offset else config.position_offset


def family_of(config: ClassifierConfig, pad_token_id: int | None, source: str | None = None) -> Family | str:
    """The family whose classifier computes what this configuration does, or why there is none.

    pad_token_id: needed where their positions count from it and ours from 0; None: not known. source: the family that
    the weights came from, which is kept where several compute the same.
    """
    if config.attention not in ("dense", "longformer", "bigbird"):
        return f"transformers has no {config.attention} attention"
    order = sorted(FAMILIES.values(), key=lambda family: family.model_type != source)
    found = {family.model_type: _differences(family, config, pad_token_id) for family in order}
    nearest = min(order, key=lambda family: len(found[family.model_type]))
    differences = found[nearest.model_type]
    return f"their {nearest.model_type} {differences[0]}" if differences else nearest


def _differences(family: Family, config: ClassifierConfig, pad_token_id: int | None) -> list[str]:
    """What keeps a family from expressing a configuration: each as what it does, and what the model does."""
    found = []
    if family.counts_from_padding and not config.position_offset and pad_token_id is None:
        found.append("counts positions from behind the padding token's id, which is not known")
    if family.counts_from_padding and config.position_offset and pad_token_id not in (None, config.position_offset - 1):
        found.append(
            f"counts positions from behind the padding token's id, here {pad_token_id}, and the model "
            f"from {config.position_offset}"
        )
    ids = {} if pad_token_id is None else {"pad_token_id": pad_token_id}
    read = ClassifierConfig.from_dict(settings_from(config_for(family, config, ids), family.model_type))
    theirs, ours = _canonical(read, family), _canonical(config, family)
    if family.counts_from_padding:  # the table is shifted as it is written
        ours["position_offset"] = theirs["position_offset"]
    return found + [
        f"has {name} {theirs.get(name)}, and the model {ours.get(name)}"
        for name in {**theirs, **ours}
        if name not in NO_PART_OF_A_FAMILY and not _equal(theirs.get(name), ours.get(name))
    ]


def _canonical(config: ClassifierConfig, family: Family) -> dict[str, Any]:
    """A configuration's fields with each default spelt out, so that equal ones are equal."""
    flat = config.to_dict()
    flat |= {
        "head_dim": config.width_of_head,
        "intermediate_size": config.width_of_intermediate,
        "embedding_size": config.width_of_embedding,
    }
    if family.has_token_types:  # a table of one row that is zero changes nothing
        flat["type_vocab_size"] = max(1, config.type_vocab_size)
    windows = flat.get("attention_window")
    if isinstance(windows, tuple) and len(set(windows)) == 1:
        flat["attention_window"] = windows[0]
    return flat


def _equal(one: Any, other: Any) -> bool:
    return math.isclose(one, other) if isinstance(one, float) and isinstance(other, float) else one == other
