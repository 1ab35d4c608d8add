"""What a Hugging Face config.json says of an encoder, and back.

Where a key is one of our fields, `family_layouts` says so; the rest is here, and what ModernBERT alone has in
`modernbert_config`. A family can express a configuration where writing and reading it again gives the same one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from longread.errors import UserError
from longread.models import modernbert_config
from longread.models.config import ClassifierConfig
from longread.models.families import FAMILIES, Family
from longread.models.family_layouts import LAYOUTS, Layout

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
NO_PART_OF_A_FAMILY = (*EXTRAS, "num_labels", "label_names", "problem_type", "checkpointing")


MPNETS_KEY, MPNETS_BUCKETS = "relative_attention_num_buckets", 32
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
    for name in ("hidden_act", "head_activation"):
        settings[name] = ACTIVATION_NAMES[settings[name]]
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
    if family.model_type == "mpnet" and has[MPNETS_KEY] != MPNETS_BUCKETS:
        raise UserError(
            f"{where}: {MPNETS_KEY} is {has[MPNETS_KEY]}; transformers lays {MPNETS_BUCKETS} over any table, and only "
            "a table of so many is read"
        )
    if family.model_type == "modernbert":
        if hf.get("local_rope_theta", 0) is None:  # once: as the layers with full attention
            has["local_rope_theta"] = has["global_rope_theta"]
        settings |= modernbert_config.settings_from(has, where)
    extras = {name: value for name, value in (has.get("longread") or {}).items() if name in EXTRAS}
    if settings["attention"] != "bigbird":
        extras.pop("random_block_plan", None)
    return settings | extras


def _check_values(has: Mapping[str, Any], layout: Layout, where: str) -> None:
    learned = layout.common.get("position_kind") != "rotary"  # mmBERT names a kind all the same
    if learned and has.get("position_embedding_type", "absolute") != "absolute":
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
    for activation in (layout.keys[name] for name in ("hidden_act", "head_activation") if name in layout.keys):
        if not isinstance(has[activation], str) or has[activation] not in ACTIVATION_NAMES:
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
    for part in ("embedding", "classifier"):  # rates that cannot be left open there, "as the others"
        key = layout.keys.get(f"{part}_dropout")
        if key is not None and key in layout.defaults:
            hf[key] = config.dropout_of(part)
    for name in ("hidden_act", "head_activation"):
        if name in layout.keys:
            hf[layout.keys[name]] = THEIR_ACTIVATION.get(flat[name], flat[name])
    if family.counts_from_padding and family.padding_id is None:
        hf["pad_token_id"] = start - 1
    elif family.padding_id is not None:
        hf.setdefault("pad_token_id", family.padding_id)
    if config.attention == "longformer":
        windows = config.options.attention_window
        hf["attention_window"] = list(windows) if isinstance(windows, tuple) else [windows] * config.num_hidden_layers
    if family.model_type == "mpnet":
        hf[MPNETS_KEY] = MPNETS_BUCKETS
    if family.model_type == "big_bird":
        hf["attention_type"] = "block_sparse" if config.attention == "bigbird" else "original_full"
        hf["rescale_embeddings"] = not math.isclose(config.embedding_scale, 1)
        hf["use_bias"] = True
        if config.attention == "bigbird":
            hf |= {name: getattr(config.options, name) for name in ("block_size", "num_random_blocks")}
    if family.model_type == "modernbert":
        hf = (
            {"pad_token_id": None} | hf | modernbert_config.keys_for(config)
        )  # their default is beyond a small vocabulary
    hf["longread"] = {name: flat[name] for name in EXTRAS if name in flat}
    return hf


def first_position(family: Family, config: ClassifierConfig, pad_token_id: int | None) -> int:
    """The row of the position table that a text's first token has in this family's file of this model."""
    if not family.counts_from_padding or family.padding_id is not None or not config.position_offset:
        return family.first_position(pad_token_id)
    return config.position_offset


def family_of(config: ClassifierConfig, pad_token_id: int | None, source: str | None = None) -> Family | str:
    """The family whose classifier computes what this configuration does, or why there is none.

    pad_token_id: needed where their positions count from it and ours from 0; None: not known. source: the family that
    the weights came from, which is kept where several compute the same.
    """
    for name in config.mechanisms:
        if name not in ("dense", "local", "longformer", "bigbird"):
            return f"transformers has no {name} attention"
    # Those first that count positions as the model does, so that the reason is told for the family one would expect.
    offset = config.position_offset > 0
    order = sorted(FAMILIES.values(), key=lambda f: (f.model_type != source, f.counts_from_padding != offset))
    found: dict[str, list[str]] = {}
    for family in order:
        try:
            found[family.model_type] = _differences(family, config, pad_token_id)
        except (
            ValueError
        ):  # it has no such sizes: rotary positions of an odd head_dim, heads that are no part of hidden
            continue
    nearest = min((f for f in order if f.model_type in found), key=lambda f: len(found[f.model_type]), default=None)
    if nearest is None:
        return f"theirs have no {config.num_attention_heads} heads in hidden_size {config.hidden_size}"
    differences = found[nearest.model_type]
    return f"their {nearest.model_type} {differences[0]}" if differences else nearest


def _differences(family: Family, config: ClassifierConfig, pad_token_id: int | None) -> list[str]:
    """What keeps a family from expressing a configuration: each as what it does, and what the model does."""
    found = []
    start = first_position(family, config, pad_token_id)
    known = pad_token_id is not None or family.padding_id is not None or config.position_offset > 0
    if family.counts_from_padding and not known:
        found.append("counts positions from behind the padding token's id, which is not known")
    if family.counts_from_padding and family.padding_id is None and pad_token_id not in (None, start - 1):
        found.append(
            f"counts positions from behind the padding token's id, here {pad_token_id}, and the model from {start}"
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
        "attention": [config.attention_of(layer) for layer in range(config.num_hidden_layers)],
        "rotary_base": [config.rotary_base_of(layer) for layer in range(config.num_hidden_layers)],
    }
    if family.has_token_types:  # a table of one row that is zero changes nothing
        flat["type_vocab_size"] = max(1, config.type_vocab_size)
    windows = flat.get("attention_window")
    if isinstance(windows, tuple) and len(set(windows)) == 1:
        flat["attention_window"] = windows[0]
    return flat


def _equal(one: Any, other: Any) -> bool:
    return math.isclose(one, other) if isinstance(one, float) and isinstance(other, float) else one == other
